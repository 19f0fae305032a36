"""Subtomograms of other programs: each format gives the same set; poses, hand and contrast are tested."""

import functools
import gzip
import lzma
import re
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from cryoetgan.densities.poses import Poser
from cryoetgan.errors import UserError
from cryoetgan.export.relion import transfer_volume
from cryoetgan.io.files import read_json
from cryoetgan.io.mrc import Volume, write_volume
from cryoetgan.io.star import ANGLES, COORDINATES, ORIGINS, read_star, star_text
from cryoetgan.io.volume_set import open_tomogram, read_volume_set, write_volume_set
from cryoetgan.particles.extraction import randomise_phases
from cryoetgan.particles.matching.given_poses import Poses, judge_poses
from cryoetgan.particles.matching.template import SearchOptions
from cryoetgan.particles.subtomograms import import_boxes
from cryoetgan.particles.subtomograms.ctf_volumes import seen_tilts
from cryoetgan.particles.subtomograms.listings import list_boxes
from cryoetgan.particles.subtomograms.set_picks import read_set_picks
from cryoetgan.physics.acquisition import Acquisition, read_acquisition
from cryoetgan.physics.geometry import (
    centres_inside,
    mirror,
    own_part,
    relion_from_rotation,
    rotation_from_relion,
)
from tests.conftest import refused

N, COUNT, VOXEL = 16, 10, 20.0
BLOBS = {(0, 0, 0): 1.0, (3.5, 0, 0): 1.0, (0, 2.5, 0): 0.8, (0, 0, -3): 0.6, (-2, -2, 1): 0.7}
"""x, y, z in voxels from the centre, and weight, of a body without symmetry."""
TILTS = "--tilts=-60,60"


@functools.cache
def body(n=N):
    z, y, x = np.indices((n, n, n)) - n // 2
    blobs = ((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2 for a, b, c in BLOBS)
    weights = BLOBS.values()
    return sum(w * np.exp(-r / 2.0) for w, r in zip(weights, blobs, strict=True)).astype(np.float32)


@functools.cache
def particles(count=COUNT, noise=0.0, shift=0.6):
    """Return boxes of the body, protein bright, with their rotations and shifts."""
    rng = np.random.default_rng(3)
    turns = Rotation.random(count, rng=rng)
    shifts = rng.uniform(-shift, shift, (count, 3))
    pose = Poser(body())
    boxes = np.stack([pose(t, s) for t, s in zip(turns, shifts, strict=True)])
    boxes += noise * rng.standard_normal(boxes.shape)
    return boxes.astype(np.float32), turns, shifts


def write_em(path, data):
    x, y, z = data.shape[::-1]
    head = struct.pack("<4b3i", 6, 0, 0, 5, x, y, z)
    path.write_bytes(head.ljust(512, b"\0") + np.asarray(data, "<f4").tobytes())


def write_volumes(folder, boxes, end="mrc", contrast=-1.0):
    folder.mkdir(exist_ok=True)
    for number, box in enumerate(boxes, start=1):
        path = folder / f"particle_{number:06d}.{end}"
        if end == "em":
            write_em(path, contrast * box)
        else:
            write_volume(path, contrast * box, VOXEL)


def matrix(axis, degrees):
    return Rotation.from_euler(axis, degrees, degrees=True).as_matrix()


def write_relion(folder, turns, shifts, kind):
    names = [f"boxes/particle_{i + 1:06d}.mrc" for i in range(len(turns))]
    table = pd.DataFrame({"rlnImageName": names, "rlnMicrographName": "t/TS_1.mrc"})
    table[ANGLES] = relion_from_rotation(turns)
    table["rlnClassNumber"] = [1, 2] * (len(turns) // 2)
    optics = None
    if kind == "relion3":
        table[[f"rlnOrigin{a}" for a in "XYZ"]] = -shifts
        table["rlnMagnification"], table["rlnDetectorPixelSize"] = 10000.0, VOXEL
    else:
        table[ORIGINS] = -shifts * VOXEL
        table["rlnOpticsGroup"] = 1
        optics = pd.DataFrame({"rlnOpticsGroup": [1], "rlnImagePixelSize": [VOXEL]})
    (folder / "deep").mkdir()
    (folder / "deep/p.star").write_text(star_text(table, optics))
    return folder / "deep/p.star"


def write_dynamo(folder, turns, shifts):
    # its matrix Rz(narot) Rx(tilt) Rz(tdrot) rotates the particle into the reference
    angles = Rotation.inv(turns).as_euler("zxz", degrees=True)
    for (first, second, third), turn in zip(angles, turns, strict=True):
        whole = matrix("z", third) @ matrix("x", second) @ matrix("z", first)
        assert np.allclose(whole @ turn.as_matrix(), np.eye(3), atol=1e-6)
    rows = np.zeros((len(turns), 35))
    rows[:, 0], rows[:, 3:6], rows[:, 6:9] = range(1, len(turns) + 1), shifts, angles
    rows[:, 19], rows[:, 21] = 1, [1, 2] * (len(turns) // 2)
    np.savetxt(folder / "boxes" / "crop.tbl", rows, fmt="%.5f")
    return folder / "boxes"


def write_motives(folder, turns, shifts):
    # the reference is rotated by phi about z, theta about x, psi about z
    angles = turns.as_euler("zxz", degrees=True)
    for (first, second, third), turn in zip(angles, turns, strict=True):
        whole = matrix("z", third) @ matrix("x", second) @ matrix("z", first)
        assert np.allclose(whole, turn.as_matrix(), atol=1e-6)
    rows = np.zeros((len(turns), 20), np.float32)
    rows[:, 3], rows[:, 4], rows[:, 10:13] = range(1, len(turns) + 1), 1, shifts
    rows[:, [16, 18, 17]], rows[:, 19] = angles, [1, 2] * (len(turns) // 2)
    write_em(folder / "boxes" / "motl.em", rows[None])
    return folder / "boxes" / "motl.em"


KINDS = {
    "relion3": lambda *a: write_relion(*a, "relion3"),
    "relion4": lambda *a: write_relion(*a, "relion4"),
    "dynamo": write_dynamo,
    "motives": write_motives,
}


def imported(cryoetgan, path, *words, voxel_size=VOXEL, contrast="dark"):
    cryoetgan(
        *("particles", "import-subtomograms", path, "--voxel-size", voxel_size, TILTS),
        *("--contrast", contrast, *words, "-o", "s.star"),
    )
    found = read_volume_set(Path("s.star"))
    # boxes of one tomogram, or of none, are shuffled: put back here
    order = np.argsort(found.table["cryoetganFile"].str.replace(r"(\d+)@(.*)", r"\2\1", regex=True))
    if "rlnMicrographName" in found.table and found.table["rlnMicrographName"].nunique() > 1:
        return found
    table = found.table.iloc[order].reset_index(drop=True)
    return replace(found, table=table, volumes=np.asarray(found.volumes)[order])


@pytest.mark.parametrize("kind", KINDS)
def test_every_program_gives_the_same_boxes_poses_and_classes(
    cryoetgan, tmp_path, kind, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    boxes, turns, shifts = particles()
    write_volumes(tmp_path / "boxes", boxes, "em" if kind in ("dynamo", "motives") else "mrc")
    path = KINDS[kind](tmp_path, turns, shifts)
    found = imported(cryoetgan, path, "--class", "1=a", "--class", "2=b")
    # protein dark in the files, bright here; one grey scale for all boxes
    mean, sd = boxes.mean(), boxes.std()
    assert found.volumes == pytest.approx((boxes - mean) / sd, abs=0.02)
    turned = rotation_from_relion(found.table[ANGLES].to_numpy(float))
    assert (turned.inv() * turns).magnitude().max() < 1e-4
    assert -found.table[ORIGINS].to_numpy(float) / VOXEL == pytest.approx(shifts, abs=1e-4)
    assert list(found.table["cryoetganClass"]) == ["a", "b"] * (COUNT // 2)
    assert read_acquisition(tmp_path / "s.star").tilts == (-60.0, 60.0)


@pytest.mark.parametrize("kind", ["folder", "stack", "csv"])
def test_boxes_without_poses_are_a_set(cryoetgan, tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    boxes, _, _ = particles()
    write_volumes(tmp_path / "boxes", boxes)
    path = tmp_path / "boxes"
    # an average beside the boxes is none of them
    write_volume(path / "average.mrc", boxes.mean(axis=0), VOXEL)
    if kind == "stack":
        write_volume_set(tmp_path / "in.star", -boxes, pd.DataFrame(index=range(COUNT)), VOXEL)
        path = tmp_path / "in.mrcs"
    if kind == "csv":
        path = tmp_path / "list.csv"
        lines = [f"boxes/particle_{i:06d}.mrc,TS_{i % 2}" for i in range(1, COUNT + 1)]
        path.write_text("\n".join(["file,tomo", *lines]))
    found = imported(cryoetgan, path)
    assert len(found) == COUNT
    assert "cryoetganClass" not in found.table
    if kind == "csv":  # sorted by tomogram, for splits by blocks; one grey scale for each
        assert list(found.table["rlnMicrographName"]) == ["TS_0"] * 5 + ["TS_1"] * 5
        assert found.volumes[:5].std() == pytest.approx(1, abs=0.05)


def test_grey_values_are_those_of_the_set_and_not_of_a_box(cryoetgan, tmp_path, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    strengths = np.array([1.0, 2.0, 3.0, 4.0])
    boxes = strengths[:, None, None, None] * rng.standard_normal((4, N, N, N))
    write_volumes(tmp_path / "boxes", boxes.astype(np.float32))
    found = imported(cryoetgan, tmp_path / "boxes")
    sds = found.volumes.std(axis=(1, 2, 3))
    assert sds / sds[0] == pytest.approx(strengths, rel=0.1)


@pytest.mark.parametrize("step", [2.0, 0.8])
def test_resampling_keeps_the_particle_at_its_place(cryoetgan, tmp_path, step, monkeypatch):
    monkeypatch.chdir(tmp_path)
    z, y, x = np.indices((40, 40, 40)) - 20.0
    boxes = []
    for shift in ((0, 0, 0), (3, -2, 1), (-4, 5, 2)):
        square = (x - shift[0]) ** 2 + (y - shift[1]) ** 2 + (z - shift[2]) ** 2
        boxes.append(np.exp(-square / 18).astype(np.float32))
    write_volumes(tmp_path / "boxes", boxes)
    found = imported(cryoetgan, tmp_path / "boxes", voxel_size=VOXEL * step)
    n = found.box
    assert n % 2 == 0
    assert n * step <= 40 + step
    for volume, shift in zip(found.volumes, ((0, 0, 0), (3, -2, 1), (-4, 5, 2)), strict=True):
        weight = np.clip(volume - np.median(volume), 0, None) ** 2
        places = [
            (axis * weight).sum() / weight.sum() - n // 2 for axis in np.indices(volume.shape)
        ]
        assert np.array(places[::-1]) * step == pytest.approx(shift, abs=0.1 * step)


@pytest.mark.parametrize("words", [("--tilt-axis", "x"), ("--beam-axis", "y"), ("--flip-hand",)])
def test_boxes_and_poses_turn_together(cryoetgan, tmp_path, words, monkeypatch):
    monkeypatch.chdir(tmp_path)
    boxes, turns, shifts = particles()
    write_volumes(tmp_path / "boxes", boxes)
    path = write_relion(tmp_path, turns, shifts, "relion3")
    found = imported(cryoetgan, path, *words)
    # the body, or its mirror image, at the poses of the set
    image = np.roll(body()[::-1], 1, 0) if words == ("--flip-hand",) else body()
    pose = Poser(image)
    rotations = rotation_from_relion(found.table[ANGLES].to_numpy(float))
    turned = (rotations * turns.inv())[0]
    if words == ("--tilt-axis", "x"):
        assert np.allclose(turned.apply([1, 0, 0]), [0, -1, 0], atol=1e-5)
    if words == ("--beam-axis", "y"):
        assert np.allclose(turned.apply([0, 1, 0]), [0, 0, 1], atol=1e-5)
    offsets = -found.table[ORIGINS].to_numpy(float) / VOXEL
    for volume, turn, shift in zip(found.volumes, rotations, offsets, strict=True):
        assert np.corrcoef(volume.ravel(), pose(turn, shift).ravel())[0, 1] > 0.97


def test_a_mirrored_series_has_mirrored_tilts(cryoetgan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_volumes(tmp_path / "boxes", particles()[0])
    cryoetgan(
        *("particles", "import-subtomograms", "boxes", "--voxel-size", VOXEL, "--tilts=-50,60"),
        *("--contrast", "dark", "--flip-hand", "-o", "s.star"),
    )
    assert read_acquisition(tmp_path / "s.star").tilts == (-60.0, 50.0)


@pytest.mark.parametrize("half", [False, True])
def test_ctf_volumes_show_the_tilts(half):
    record = Acquisition(tilt_low=-40, tilt_high=56, defocus=3.0)
    weights = transfer_volume(record, 32, 10.0)
    if half:  # as RELION 4 stores it
        weights = np.fft.ifftshift(weights)[..., :17]
    assert seen_tilts(weights) == pytest.approx((-40, 56), abs=4)
    assert seen_tilts(np.ones((8, 8, 8))) is None  # no wedge is missing


def test_ctf_volumes_are_not_read_unsaid(cryoetgan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    boxes, turns, shifts = particles()
    write_volumes(tmp_path / "boxes", boxes)
    path = write_relion(tmp_path, turns, shifts, "relion4")
    write_volume(tmp_path / "ctf.mrc", transfer_volume(Acquisition(tilt_high=40), 32, VOXEL), VOXEL)
    star = read_star(path)
    words = ("particles", "import-subtomograms", path, "--voxel-size", VOXEL, "--contrast", "dark")
    said = {}
    for name in ("ctf", "lost"):
        table = star.particles.assign(rlnCtfImage=f"{name}.mrc")
        path.write_text(star_text(table, star.optics))
        for tilts in ("-60,60", "-60,40"):
            more = ("--defocus", 3) if tilts == "-60,40" else ()
            said[name, tilts] = cryoetgan(*words, f"--tilts={tilts}", *more, "-o", "s.star").stderr
    assert "not read" in said["ctf", "-60,60"]
    assert "give --defocus" in said["ctf", "-60,60"]
    assert "-60 to 4" in said["ctf", "-60,60"]
    assert "warning" not in said["ctf", "-60,40"].lower()
    assert "lost.mrc" in said["lost", "-60,60"]


def test_a_box_without_angles_and_a_defocus_in_another_unit_are_said(
    cryoetgan, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_volumes(tmp_path / "boxes", particles()[0])
    rows = [f"boxes\\particle_{n:06d}.mrc,{'10,20,30' if n > 1 else ',,'}" for n in (1, 2, 3)]
    (tmp_path / "l.csv").write_text("\n".join(["file,rot,tilt,psi", *rows]))
    table = imported(cryoetgan, tmp_path / "l.csv").table
    assert table["rlnAngleTilt"].isna().tolist() == [True, False, False]
    star_of(rlnDefocusU=[4.0, 4.0], rlnDefocusV=4.0)(tmp_path)
    words = ("particles", "import-subtomograms", "p.star", "--voxel-size", VOXEL, TILTS)
    said = cryoetgan(*words, "--contrast", "dark", "-o", "s.star").stderr
    assert "give --defocus in micrometres" in " ".join(said.split())
    assert read_acquisition(tmp_path / "s.star").defocus is None
    done = cryoetgan(*words, "--contrast", "dark", "-o", "a set.star", code=2)
    refused(done, "a set.star", "rename")


def test_copies_and_empty_boxes_are_left_out_and_counted(cryoetgan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    boxes = particles()[0].copy()
    boxes[3], boxes[5] = boxes[2], 0.25
    write_volumes(tmp_path / "boxes", boxes)
    done = cryoetgan(
        *("particles", "import-subtomograms", "boxes", "--voxel-size", VOXEL, TILTS),
        *("--contrast", "dark", "-o", "s.star"),
    )
    assert "1 of 10 boxes are equal to another box" in done.stderr
    assert "1 of 10 boxes are of a single grey value" in done.stderr
    assert len(read_volume_set(tmp_path / "s.star")) == COUNT - 2


@pytest.mark.parametrize(("contrast", "other"), [("dark", "bright"), ("bright", "dark")])
def test_a_wrong_contrast_is_said(cryoetgan, tmp_path, contrast, other, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_volumes(tmp_path / "boxes", particles()[0], contrast=-1.0 if contrast == "dark" else 1.0)
    said = {
        given: cryoetgan(
            *("particles", "import-subtomograms", "boxes", "--voxel-size", VOXEL, TILTS),
            *("--contrast", given, "-o", "s.star"),
        ).stderr
        for given in (contrast, other)
    }
    assert f"give --contrast {contrast}" in said[other]
    assert "--contrast" not in said[contrast]


def stack2d(folder):
    (folder / "p.star").write_text(
        "data_general\n\n_rlnTomoSubTomosAre2DStacks 1\n\ndata_particles\n\nloop_\n"
        "_rlnImageName\na_stack2d.mrcs\n\n"
    )


def rotated_boxes(folder):
    table = pd.DataFrame({"rlnImageName": ["boxes/particle_000001.mrc"]})
    table[["rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi"]] = (
        10.0,
        20.0,
        0.0,
    )
    (folder / "p.star").write_text(star_text(table))


def star_of(**columns):
    def write(folder):
        first = {"rlnImageName": ["boxes/particle_000001.mrc", "boxes/particle_000002.mrc"]}
        (folder / "p.star").write_text(star_text(pd.DataFrame(first | columns)))

    return write


def images(folder):
    write_volume(folder / "p.mrc", np.random.default_rng(0).random((40, N, N)), VOXEL)


def tomogram(folder):
    write_volume(folder / "p.mrc", np.random.default_rng(0).random((N, 40, 60)), VOXEL)


def two_sizes(folder, number=2):
    path = folder / f"boxes/particle_{number:06d}.mrc"
    write_volume(path, np.random.default_rng(0).random((20,) * 3), VOXEL)


def not_finite(folder):
    box = particles()[0][0].copy()
    box[3, 4, 5] = np.nan
    write_volume(folder / "boxes/particle_000003.mrc", box, VOXEL)


@pytest.mark.parametrize(
    ("prepare", "name", "words"),
    [
        (stack2d, "p.star", ["2D stack", "relion_tomo_subtomo"]),
        (rotated_boxes, "p.star", ["extracted rotated", "rlnTomoSubtomogramRot"]),
        (star_of(rlnImageName=["gone.mrc", "gone.mrc"]), "p.star", ["gone.mrc", "folder above"]),
        (star_of(rlnPixelSize=[10.0, 10.0]), "p.star", ["header says 20", "10", "--input-voxel-size"]),
        (star_of(rlnPixelSize=[10.0, 20.0]), "p.star", ["varies", "set of its own"]),
        (star_of(rlnOriginXAngst=[900.0, 0.0], rlnOriginYAngst=0.0, rlnOriginZAngst=0.0), "p.star",
         ["outside its box", "unit"]),
        (lambda folder: (folder / "p.star").write_text(
            star_text(pd.DataFrame({"rlnCoordinateX": [1.0]}))), "p.star",
         ["rlnImageName", "particles import"]),
        (images, "p.mrc", ["16x16x40", "2D images"]),
        (tomogram, "p.mrc", ["60x40x16", "tomograms import"]),
        (two_sizes, "boxes", ["20 voxels", "16"]),
        (functools.partial(two_sizes, number=3), "boxes", ["20 voxels", "16"]),
        (not_finite, "boxes", ["particle_000003.mrc", "not finite"]),
        (lambda folder: (folder / "boxes/a.tbl").write_text("1 2 3\n"), "boxes", ["3 columns"]),
        (lambda folder: (folder / "p.em").write_bytes(b"1" * 600), "p.em", ["p.em", "EM file"]),
    ],
)  # fmt: skip
def test_what_cannot_be_a_set_is_refused(cryoetgan, tmp_path, prepare, name, words):
    write_volumes(tmp_path / "boxes", particles()[0][:3])
    prepare(tmp_path)
    done = cryoetgan(
        *("particles", "import-subtomograms", name, "--voxel-size", VOXEL, TILTS),
        *("--contrast", "dark", "-o", "s.star"),
        code=2,
    )
    refused(done, *words)
    assert not (tmp_path / "s.star").exists()


def as_set(boxes):
    return Volume(boxes.reshape(-1, N, N), VOXEL, part=N)


OPTIONS = SearchOptions(acquisition=Acquisition(), lowpass=50.0, rotations=64, highpass_shells=1)


@pytest.fixture(scope="module")
def noisy():
    return particles(24, noise=0.25)


def places(shifts):
    middle = np.full((len(shifts), 3), N // 2)
    middle[:, 2] += N * np.arange(len(shifts))
    return middle + shifts


def test_poses_of_another_reference_come_into_the_frame_of_the_map(noisy):
    boxes, turns, shifts = noisy
    # their reference is ours, rotated by Q and shifted by s: R = R_given Q, place = given + R_given s
    turn, shift = Rotation.from_rotvec([0.5, -0.8, 0.3]), np.array([1.0, -0.5, 0.7])
    given = turns * turn.inv()
    poses = Poses(places(shifts) - given.apply(shift), given)
    found = judge_poses(as_set(boxes), poses, body(), OPTIONS, 400)
    assert found.t > 5
    assert np.degrees((found.poses.rotations.inv() * turns).magnitude().max()) < 5
    assert np.abs(found.poses.places - places(shifts)).max() < 0.5
    assert found.mirror_t < 0


def test_poses_of_our_map_stay_as_they_are(noisy):
    boxes, turns, shifts = noisy
    found = judge_poses(as_set(boxes), Poses(places(shifts), turns), body(), OPTIONS, 400)
    assert found.angle == 0
    assert found.poses.rotations is turns


def test_poses_without_meaning_and_a_wrong_hand_are_told(noisy):
    boxes, turns, shifts = noisy
    exchanged = Poses(places(shifts), turns[np.roll(np.arange(len(turns)), 5)])
    assert judge_poses(as_set(boxes), exchanged, body(), OPTIONS, 400).t < 3
    poses = Poses(places(shifts), turns)
    assert judge_poses(as_set(boxes), poses, mirror(body()), OPTIONS, 400).mirror_t > 3


def test_boxes_of_a_set_do_not_see_each_other():
    assert own_part(35.4, 64, 16) == (32, 16)
    assert own_part(-0.4, 64, 16) == (0, 16)
    assert own_part(70, 64, None) == (0, 64)
    near = np.array([[8.0, 8, 17.6], [2, 15, 30]])
    # a box of 12 in parts of 16: its centre is 6 to 10 voxels from the first
    assert centres_inside(near, (64, 16, 16), 12, 16).tolist() == [[8, 8, 22], [6, 10, 26]]
    assert centres_inside(near, (64, 16, 16), 12, None).tolist() == [[8, 8, 18], [2, 15, 30]]


def test_a_split_by_blocks_does_not_follow_the_order_of_the_files(cryoetgan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    boxes, turns, shifts = particles()
    write_volumes(tmp_path / "boxes", boxes)
    write_relion(tmp_path, turns, shifts, "relion3")
    for _ in range(2):
        cryoetgan(
            *("particles", "import-subtomograms", "boxes", "--voxel-size", VOXEL, TILTS),
            *("--contrast", "dark", "-o", "s.star"),
        )
    files = list(read_volume_set(tmp_path / "s.star").table["cryoetganFile"])
    assert len(set(files)) == COUNT
    assert files != sorted(files)


def test_random_phases_keep_the_power_and_nothing_else(rng):
    box = particles()[0][0]
    made = randomise_phases(box, rng)
    power = [np.abs(np.fft.rfftn(v)) for v in (box, made)]
    assert power[1] == pytest.approx(power[0], rel=1e-3, abs=1e-3)
    assert made.mean() == pytest.approx(box.mean(), abs=1e-5)
    assert abs(np.corrcoef(box.ravel(), made.ravel())[0, 1]) < 0.3


def test_a_set_is_scored_selected_and_cut(cryoetgan, tmp_path, noisy, monkeypatch):
    monkeypatch.chdir(tmp_path)
    boxes, _, shifts = noisy
    write_volumes(tmp_path / "boxes", boxes)
    write_volume(tmp_path / "body.mrc", body(), VOXEL)
    imported(cryoetgan, tmp_path / "boxes", "--class", "body")
    assert open_tomogram(tmp_path / "s.star").part == N
    search = ("--template", "body.mrc", TILTS, "--rotations", 64, "--highpass-shells", 1)
    cryoetgan("particles", "score", "s.star", *search, "--lowpass", 50, "-o", "c.star")
    scores = read_star(tmp_path / "c.star").particles
    stored = read_volume_set(tmp_path / "s.star").table["cryoetganFile"]
    order = stored.str.extract(r"_(\d+)\.", expand=False).astype(int).to_numpy() - 1
    found = scores[COORDINATES].to_numpy(float)
    assert np.median(np.linalg.norm(found - places(shifts[order]), axis=1)) < 1
    assert set(scores["cryoetganGivenClass"]) == {"body"}
    # a given class is a decision: it is kept, and the others are its boxes without phases
    cryoetgan(
        *("particles", "select", "c.star", "--box", 12, "--others", "o.star", "-o", "p.star"),
    )
    chosen, rest = (read_star(tmp_path / f"{name}.star").particles for name in "po")
    assert len(chosen) > 18
    assert set(rest["cryoetganPhases"]) == {"random"}
    for name in "po":
        cryoetgan("particles", "extract", f"{name}.star", "--tomogram", "s.star", "--box", 12,
                  "-o", f"x{name}.star")  # fmt: skip
    cut = read_volume_set(tmp_path / "xp.star")
    whole = read_volume_set(tmp_path / "s.star")
    for volume, row in zip(cut.volumes, cut.table.to_dict("records"), strict=True):
        x, y, z = (int(row[column]) for column in COORDINATES)
        own = whole.volumes[z // N]
        z -= z // N * N
        assert np.array_equal(volume, own[z - 6 : z + 6, y - 6 : y + 6, x - 6 : x + 6])
    hands = cryoetgan(
        "evaluation", "hand", "c.star", "--tomogram", "s.star", *search, "-o", "h.json"
    )
    assert re.search("own hand", hands.stderr)


def test_a_set_of_small_boxes_needs_small_maps(cryoetgan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_volumes(tmp_path / "boxes", particles()[0])
    write_volume(tmp_path / "body.mrc", body(20), VOXEL)
    imported(cryoetgan, tmp_path / "boxes")
    done = cryoetgan(
        "particles", "score", "s.star", "--template", "body.mrc", TILTS, "-o", "c.star", code=2
    )
    refused(done, "16 voxels", "20", "densities.box")


def test_boxes_of_one_name_in_folders_of_tomograms_have_their_own_ids(
    cryoetgan, tmp_path, monkeypatch
):
    names = [f"Subtomograms/TS_0{t}/{n}_data.mrc" for t in (1, 2) for n in (1, 2)]
    first = tmp_path / "first"
    for name, box in zip(names, particles()[0], strict=False):
        (first / name).parent.mkdir(parents=True, exist_ok=True)
        write_volume(first / name, box, VOXEL)
    (first / "p.star").write_text(star_text(pd.DataFrame({"rlnImageName": names})))
    shutil.copytree(first, tmp_path / "second/moved")
    monkeypatch.chdir(tmp_path)
    found = []
    for folder in (first, tmp_path / "second/moved"):
        table = imported(cryoetgan, folder / "p.star").table
        found.append(dict(zip(table["cryoetganFile"], table["cryoetganId"], strict=True)))
        inputs = read_json(tmp_path / "s.star.json")["provenance"]["inputs"]
        assert set(inputs) == {"p.star", *(name.removeprefix("Subtomograms/") for name in names)}
    assert len(set(found[0].values())) == len(found[0]) == 4
    assert found[0] == found[1]


def test_repeated_ids_in_a_set_are_refused(tmp_path):
    rows = pd.DataFrame({"cryoetganId": ["pa", "pb", "pa"]})
    write_volume_set(tmp_path / "s.star", particles()[0][:3], rows, VOXEL)
    with pytest.raises(UserError, match="1 boxes have the cryoetganId of another, such as pa"):
        read_set_picks(tmp_path / "s.star")


def test_each_file_is_opened_once_a_pass(cryoetgan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = []
    for index, (pack, end) in enumerate([(gzip, "gz"), (lzma, "xz")]):
        boxes = particles()[0][index * 5 : index * 5 + 5]
        write_volume_set(tmp_path / "in.star", boxes, pd.DataFrame(index=range(5)), VOXEL)
        name = f"{index}.mrcs.{end}"
        (tmp_path / name).write_bytes(pack.compress((tmp_path / "in.mrcs").read_bytes()))
        lines += [f"{n}@{name}" for n in range(1, 6)]
    (tmp_path / "list.csv").write_text("\n".join(["file", *lines]))
    opened, open_file = [], import_boxes.open_box_file
    monkeypatch.setattr(
        import_boxes, "open_box_file", lambda path: opened.append(path.name) or open_file(path)
    )
    found = imported(cryoetgan, "list.csv", contrast="bright")
    assert sorted(opened) == ["0.mrcs.gz"] * 2 + ["1.mrcs.xz"] * 2
    # shuffled as before, and each row still has its own box
    boxes = particles()[0]
    assert found.volumes == pytest.approx((boxes - boxes.mean()) / boxes.std(), abs=0.02)


def dynamo_with_map(folder):
    write_dynamo(folder, *particles()[1:])
    (folder / "boxes/crop.doc").write_text("1 /data/TS_07.rec\n")
    return "boxes/crop.tbl"


def warp_table(folder):
    table = pd.DataFrame({"rlnImageName": [f"boxes/particle_{i:06d}.mrc" for i in (1, 2)]})
    (folder / "p.star").write_text(star_text(table.assign(wrpSourceName="x/TS_07.tomostar")))
    return "p.star"


def european_csv(folder):
    lines = [f"boxes/particle_{i:06d}.mrc;TS_07.mrc;{i},5;20,25;-7,0;vault" for i in (1, 2)]
    (folder / "p.csv").write_text("\n".join(["File;Tomogram;Rot;Tilt;Psi;Class", *lines]))
    return "p.csv"


@pytest.mark.parametrize("write", [dynamo_with_map, warp_table, european_csv])
def test_a_table_of_boxes_names_tomograms_as_a_list_of_picks_does(tmp_path, write):
    write_volumes(tmp_path / "boxes", particles()[0])
    table = list_boxes(tmp_path / write(tmp_path)).table
    assert set(table["rlnMicrographName"]) == {"TS_07"}
    if write is european_csv:
        wanted = np.array([[1.5, 20.25, -7.0], [2.5, 20.25, -7.0]])
        assert table[ANGLES].to_numpy() == pytest.approx(wanted)
        assert set(table["cryoetganClass"]) == {"vault"}
