"""A density scene as files: packed as a simulated tomogram is, whatever its size."""

import json
import tracemalloc

import numpy as np
import pytest

from cryoetgan.densities.density_from_atoms import protein_density
from cryoetgan.io.files import sidecar
from cryoetgan.io.mrc import read_volume, write_volume
from cryoetgan.io.star import COORDINATES, read_star
from cryoetgan.tomograms.options import VesiclesAndGold
from cryoetgan.tomograms.simulation.contents import Contents, build_scene, write_scene
from tests.conftest import refused


def blob():
    z, y, x = np.indices((20, 20, 20)) - 10.0
    return np.exp(-(x**2 / 14 + (y - 2) ** 2 / 6 + (z + 1) ** 2 / 20)).astype(np.float32)


@pytest.fixture
def maps(tmp_path):
    write_volume(tmp_path / "a.mrc", blob(), 10.0)
    write_volume(tmp_path / "b.mrc", 2 * blob().transpose(1, 2, 0), 10.0)
    return ("tomograms", "scene", "a.mrc", "b.mrc")


def contents(shape, **more):
    return Contents(
        classes={"a": blob(), "b": 2 * blob().transpose(1, 2, 0)},
        copies={"a": 6, "b": 6},
        crowders={},
        crowder_copies=0,
        fill=1.0,
        vesicles_and_gold=VesiclesAndGold(resolution=30.0, **more),
        shape=shape,
        voxel_size=10.0,
    )


def test_the_command_gives_the_same_bytes_and_a_truth_that_fits(cryoetgan, tmp_path, maps):
    words = (*maps, "--copies", 7, "--class-copies", "b=3", "--shape=64,56,40", "--seed", 3)
    words = (*words, "--crowder", "a.mrc", "--crowder-copies", 2)
    words = (*words, "--vesicles", 1, "--vesicle-radius", "120,150")
    for folder in ("one", "two"):
        cryoetgan(*words, "-o", f"{folder}/s.mrc")
    for name in ("s.mrc", "s.star", "s_labels.mrc", "s.mrc.json", "s_labels.mrc.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    density = read_volume(tmp_path / "one" / "s.mrc")
    assert density.data.shape == (40, 56, 64)
    assert density.voxel_size == pytest.approx(10.0)
    rows = read_star(tmp_path / "one" / "s.star").particles
    assert list(rows["cryoetganClass"]).count("a") == 7
    assert list(rows["cryoetganClass"]).count("b") == 3
    at = rows[COORDINATES].to_numpy(float).round().astype(int)
    labels = read_volume(tmp_path / "one" / "s_labels.mrc").data
    names = json.loads(sidecar(tmp_path / "one" / "s.mrc").read_text())["labels"]
    found = [names.get(str(int(labels[z, y, x]))) for x, y, z in at]
    assert found == list(rows["cryoetganClass"])
    assert set(names.values()) == {"a", "b", "vesicle", "crowder_a"}
    assert set(np.unique(labels)) == {0, 1, 2, 3, 4}
    assert density.data[at[:, 2], at[:, 1], at[:, 0]].min() > 0.3
    cryoetgan("validate", "one")


def test_files_equal_packing_in_memory(tmp_path):
    what = contents((40, 60, 64), vesicles=1, vesicle_radius="100.0,150.0", beads=2)
    written = write_scene(tmp_path / "s.mrc", what, 5)
    packed = build_scene(what, "s", 5)
    assert written.rows == packed.rows
    assert np.array_equal(read_volume(tmp_path / "s_labels.mrc").data, packed.labels)
    # gold, apart in a tomogram that is projected, is part of the scene's density
    density = read_volume(tmp_path / "s.mrc").data
    assert np.allclose(density, packed.density + packed.beads, rtol=1e-5, atol=1e-3)
    assert density.max() > 3 * packed.density.max()


def test_memory_does_not_grow_with_the_shape(tmp_path):
    what = contents((64, 256, 256))
    tracemalloc.start()
    write_scene(tmp_path / "s.mrc", what, 5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.25 * (4 + 2 + 4 + 1) * 64 * 256 * 256


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--shape=1e6,1e6,1e6"), ("--shape", "GB of disk")),
        (("--shape=64,56"), ("--shape", "X,Y,Z")),
        (("--shape=10,56,40"), ("--shape", "too small", "a.mrc")),
    ],
)
def test_an_invalid_shape_is_refused_and_nothing_is_written(cryoetgan, tmp_path, maps, words, said):
    before = set(tmp_path.iterdir())
    refused(cryoetgan(*maps, "--copies", 2, words, "-o", "s.mrc", code=2), *said)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("scale", "words", "said"),
    [
        (1e-3, ("--crowder-fraction", 0.01), True),
        (1e-3, ("--class-copies", "b=1", "b.mrc"), True),
        (1e-3, (), False),
        (1.0, ("--crowder-fraction", 0.01), False),
        # crowders at 90 A, maps at 30 A
        (1.0, ("--crowder-fraction", 0.01, "--resolution", 90), True),
    ],
    ids=["beside crowders", "beside a map", "alone", "protein", "another resolution"],
)
def test_grey_scales_that_differ_are_said(cryoetgan, tmp_path, scale, words, said):
    far = np.linalg.norm(np.indices((16, 16, 16)) - 8.0, axis=0)
    density = protein_density(30.0) * np.clip(5 - far, 0, 1)
    for name, factor in (("a", scale), ("b", 1.0)):
        write_volume(tmp_path / f"{name}.mrc", (factor * density).astype(np.float32), 10.0)
    base = ("tomograms", "scene", "a.mrc", "--copies", 1, "--shape=40,40,24", "-o", "s.mrc")
    assert ("`densities import`" in cryoetgan(*base, *words).stderr) == said
