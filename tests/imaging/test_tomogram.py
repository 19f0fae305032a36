"""Synthetic tomograms: the truth lies on the particles, labels and geometry pass through."""

import json
import tracemalloc
from dataclasses import replace

import mrcfile
import numpy as np
import pytest

from cryoetgan.densities.poses import Poser
from cryoetgan.errors import UserError
from cryoetgan.imaging.model import EnvelopeGain, crop_centre
from cryoetgan.imaging.simulate.tiling import read_padded
from cryoetgan.imaging.simulate.tomogram import Origin, write_tomogram
from cryoetgan.imaging.storage import save_model
from cryoetgan.io.files import sidecar
from cryoetgan.io.mrc import read_volume, write_volume
from cryoetgan.io.scene import open_scene
from cryoetgan.io.star import ANGLES, COORDINATES, read_star
from cryoetgan.physics.acquisition import read_acquisition
from cryoetgan.physics.geometry import rotation_from_relion
from tests.conftest import refused
from tests.imaging.conftest import BOX, VOXEL


@pytest.fixture
def scene(cryoetgan, tmp_path, known, maps):
    """`scene.mrc` with labels and truth, and the model `M.json`."""
    save_model(known, tmp_path / "M.json")
    for name, density in maps.items():
        write_volume(tmp_path / f"{name}.mrc", density, VOXEL)
    words = ("--copies", 12, "--shape=72,64,40", "--seed", 4)
    cryoetgan("tomograms", "scene", "ball.mrc", "rod.mrc", *words, "-o", "scene.mrc")
    return "scene.mrc", "--labels", "scene_labels.mrc", "--particles", "scene.star"


def cross_correlation_peak(box, template):
    """Return the zyx shift at which two boxes match best, and the correlation there."""
    a, b = box - box.mean(), template - template.mean()
    found = np.fft.irfftn(np.fft.rfftn(a) * np.conj(np.fft.rfftn(b)), a.shape, axes=(0, 1, 2))
    found /= np.linalg.norm(a) * np.linalg.norm(b)
    shift = np.array(np.unravel_index(np.argmax(found), found.shape))
    return (shift + BOX // 2) % BOX - BOX // 2, found.max()


def test_the_truth_lies_on_the_particles(cryoetgan, tmp_path, scene, known, maps):
    cryoetgan("imaging", "synthesize", *scene, "--model", "M.json", "--tile", 24, "-o", "T.mrc")
    volume = read_volume(tmp_path / "T.mrc").data
    rows = read_star(tmp_path / "T.star").particles
    assert len(rows) == 24
    posers = {name: Poser(density) for name, density in maps.items()}
    found = []
    for row in rows.to_dict("records"):
        centre = np.array([row[c] for c in COORDINATES])
        nearest = np.rint(centre).astype(int)
        rotation = rotation_from_relion([row[a] for a in ANGLES])
        density = np.zeros((2 * BOX,) * 3, np.float32)
        density[8:24, 8:24, 8:24] = posers[row["cryoetganClass"]](rotation, centre - nearest)
        template = crop_centre(known.signal(density), BOX)
        box = read_padded(volume, tuple(nearest[::-1] - BOX // 2), (BOX,) * 3)
        found.append(cross_correlation_peak(box, template))
    shifts, heights = map(np.array, zip(*found, strict=True))
    assert (np.abs(shifts).max(axis=1) == 0).mean() > 0.9
    assert np.median(heights) > 0.5


def test_a_tomogram_is_reproducible(cryoetgan, tmp_path, scene):
    words = ("imaging", "synthesize", *scene, "--model", "M.json", "--seed", 1)
    for folder in ("one", "two"):
        cryoetgan(*words, "-o", f"{folder}/T.mrc")
    for name in ("T.mrc", "T.star", "T_labels.mrc", "T.mrc.json", "T_labels.mrc.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    cryoetgan(*words, "--tile", 20, "-o", "three/T.mrc")
    one, three = (read_volume(tmp_path / n / "T.mrc").data for n in ("one", "three"))
    assert np.abs(one - three).max() < 1e-4 * one.std()


def test_labels_truth_and_geometry_pass_through(cryoetgan, tmp_path, scene, known):
    cryoetgan("imaging", "synthesize", *scene, "--model", "M.json", "-o", "T.mrc")
    first, second = (read_volume(tmp_path / n).data for n in ("T_labels.mrc", "scene_labels.mrc"))
    assert np.array_equal(first, second)
    before, after = (read_star(tmp_path / n) for n in ("scene.star", "T.star"))
    columns = [*COORDINATES, *ANGLES, "cryoetganClass"]
    assert before.particles[columns].equals(after.particles[columns])
    assert set(after.particles["cryoetganSource"]) == {"simulated"}
    assert set(after.particles["rlnTomoName"]) == {"T"}
    assert not set(before.particles["cryoetganId"]) & set(after.particles["cryoetganId"])
    assert after.optics["cryoetganDefocus"][0] == 3.0
    assert read_acquisition(tmp_path / "T.mrc") == known.acquisition
    for name in ("T.mrc", "T_labels.mrc"):
        record = json.loads(sidecar(tmp_path / name).read_text())
        assert record["labels"] == {"1": "ball", "2": "rod"}
    cryoetgan("validate", ".")


def test_a_scene_with_crowders_gets_no_surroundings_besides(cryoetgan, tmp_path, scene, known):
    around = EnvelopeGain(np.full((3, 3), 0.5), 0.02, 60.0)
    save_model(replace(known, surroundings=around), tmp_path / "around.json")
    crowded = ("--crowder", "ball.mrc", "--crowder-copies", 2, "--seed", 4)
    words = ("ball.mrc", "rod.mrc", "--copies", 12, "--shape=72,64,40", *crowded)
    cryoetgan("tomograms", "scene", *words, "-o", "crowded.mrc")
    sd = {}
    for name in ("scene", "crowded"):
        for model in ("M", "around"):
            out = f"{name}_{model}.mrc"
            cryoetgan("imaging", "synthesize", f"{name}.mrc", "--model", f"{model}.json", "-o", out)
            sd[name, model] = read_volume(tmp_path / out).data
    assert sd["scene", "around"].std() > 1.02 * sd["scene", "M"].std()
    assert sd["crowded", "around"].std() < 1.02 * sd["crowded", "M"].std()


def test_memory_does_not_grow_with_the_scene(tmp_path, known):
    shape = (48, 256, 256)
    for name, dtype in (("scene", np.float32), ("labels", np.int16)):
        write_volume(tmp_path / f"{name}.mrc", np.zeros(shape, dtype), VOXEL)

    def simulate_block(scene, corner, part):
        return np.zeros(part, np.float32)

    origin = Origin("t1", VOXEL, known.acquisition)
    tracemalloc.start()
    scene = open_scene(tmp_path / "scene.mrc", tmp_path / "labels.mrc")
    write_tomogram(tmp_path / "T.mrc", scene, origin, simulate_block, 48, "simulated")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.25 * 4 * np.prod(shape)
    assert read_volume(tmp_path / "T_labels.mrc").data.shape == shape


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_infinite_density_is_named_though_the_tomogram_hides_it(tmp_path, known):
    density = np.zeros((16, 16, 16), np.float32)
    density[9, 1, 2] = np.inf
    with mrcfile.new(tmp_path / "scene.mrc", density) as file:
        file.voxel_size = VOXEL
    scene = open_scene(tmp_path / "scene.mrc")

    def cut(block, corner, part):
        return np.zeros(part, np.float32)

    with pytest.raises(UserError, match=r"scene.mrc: .* near voxel z, y, x = 8, 0, 0; .* infinite"):
        write_tomogram(
            tmp_path / "T.mrc", scene, Origin("t1", VOXEL, known.acquisition), cut, 8, "generated"
        )


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--tile", 4), ("--tile", "8 or more")),
        (("--density-scale", 0), ("--density-scale", "above zero")),
        (("--labels", "small.mrc"), ("small.mrc", "cover each other")),
    ],
)
def test_options_that_do_not_fit_are_named(cryoetgan, tmp_path, scene, words, named):
    write_volume(tmp_path / "small.mrc", np.zeros((8, 8, 8), np.int8), VOXEL)
    done = cryoetgan(
        "imaging", "synthesize", scene[0], "--model", "M.json", *words, "-o", "T.mrc", code=2
    )
    refused(done, *named)
    assert not (tmp_path / "T.mrc").exists()


def test_a_density_that_is_not_finite_is_refused_with_its_place(cryoetgan, tmp_path, scene):
    with mrcfile.mmap(tmp_path / "scene.mrc", mode="r+") as file:
        file.data[5, 40, 50] = np.nan
    words = ("--model", "M.json", "--tile", 24, "-o", "T.mrc")
    done = cryoetgan("imaging", "synthesize", *scene, *words, code=2)
    refused(done, "scene.mrc", "not finite", "z, y, x = 0,")
    assert not (tmp_path / "T.mrc").exists()
