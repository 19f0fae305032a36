"""Slices as images: the right planes, the right way up, and PNG that others decode."""

import io

import matplotlib.image
import numpy as np
import pytest

from cryoetgan import images


def decoded(content):
    return np.rint(matplotlib.image.imread(io.BytesIO(content), format="png") * 255)


def test_png_is_decoded_by_another_reader(rng):
    grey = rng.integers(0, 256, (7, 5), np.uint8)
    assert np.array_equal(decoded(images.encode_png(grey)), grey)
    colour = rng.integers(0, 256, (4, 6, 3), np.uint8)
    assert np.array_equal(decoded(images.encode_png(colour))[..., :3], colour)
    assert images.encode_png(grey) == images.encode_png(grey.copy())


def test_planes_show_the_first_axis_to_the_right_and_the_second_up():
    n = 8
    for plane, (right, up) in enumerate(((2, 1), (2, 0), (1, 0))):  # zyx axes of xy, xz, yz
        place = [n // 2] * 3
        place[right], place[up] = 6, 1
        volume = np.zeros((n, n, n))
        volume[tuple(place)] = 1
        image = images.central_planes(volume)[plane]
        assert np.argwhere(image).tolist() == [[n - 1 - 1, 6]]


def test_planes_average_the_slices_about_the_middle():
    volume = np.zeros((9, 9, 9))
    volume[3:6, 2, 2] = 3
    assert images.central_planes(volume, 3)[0].max() == pytest.approx(3)
    assert images.central_planes(volume, 5)[0].max() == pytest.approx(9 / 5)
    assert images.central_planes(volume, 1)[0].shape == (9, 9)


def test_grey_has_no_trouble_with_what_is_no_number():
    image = np.array([[np.nan, np.inf], [-np.inf, 0.0]])
    assert images.scale_grey(image, -1, 1).tolist()[1] == [0, 128]
    low, high = images.grey_range(np.array([1.0, np.nan, 3.0]))
    assert np.isfinite([low, high]).all()
    assert images.grey_range(np.zeros(4)) == (-3.0, 3.0)


def test_a_montage_keeps_every_pixel(rng):
    tiles = [[rng.integers(1, 256, (3, 4), np.uint8) for _ in range(2)] for _ in range(2)]
    whole = images.montage(tiles, gap=1)
    assert whole.shape == (7, 9)
    assert np.array_equal(whole[4:, 5:], tiles[1][1])
    assert (whole[3] == 0).all()


@pytest.mark.parametrize(("width", "length"), [(300, 100), (299, 50), (380, 100), (7000, 2000)])
def test_scale_bars_are_round(width, length):
    assert images.scale_bar_length(width) == length


def test_a_bar_is_as_long_as_it_says():
    image = images.add_scale_bar(np.full((100, 100), 90, np.uint8), 40)
    assert np.flatnonzero((image == 255).any(axis=0)).size == 40
    assert np.flatnonzero((image == 255).any(axis=1)).min() > 80  # below
