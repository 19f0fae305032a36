"""What the pictures show is where and what it says."""

import base64
import io

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from cryoetgan.io.mrc import Volume
from cryoetgan.io.star import ANGLES, COORDINATES
from cryoetgan.io.volume_set import read_volume_set, write_volume_set
from cryoetgan.report.slices import draw_panels, draw_slice_grid, draw_tomogram


def pixels(uri):
    content = base64.b64decode(uri.split(",")[1])
    return matplotlib.image.imread(io.BytesIO(content), format="png")


def test_circles_lie_on_their_particles():
    data = np.zeros((20, 30, 40), np.float32)
    places = pd.DataFrame([[33, 4, 6], [5, 25, 7], [20, 15, 19]], columns=COORDINATES)
    for x, y, z in places.to_numpy():
        data[z, y, x] = 5
    places["cryoetganClass"] = ["a", "b", "a"]
    shown = draw_tomogram("t", Volume(data, 10.0), places, box=12)
    assert shown.depth.startswith("z = ")
    assert len(shown.circles) == 2  # the third lies 12 sections deeper
    image = pixels(shown.image)
    for circle in shown.circles:
        assert image[int(circle.y), int(circle.x)] > 0.9
    assert shown.legend == [("a", shown.circles[0].colour, 1), ("b", shown.circles[1].colour, 1)]


def test_a_large_section_is_binned_and_circles_go_with_it():
    data = np.zeros((3, 100, 2000), np.float32)
    data[:, 78:82, 1498:1502] = 9
    place = pd.DataFrame([[1500, 80, 1]], columns=COORDINATES).assign(cryoetganClass="a")
    shown = draw_tomogram("t", Volume(data, 10.0), place, box=12)
    assert shown.width == 666
    (circle,) = shown.circles
    assert pixels(shown.image)[int(circle.y), int(circle.x)] > 0.9


def test_a_section_without_particles_is_the_middle_one():
    shown = draw_tomogram(
        "t", Volume(np.random.default_rng(0).random((11, 9, 9)), 10.0), None, box=8
    )
    assert shown.depth.startswith("z = 5,")
    assert shown.circles == []


@pytest.fixture
def sets(tmp_path):
    """Density and generated volumes as bright as their first angle, the rows in other orders."""
    rng = np.random.default_rng(3)
    angle = np.linspace(10, 80, 8)
    table = pd.DataFrame({"cryoetganClass": ["a"] * 8, ANGLES[0]: angle, ANGLES[1]: 0.0})
    table[[ANGLES[2], "rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst"]] = 0.0
    found = {}
    for name in ("generated", "density"):
        mixed = table.sample(frac=1, random_state=int(rng.integers(99))).reset_index(drop=True)
        volumes = (
            np.ones((8, 12, 12, 12), np.float32) * mixed[ANGLES[0]].to_numpy()[:, None, None, None]
        )
        write_volume_set(tmp_path / f"{name}.star", volumes, mixed, 10.0)
        found[name] = read_volume_set(tmp_path / f"{name}.star")
    return found


def test_columns_show_the_same_pose_in_every_set(sets):
    shown = draw_panels(sets, "a", 4)
    assert [panel.name for panel in shown] == ["generated", "density"]
    order = []
    for panel in shown:
        image = pixels(panel.image)
        tile = (image.shape[0] - 2 * 4) // 3  # three planes, four pixels apart
        columns = [image[tile // 2, i * (tile + 4) + tile // 2] for i in range(4)]
        order.append(np.argsort(columns).tolist())
        assert len(set(columns)) == 4
    assert order[0] == order[1]


def test_a_class_that_is_not_there_has_no_panel(sets):
    assert draw_panels(sets, "b", 4) == []


def test_a_grid_has_a_row_for_each_set_and_a_column_for_each_particle():
    particles = np.zeros((3, 12, 12, 12), np.float32)
    for index, (z, y, x) in enumerate([(6, 2, 3), (6, 9, 8), (1, 5, 5)]):  # the last is off-plane
        particles[index, z, y, x] = 1.0
    image = pixels(draw_slice_grid({"density": particles, "fitted": 10 - particles}, 10.0)[0])
    tile = (image.shape[1] - 2 * 4) // 3
    cells = [
        [image[i * (tile + 4) :, j * (tile + 4) :][:tile, :tile] for j in range(3)]
        for i in range(2)
    ]
    for (y, x), bright, dark in zip([(2, 3), (9, 8)], *cells, strict=False):
        at = int((11.5 - y) * tile / 12), int((x + 0.5) * tile / 12)  # y points up
        assert bright[at] == bright.max() > bright[0, 0]
        assert dark[at] == dark.min() < dark[0, 0]
    assert np.ptp(cells[0][2]) == 0
