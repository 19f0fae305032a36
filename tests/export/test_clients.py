"""The programs that read our exports and write lists for us, run for real.

Set CRYOETGAN_CLIENTS to a Python that has cryocat, dynamo2m, cryoet-deepfinder, octopi, topcup and
tomotwin-cryoet; RELION is found on the path.
"""

import json
import os
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import mrcfile
import numpy as np
import pytest
import starfile

from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import ANGLES, COORDINATES, ORIGINS
from cryoetgan.physics.geometry import rotate_volume, rotation_from_relion
from tests.conftest import ROOT

CLIENTS = os.environ.get("CRYOETGAN_CLIENTS", "")
VOXEL = 20.0
pytestmark = pytest.mark.slow


def client(module, script, *words):
    """Run a script in the Python of the clients and return the JSON of its last line."""
    if not CLIENTS:
        pytest.skip("CRYOETGAN_CLIENTS does not name a Python that has the client programs")
    found = subprocess.run([CLIENTS, "-c", f"import {module}"], capture_output=True, check=False)
    if found.returncode:
        pytest.skip(f"{module} is not installed in {CLIENTS}")
    quiet = "import sys, json, warnings; warnings.simplefilter('ignore')\n"
    words = [CLIENTS, "-c", quiet + script, *map(str, words)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """TS_1.mrc with truth, labels and a vesicle; set.star of its boxes; two maps."""
    folder = tmp_path_factory.mktemp("clients")

    def run(*words):
        command = [sys.executable, "-m", "cryoetgan", *map(str, words)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, cwd=folder, env=environment, check=True)

    for phantom, name in (("ribosome", "ribosome"), ("proteasome", "pro_tea")):
        run("structures", "phantom", phantom, "-o", f"{name}.cif")
        words = ("--voxel-size", VOXEL, "--resolution", 60, "--box", 20)
        run("densities", "simulate", f"{name}.cif", *words, "-o", f"{name}.mrc")
    words = ("--copies", 6, "--shape=96,96,48", "--snr", 1, "--vesicles", 1, "--seed", 3)
    maps = ("ribosome.mrc", "pro_tea.mrc", "--vesicle-radius", "150,220")
    run("tomograms", "simulate", *maps, *words, "-o", "TS_1.mrc")
    run(
        "particles", "extract", "TS_1.star", "--tomogram", "TS_1.mrc", "--box", 12, "-o", "set.star"
    )
    run("export", "relion", "set.star", "-o", "relion")
    run("export", "plain", "set.star", "-o", "plain")
    run("export", "copick", "TS_1.mrc", "-o", "copick")
    return folder, run


def truth(folder, name="set.star"):
    """Places in voxels from 0, and rotation matrices, of a set."""
    table = starfile.read(folder / name)["particles"]
    places = table[COORDINATES].to_numpy(float)
    if set(ORIGINS) <= set(table):
        places = places - table[ORIGINS].to_numpy(float) / VOXEL
    return places, rotation_from_relion(table[ANGLES].to_numpy(float)).as_matrix()


def test_cryocat_reads_the_relion_export(scene):
    folder, _ = scene
    script = """
from cryocat.cryomotl import RelionMotl
motl = RelionMotl(sys.argv[1])
turns = motl.get_rotations().as_matrix().tolist()
print(json.dumps([motl.get_coordinates().tolist(), turns, motl.df["tomo_id"].tolist()]))"""
    places, turns, tomograms = client("cryocat", script, folder / "relion/particles.star")
    ours, rotations = truth(folder)
    assert np.allclose(places, ours, atol=1e-3)
    assert np.allclose(turns, rotations, atol=1e-4)
    assert set(tomograms) == {1}


@pytest.mark.parametrize("name", ["m.em", "m.star"])
def test_lists_of_cryocat_come_back(scene, name):
    folder, run = scene
    script = """
from cryocat.cryomotl import RelionMotl, EmMotl, StopgapMotl
motl = RelionMotl(sys.argv[1])
motl.df[["x", "y", "z"]] += 1  # cryoCAT crops from 1
motl.df = motl.df.fillna(0)
(StopgapMotl if sys.argv[2].endswith("star") else EmMotl)(motl.df).write_out(sys.argv[2])
print("null")"""
    client("cryocat", script, folder / "relion/particles.star", folder / name)
    run("particles", "import", name, "--tomogram", "TS_1.mrc", "-o", "back.star")
    for ours, found in zip(truth(folder), truth(folder, "back.star"), strict=True):
        assert np.allclose(found, ours, atol=1e-3)


def test_deepfinder_reads_places_classes_and_angles(scene):
    folder, _ = scene
    script = "from deepfinder.utils import objl; print(json.dumps(objl.read_xml(sys.argv[1])))"
    found = client("deepfinder.utils.objl", script, folder / "plain/objects.xml")
    ours, _ = truth(folder)
    assert np.allclose([[o[axis] for axis in "xyz"] for o in found], ours, atol=1e-3)
    assert {o["label"] for o in found} == {1, 2}


def test_deepfinder_rotates_a_shape_as_we_do(scene):
    """Its own rotation of a lopsided body, by the angles that we write."""
    folder, _ = scene
    script = """
import numpy as np
from deepfinder.utils import common, objl
body = np.load(sys.argv[2])
first = objl.read_xml(sys.argv[1])[0]
np.save(sys.argv[3], common.rotate_array(body, (first["phi"], first["psi"], first["the"])))
print("null")"""
    body = np.zeros((24, 24, 24))
    body[12:14, 12:20, 12:14] = body[10:16, 12:14, 12:14] = body[12:14, 12:14, 6:14] = 1
    np.save(folder / "body.npy", body)
    files = (folder / "plain/objects.xml", folder / "body.npy", folder / "rotated.npy")
    client("deepfinder.utils.common", script, *files)
    table = starfile.read(folder / "set.star")["particles"]
    rotation = rotation_from_relion(table[ANGLES].to_numpy(float)[0])
    ours = rotate_volume(body, rotation, order=1)
    assert np.corrcoef(ours.ravel(), np.load(folder / "rotated.npy").ravel())[0, 1] > 0.99


def test_deepfinder_trains_segments_and_clusters_with_our_script(scene):
    """Clusters of a perfect segmentation are the particles; the vesicle is none."""
    folder, run = scene
    run("export", "plain", "TS_1.mrc", "-o", "tomograms")
    export = folder / "tomograms"
    parameters = ElementTree.parse(export / "deepfinder/train.xml")
    lengths = {"batch_size": 1, "number_of_epochs": 1, "steps_per_epoch": 1}
    for key, value in ({"patch_size": 24, "steps_per_validation": 1} | lengths).items():
        parameters.getroot().find(key).set("n", str(value))
    parameters.write(export / "deepfinder/train.xml")

    def step(*words):
        script = (
            "import os, subprocess\nos.chdir(sys.argv[1])\n"
            "subprocess.run([sys.executable, 'run_deepfinder.py', *sys.argv[2:]], check=True,"
            " stdout=subprocess.DEVNULL)\nprint('null')"
        )
        client("deepfinder.training", script, export, *words)

    step("train")
    step("segment", "TS_1")
    labels = mrcfile.read(export / "labels/TS_1_labels.mrc")
    assert mrcfile.read(export / "deepfinder/TS_1_labelmap.mrc").shape == labels.shape
    with mrcfile.new(export / "deepfinder/TS_1_labelmap.mrc", overwrite=True) as file:
        file.set_data(labels.astype(np.int8))
    step("cluster", "TS_1")
    run(
        "particles",
        "import",
        "tomograms/TS_1_deepfinder.xml",
        "--tomogram",
        "TS_1.mrc",
        "-o",
        "f.star",
    )
    found, ours = (starfile.read(folder / name)["particles"] for name in ("f.star", "TS_1.star"))
    assert set(found["cryoetganClass"]) <= set(ours["cryoetganClass"])
    for kind, rows in ours.groupby("cryoetganClass"):
        picked = found.loc[found["cryoetganClass"] == kind, COORDINATES].to_numpy(float)
        away = np.linalg.norm(rows[COORDINATES].to_numpy(float)[:, None] - picked, axis=2)
        assert np.mean(away.min(axis=1) < 3) >= 0.8


def test_dynamo2m_reads_the_dynamo_table(scene):
    folder, _ = scene
    script = """
from dynamo2m.dynamo2warp import dynamo2warp
dynamo2warp(sys.argv[1], sys.argv[2], sys.argv[3])
print("null")"""
    files = (folder / "plain/dynamo.tbl", folder / "plain/dynamo.doc", folder / "warp.star")
    client("dynamo2m", script, *files)
    table = starfile.read(folder / "warp.star")
    ours, rotations = truth(folder)
    # it keeps Dynamo's count from 1
    assert np.allclose(table[COORDINATES], ours + 1, atol=1e-3)
    turns = rotation_from_relion(table[ANGLES].to_numpy(float)).as_matrix()
    assert np.allclose(turns, rotations, atol=1e-3)
    assert all(name.startswith("TS_1") for name in table["rlnMicrographName"])


def test_octopi_makes_targets_of_picked_and_segmented_classes(scene):
    folder, _ = scene
    script = """
from octopi.entry_points.run_create_targets import create_all_train_targets as create
import copick
create(sys.argv[1], None, "cryoetgan", 20.0, 0.7, "wbp", "targets", "octopi", "1", None)
root = copick.from_file(sys.argv[1])
(found,) = root.runs[0].get_segmentations(name="targets")
import numpy as np
values = np.unique(found.numpy()).tolist()
print(json.dumps([values, {o.name: o.label for o in root.pickable_objects}]))"""
    values, labels = client("octopi", script, folder / "copick/config.json")
    assert set(labels) == {"ribosome", "pro-tea", "vesicle"}
    assert values == [0, *sorted(labels.values())]


def test_topcup_trains_on_every_picked_class(scene):
    folder, _ = scene
    script = """
import copick
from topcup.data.copick_dataset import TrainDataset
root = copick.from_file(sys.argv[1])
data = TrainDataset(root, ["TS_1"], 20.0, "wbp", "cryoetgan", "None", None, 1, 2)
keys = ("class_loss_weight", "score_weight", "score_threshold")
settings = [o.metadata[key] for o in root.pickable_objects for key in keys]
print(json.dumps([data.class2id, len(settings)]))"""
    classes, count = client("topcup.data.copick_dataset", script, folder / "copick/config.json")
    assert set(classes) == {"ribosome", "pro-tea"}
    assert count == 9


def test_tomotwin_builds_triplets_of_one_class_in_its_box(scene):
    folder, _ = scene
    script = """
from tomotwin.modules.training.filenamematchingtripletprovidernopdb import (
    FilenameMatchingTripletProviderNoPDB as Provider)
from tomotwin.modules.training.mrctriplethandler import MRCTripletHandler
found = []
for part in ("training", "validation"):
    for t in Provider(f"{sys.argv[1]}/{part}", "**/*.mrc").get_triplets():
        shape = MRCTripletHandler().handle(t).anchor.shape
        found.append([part, shape, t.anchor, t.positive, t.negative])
print(json.dumps(found))"""
    found = client("tomotwin", script, folder / "plain/tomotwin")
    assert {part for part, *_ in found} == {"training", "validation"}
    for _, shape, *files in found:
        assert shape == [37, 37, 37]
        kinds = [os.path.basename(file)[:6] for file in files]
        assert kinds[0] == kinds[1] != kinds[2]


needs_relion = pytest.mark.skipif(not shutil.which("relion_refine"), reason="no RELION on the path")


@needs_relion
def test_relion_sorts_conventional_volumes_into_their_species(scene):
    """Without the fall-off in the CTF volumes, all volumes are in one class after 6 iterations.

    With a fall-off that never reaches zero, they are after 14.
    """
    folder, run = scene
    names, size = ("ribosome", "pro_tea"), 13.68
    for name in names:
        words = ("--voxel-size", size, "--resolution", 40, "--box", 32)
        run("densities", "simulate", f"{name}.cif", *words, "-o", f"fine/{name}.mrc")
    maps = [f"fine/{name}.mrc" for name in names]
    run("densities", "pose", *maps, "--count", 40, "--max-shift", 0, "--seed", 1, "-o", "d.star")
    physics = ("--snr", 0.1, "--tilts=-60,60", "--ctf", "phase-flipped")
    run("imaging", "simulate", "d.star", *physics, "-o", "c.star")
    run("export", "relion", "c.star", "-o", "sorted")
    mean = sum(mrcfile.read(folder / name) for name in maps) / len(maps)
    write_volume(folder / "sorted/ref.mrc", mean.astype(np.float32), size)
    options = "--ref ref.mrc --ini_high 60 --firstiter_cc --iter 15 --K 2 --skip_align --ctf "
    options += (
        "--tau2_fudge 4 --particle_diameter 380 --flatten_solvent --zero_mask --norm --scale "
    )
    options += "--dont_combine_weights_via_disc --pad 1 --random_seed 1 --o ./run"
    done = subprocess.run(
        ["relion_refine", "--i", "particles.star", *options.split()],
        cwd=folder / "sorted", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    table = starfile.read(folder / "sorted/run_it015_data.star", always_dict=True)["particles"]
    counts = table.groupby("rlnClassNumber")["cryoetganClass"].value_counts().unstack(fill_value=0)
    assert counts.max(axis=1).sum() >= 0.9 * len(table)
    assert len(counts) == 2
