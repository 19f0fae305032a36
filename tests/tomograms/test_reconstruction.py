"""Projection and reconstruction: mass, places, an independent peer."""

import numpy as np
import pytest
from scipy import ndimage

from cryoetgan.tomograms.simulation.reconstruction import (
    SART_RELAXATION,
    backprojection_matrix,
    project_tilt_series,
    projection_matrix,
    reconstruct,
    tilt_order,
    to_sections,
    to_volume,
    weighted_back_projection,
)

TILTS = np.arange(-60, 61, 3.0)


@pytest.fixture(scope="module")
def blob():
    z, y, x = np.indices((24, 20, 28)) - np.array([12.0, 10, 14])[:, None, None, None]
    return np.exp(-(((x - 3) ** 2) / 18 + (y - 2) ** 2 / 8 + (z + 1) ** 2 / 9))


def test_untilted_projection_is_the_sum_along_z(blob):
    assert np.array_equal(to_volume(to_sections(blob), blob.shape), blob)
    straight = project_tilt_series(blob, np.array([0.0]))[0]  # (u, y)
    assert np.allclose(straight, blob.sum(axis=0).T, atol=1e-5)


def test_mass_is_kept_at_every_tilt(blob):
    for image in project_tilt_series(blob, TILTS):
        assert image.sum() == pytest.approx(blob.sum(), rel=0.01)


@pytest.mark.parametrize("tilt", [-60, -46, -44, -20, 30, 60, 80])
def test_a_point_is_projected_where_the_convention_says(tilt):
    z, x = 5, -4  # from the centre
    point = np.zeros((32, 8, 32))
    point[16 + z, 3, 16 + x] = 1
    image = project_tilt_series(ndimage.gaussian_filter(point, 1), np.array([float(tilt)]))[0]
    u, y = np.indices(image.shape)
    expected = x * np.cos(np.radians(tilt)) + z * np.sin(np.radians(tilt))
    assert (u * image).sum() / image.sum() - 16 == pytest.approx(expected, abs=0.05)
    assert (y * image).sum() / image.sum() == pytest.approx(3, abs=0.05)


@pytest.mark.parametrize("tilt", [-60, -37, 0, 12, 44, 46, 60])
def test_back_projection_is_even_and_the_transpose_of_a_projection(tilt):
    matrix = backprojection_matrix(20, 32, tilt)
    inside = (matrix @ np.ones(32))[:, None]
    spread = to_volume(inside, (20, 1, 32))[5:15, 0, 12:20]
    assert np.allclose(spread, 1, atol=1e-5)
    # the same line integrals, up to what interpolation does from one pixel to the next
    density = ndimage.gaussian_filter(np.random.default_rng(1).random((20, 1, 32)), (3, 0, 3))
    density *= ndimage.gaussian_filter(np.pad(np.ones((10, 1, 16)), ((5,), (0,), (8,))), (2, 0, 2))
    one = matrix.T @ to_sections(density)
    other = projection_matrix(20, 32, tilt) @ to_sections(density)
    one, other = (ndimage.gaussian_filter1d(image[:, 0], 1.5) for image in (one, other))
    assert np.abs(one - other).max() < 0.02 * other.max()


def test_projection_agrees_with_astra(blob):
    """ASTRA's own projector; its angles turn the other way."""
    astra = pytest.importorskip("astra", reason="the peer astra-toolbox is not installed")
    section = blob[:, 10, :].astype(np.float32)
    section = np.pad(section[:, :28], ((2, 2), (0, 0)))  # 28 x 28
    ours = project_tilt_series(section[:, None, :], TILTS)[:, :, 0]
    # ASTRA counts detector pixels and voxels about (n - 1) / 2, ours about n // 2
    odd = section[1:, 1:]
    geometry = astra.create_vol_geom(27, 27)
    found = []
    for sign in (1, -1):
        projections = astra.create_proj_geom("parallel", 1.0, 27, sign * np.radians(TILTS))
        number = astra.create_projector("linear", projections, geometry)
        _, sinogram = astra.create_sino(odd, number)
        found.append(np.abs(sinogram - ours[:, 1:]).max() / ours.max())
    assert min(found) < 0.01
    assert max(found) > 0.1  # the sign of the tilt is seen


@pytest.mark.parametrize(
    ("method", "name", "error"),
    [("wbp", "FBP", 0.06), ("sirt", "SIRT", 1e-4), ("sart", "SART", 1e-3)],
)
def test_reconstruction_agrees_with_astra(method, name, error, rng):
    """The same images, iterations, relaxation and order; only the ramp's cut-off differs."""
    astra = pytest.importorskip("astra", reason="the peer astra-toolbox is not installed")
    size, tilts = 49, np.arange(-60, 61, 4.0)
    z, x = np.indices((size, size)) - size // 2
    inside = np.hypot(z, x) < 18
    volume = inside * ndimage.gaussian_filter(rng.standard_normal((size, size)), 2)
    projections = astra.create_proj_geom("parallel", 1.0, size, -np.radians(tilts))
    grid = astra.create_vol_geom(size, size)
    projector = astra.create_projector("linear", projections, grid)
    _, images = astra.create_sino(volume.astype(np.float32), projector)
    config = astra.astra_dict(name) | {
        "ProjectorId": projector,
        "ProjectionDataId": astra.data2d.create("-sino", projections, images),
        "ReconstructionDataId": astra.data2d.create("-vol", grid),
    }
    rounds = {"wbp": 1, "sirt": 30, "sart": 3 * len(tilts)}[method]
    if method == "sart":
        order = tilt_order(len(tilts))
        config["option"] = {
            "Relaxation": SART_RELAXATION, "ProjectionOrder": "custom", "ProjectionOrderList": order,
        }  # fmt: skip
    astra.algorithm.run(astra.algorithm.create(config), rounds)
    theirs = astra.data2d.get(config["ReconstructionDataId"])[inside]
    found = reconstruct(
        images[:, :, None], tilts, size, method, {"sirt": 30, "sart": 3}.get(method)
    )
    ours = found[:, 0][inside]
    assert np.linalg.norm(ours - theirs) < error * np.linalg.norm(theirs)


def tomogram_of(volume, method):
    images = project_tilt_series(volume, TILTS)
    return reconstruct(images, TILTS, len(volume), method, {"sirt": 30, "sart": 3}.get(method))


@pytest.mark.parametrize("method", ["wbp", "sirt", "sart"])
def test_reconstruction_keeps_positions(method, rng):
    volume = np.zeros((40, 8, 48), np.float32)
    places = [(12, 2, 14), (25, 4, 33), (20, 6, 24)]
    for place in places:
        volume[place] = 1
    volume = ndimage.gaussian_filter(volume, 1.5, mode="constant")
    found = tomogram_of(volume, method)
    assert np.corrcoef(found.ravel(), volume.ravel())[0, 1] > 0.75
    for z, y, x in places:
        window = found[z - 3 : z + 4, y - 1 : y + 2, x - 3 : x + 4]
        peak = np.unravel_index(window.argmax(), window.shape)
        assert peak == (3, 1, 3)


def test_back_projection_returns_the_density_in_its_own_units(rng):
    """With all tilts there is no wedge: the central slab of a tall object comes back."""
    volume = np.zeros((64, 4, 64), np.float32)
    volume[26:38, :, 26:38] = 1
    volume = ndimage.gaussian_filter(volume, (2, 0, 2))
    tilts = np.arange(-90, 90, 2.0)
    found = weighted_back_projection(project_tilt_series(volume, tilts), tilts, 64)
    inner = (slice(16, 48), slice(None), slice(16, 48))
    assert np.abs(found - volume)[inner].max() < 0.06


def test_the_projections_of_an_iterative_tomogram_come_nearer_to_the_images(blob):
    images = project_tilt_series(blob, TILTS)
    for method, rounds in (("sirt", (1, 10, 40)), ("sart", (1, 2, 6))):
        errors = [
            np.linalg.norm(
                project_tilt_series(reconstruct(images, TILTS, 24, method, n), TILTS) - images
            )
            for n in rounds
        ]
        assert errors[0] > errors[1] > errors[2], method
        assert errors[2] < 0.1 * np.linalg.norm(images)


@pytest.mark.parametrize("method", ["wbp", "sirt", "sart"])
def test_reconstruction_is_linear(method, rng):
    one, two = rng.random((2, 20, 6, 24))
    both = tomogram_of(one - 3 * two, method)
    parts = tomogram_of(one, method) - 3 * tomogram_of(two, method)
    assert np.allclose(both, parts, atol=1e-3 * np.abs(both).max())
