"""Whole tomograms by physics: the same whatever the tiles, and the truth lies on the particles."""

import json
import tracemalloc

import mrcfile
import numpy as np
import pytest

from cryoetgan.densities.poses import Poser
from cryoetgan.imaging.model import crop
from cryoetgan.imaging.simulate.tiling import TiledPhysics, cut, tiles, white_noise
from cryoetgan.imaging.simulate.tomogram import open_source, write_tomogram
from cryoetgan.io.files import sidecar
from cryoetgan.io.mrc import read_volume, write_volume
from cryoetgan.io.star import ANGLES, COORDINATES, read_star
from cryoetgan.physics.acquisition import read_acquisition
from cryoetgan.physics.geometry import rotation_from_relion
from tests.conftest import refused
from tests.imaging.conftest import BOX, VOXEL


def whole(made, scene, core):
    out = np.full(scene.shape, np.nan, np.float32)
    for corner, shape in tiles(scene.shape, core):
        out[tuple(slice(c, c + n) for c, n in zip(corner, shape, strict=True))] = made.part(
            scene, corner, shape
        )
    return out


def test_two_tilings_give_the_same_tomogram(known, rng):
    scene = rng.random((30, 41, 37)).astype(np.float32)
    made = TiledPhysics(known, 5, "t")
    one, many = whole(made, scene, 64), whole(made, scene, 17)
    assert np.isfinite(one).all()
    assert np.abs(one - many).max() < 1e-5 * one.std() + 1e-5
    doubled = whole(TiledPhysics(known, 5, "t", scale=2.0), scene / 2, 64)
    assert np.allclose(one, doubled, atol=1e-4 * one.std())


def test_it_is_the_imaging_model(known):
    made = TiledPhysics(known, 0, "t")
    scene = np.zeros((32, 32, 32), np.float32)
    scene[14:18, 15:19, 16:17] = 10.0
    empty = whole(made, np.zeros_like(scene), 40)
    signal = whole(made, scene, 40) - empty
    wanted = known.signal(scene) - known.offset
    # the model's own transform wraps around at the faces, the kernel does not
    inner = tuple(slice(8, 24) for _ in range(3))
    assert np.abs(signal - wanted)[inner].max() < 0.02 * np.abs(wanted).max()
    boxes = [crop(known.noise((32, 32, 32), np.random.default_rng(i)), 16) for i in range(20)]
    assert empty.std() == pytest.approx(np.std(boxes), rel=0.05)


def test_its_noise_has_no_seams_and_no_dips(known):
    """At faces and where tiles meet, values vary as they do elsewhere, and so do their steps."""
    out = whole(TiledPhysics(known, 3, "t"), np.zeros((48, 64, 64), np.float32), 16)
    for axis in range(3):
        planes = np.moveaxis(out, axis, 0)
        faces = np.concatenate([planes[:3], planes[-3:]])
        assert faces.std() == pytest.approx(planes[5:-5].std(), rel=0.06)
        steps = np.abs(np.diff(planes, axis=0)).mean(axis=(1, 2))
        assert steps[15::16].mean() == pytest.approx(
            np.delete(steps, slice(15, None, 16)).mean(), rel=0.03
        )


def test_noise_belongs_to_the_place_and_the_tomogram():
    block = white_noise(1, "t", (-5, 30, 10), (40, 20, 30))
    part = white_noise(1, "t", (3, 31, 20), (10, 9, 8))
    assert np.array_equal(block[8:18, 1:10, 10:18], part)
    assert block.std() == pytest.approx(1, abs=0.02)
    for seed, name in ((2, "t"), (1, "u")):
        other = white_noise(seed, name, (-5, 30, 10), (40, 20, 30))
        assert abs(np.corrcoef(block.ravel(), other.ravel())[0, 1]) < 0.03


def test_beyond_the_scene_lies_nothing():
    scene = np.ones((4, 5, 6), np.float32)
    part = cut(scene, (-1, 2, 4), (3, 3, 4))
    assert part.sum() == 2 * 3 * 2
    assert part[0].sum() == 0
    assert cut(scene, (10, 10, 10), (2, 2, 2)).sum() == 0


@pytest.fixture
def scene(cryoetgan, tmp_path, known, maps):
    """`scene.mrc` with labels and truth, and the model `M.json`."""
    known.save(tmp_path / "M.json")
    for name, density in maps.items():
        write_volume(tmp_path / f"{name}.mrc", density, VOXEL)
    words = ("--copies", 12, "--shape=72,64,40", "--seed", 4)
    cryoetgan("tomograms", "scene", "ball.mrc", "rod.mrc", *words, "-o", "scene.mrc")
    return "scene.mrc", "--labels", "scene_labels.mrc", "--particles", "scene.star"


def correlated(box, template):
    """The zyx shift at which two boxes fit best, and how well."""
    a, b = box - box.mean(), template - template.mean()
    found = np.fft.irfftn(np.fft.rfftn(a) * np.conj(np.fft.rfftn(b)), a.shape, axes=(0, 1, 2))
    found /= np.linalg.norm(a) * np.linalg.norm(b)
    shift = np.array(np.unravel_index(np.argmax(found), found.shape))
    return (shift + BOX // 2) % BOX - BOX // 2, found.max()


def test_the_truth_lies_on_the_particles(cryoetgan, tmp_path, scene, known, maps):
    cryoetgan("imaging", "synthesize", *scene, "--model", "M.json", "--tile", 24, "-o", "T.mrc")
    made = read_volume(tmp_path / "T.mrc").data
    rows = read_star(tmp_path / "T.star").particles
    assert len(rows) == 24
    posers = {name: Poser(density) for name, density in maps.items()}
    found = []
    for row in rows.to_dict("records"):
        centre = np.array([row[c] for c in COORDINATES])
        at = np.rint(centre).astype(int)
        low = at[::-1] - BOX // 2
        turn = rotation_from_relion([row[a] for a in ANGLES])
        density = np.zeros((2 * BOX,) * 3, np.float32)
        density[8:24, 8:24, 8:24] = posers[row["cryoetganClass"]](turn, centre - at)
        template = crop(known.signal(density), BOX)
        box = cut(made, tuple(low), (BOX,) * 3)
        found.append(correlated(box, template))
    shifts, heights = map(np.array, zip(*found, strict=True))
    assert (np.abs(shifts).max(axis=1) == 0).mean() > 0.9
    assert np.median(heights) > 0.5


def test_labels_truth_and_geometry_pass_through(cryoetgan, tmp_path, scene, known):
    cryoetgan("imaging", "synthesize", *scene, "--model", "M.json", "--seed", 1, "-o", "T.mrc")
    words = ("--model", "M.json", "--seed", 1, "--tile", 20)
    cryoetgan("imaging", "synthesize", *scene, *words, "-o", "again/T.mrc")
    made, again = (read_volume(tmp_path / n).data for n in ("T.mrc", "again/T.mrc"))
    assert np.abs(made - again).max() < 1e-4 * made.std()
    words = ("--model", "M.json", "--seed", 1)
    cryoetgan("imaging", "synthesize", *scene, *words, "-o", "same/T.mrc")
    for name in ("T.mrc", "T.star", "T_labels.mrc", "T.mrc.json", "T_labels.mrc.json"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "same" / name).read_bytes()
    first, second = (read_volume(tmp_path / n).data for n in ("T_labels.mrc", "scene_labels.mrc"))
    assert np.array_equal(first, second)
    before, after = (read_star(tmp_path / n) for n in ("scene.star", "T.star"))
    columns = [*COORDINATES, *ANGLES, "cryoetganClass"]
    assert before.particles[columns].equals(after.particles[columns])
    assert set(before.particles["cryoetganSource"]) == {"density"}
    assert set(after.particles["cryoetganSource"]) == {"simulated"}
    assert set(after.particles["rlnTomoName"]) == {"T"}
    assert not set(before.particles["cryoetganId"]) & set(after.particles["cryoetganId"])
    assert after.optics["cryoetganDefocus"][0] == 3.0
    assert read_acquisition(tmp_path / "T.mrc") == known.acquisition
    for name in ("T.mrc", "T_labels.mrc"):
        record = json.loads(sidecar(tmp_path / name).read_text())
        assert record["labels"] == {"1": "ball", "2": "rod"}
    cryoetgan("validate", ".")


def test_memory_does_not_grow_with_the_scene(tmp_path, known):
    shape = (48, 256, 256)
    for name, dtype in (("scene", np.float32), ("marks", np.int16)):
        write_volume(tmp_path / f"{name}.mrc", np.zeros(shape, dtype), VOXEL)
    tracemalloc.start()
    source = open_source(tmp_path / "scene.mrc", tmp_path / "marks.mrc", None)
    zeros = lambda scene, corner, part: np.zeros(part, np.float32)  # noqa: E731
    write_tomogram(tmp_path / "T.mrc", source, known, zeros, 48, {}, "simulated")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.25 * 4 * np.prod(shape)
    assert read_volume(tmp_path / "T_labels.mrc").data.shape == shape


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--tile", 4), ("--tile", "8 or more")),
        (("--density-scale", 0), ("--density-scale", "above zero")),
        (("--labels", "small.mrc"), ("small.mrc", "cover each other")),
    ],
)
def test_what_does_not_fit_is_refused(cryoetgan, tmp_path, scene, words, said):
    write_volume(tmp_path / "small.mrc", np.zeros((8, 8, 8), np.int8), VOXEL)
    done = cryoetgan(
        "imaging", "synthesize", scene[0], "--model", "M.json", *words, "-o", "T.mrc", code=2
    )
    refused(done, *said)
    assert not (tmp_path / "T.mrc").exists()


def test_a_density_that_is_not_finite_is_refused_with_its_place(cryoetgan, tmp_path, scene, known):
    with mrcfile.mmap(tmp_path / "scene.mrc", mode="r+") as file:
        file.data[5, 40, 50] = np.nan
    words = ("--model", "M.json", "--tile", 24, "-o", "T.mrc")
    done = cryoetgan("imaging", "synthesize", *scene, *words, code=2)
    refused(done, "scene.mrc", "not finite", "z, y, x = 0,")
    assert not (tmp_path / "T.mrc").exists()
