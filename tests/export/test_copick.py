"""A copick project, opened by the copick package."""

import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from cryoetgan.export.copick import copick_names
from cryoetgan.export.runs import renumber_labels
from cryoetgan.io.files import read_json, sidecar, write_json
from cryoetgan.io.mrc import read_volume, write_volume
from cryoetgan.io.star import ANGLES, COORDINATES, read_star, write_star
from cryoetgan.physics.geometry import rotation_from_relion
from tests.conftest import refused
from tests.export.conftest import BOX, SHAPE, VOXEL

copick = pytest.importorskip("copick")


@pytest.fixture
def project(cryoetgan, tmp_path, extracted):
    labels = np.zeros(SHAPE, np.int16)
    labels[12, 20, 25] = 7
    labels[0, 0, 0] = 9
    write_volume(tmp_path / "TS_1_labels.mrc", labels, VOXEL)
    write_json(sidecar(tmp_path / "TS_1_labels.mrc"), {"labels": {"7": "a_x", "9": "b"}})
    words = ("--particles", "p.star", "--labels", "TS_1_labels.mrc", "-o", "project")
    cryoetgan("export", "copick", "TS_1.mrc", "TS_2.mrc", *words)
    return copick.from_file(str(tmp_path / "project" / "config.json")), extracted[1]


def test_tomograms_come_back_with_voxel_size_axes_and_contrast(project, tmp_path):
    zarr = pytest.importorskip("zarr")
    root, _ = project
    assert sorted(run.name for run in root.runs) == ["TS_1", "TS_2"]
    for name, sign in (("TS_1", -1), ("TS_2", 1)):  # the user's second file is bright
        spacing = root.get_run(name).get_voxel_spacing(VOXEL)
        (stored,) = spacing.tomograms
        ours = read_volume(tmp_path / f"{name}.mrc").data
        assert stored.numpy().shape == SHAPE  # z, y, x
        assert np.allclose(stored.numpy(), sign * ours, atol=1e-3)
        attributes = zarr.open(stored.zarr(), mode="r").attrs
        (scales,) = attributes["multiscales"]
        assert [axis["name"] for axis in scales["axes"]] == ["z", "y", "x"]
        first = scales["datasets"][0]["coordinateTransformations"][0]["scale"]
        assert np.allclose(first, VOXEL)


def test_picks_come_back_in_angstrom_with_their_orientation(project):
    root, table = project
    (picks,) = root.get_run("TS_1").get_picks("a-x")
    points, turns = picks.numpy()
    assert np.allclose(points, table[COORDINATES].to_numpy()[:1] * VOXEL)
    ours = rotation_from_relion(table[ANGLES].to_numpy()[:1]).as_matrix()
    assert np.allclose(turns[:, :3, :3], ours, atol=1e-6)
    assert len(root.get_run("TS_2").get_picks("b")[0].points) == 1
    # the pick lies on the voxel that has its label
    (segmentation,) = root.get_run("TS_1").get_segmentations(name="labels")
    x, y, z = np.floor(points[0] / VOXEL + 1e-3).astype(int)
    numbers = {item.name: item.label for item in root.pickable_objects}
    assert segmentation.numpy()[z, y, x] == numbers["a-x"]
    assert segmentation.numpy()[0, 0, 0] == numbers["b"]


@pytest.mark.parametrize(
    ("alone", "size"), [(False, 12.5), (True, 10.09)], ids=["in the project", "alone"]
)
def test_picks_return_to_their_places_in_a_rotated_tomogram(cryoetgan, tmp_path, rng, alone, size):
    """Export and import are inverse, though the file's tilt axis lies along x."""
    write_volume(tmp_path / "in.mrc", rng.standard_normal((40, 44, 48)), 10.0)
    words = ("--tilt-axis", "x", "--voxel-size", size)
    cryoetgan("tomograms", "import", "in.mrc", *words, "-o", "t1.mrc")
    text = "x,y,z,class,rot,tilt,psi\n10,20,30,a,10,20,30\n40,5,12,a,-50,70,0\n"
    (tmp_path / "p.csv").write_text(text)
    cryoetgan("particles", "import", "p.csv", "--tomogram", "t1.mrc", "-o", "p.star")
    cryoetgan("export", "copick", "t1.mrc", "--particles", "p.star", "-o", "project")
    (picks,) = (tmp_path / "project/data/ExperimentRuns/t1/Picks").iterdir()
    if alone:
        picks = picks.rename(tmp_path / "picks.json")
    else:  # another program's picks, in the same volume
        picks.write_text(picks.read_text().replace('"cryoetgan"', '"octopi"'))
        shutil.copy(picks, picks.with_name("octopi_2_a.json"))
    words = (picks if alone else picks.parent, "--tomogram", "t1.mrc", "-o", "again.star")
    said = cryoetgan("particles", "import", *words).stderr
    assert ("cryoetgan_1 and octopi_2 are of the same objects" in said) is not alone
    before, after = (read_star(tmp_path / f).particles for f in ("p.star", "again.star"))
    assert np.allclose(before[COORDINATES], after[COORDINATES], atol=1e-3)
    turns = [rotation_from_relion(t[ANGLES].to_numpy(float)) for t in (before, after)]
    assert np.allclose((turns[0].inv() * turns[1]).magnitude(), 0, atol=1e-5)


def test_names_are_valid_and_unique(project):
    root, _ = project
    assert {item.name for item in root.pickable_objects} == {"a-x", "b"}
    found = copick_names(["a_b", "a-b", "a b", "_"])
    assert list(found.values()) == ["a-b", "a-b-2", "a-b-3", "particle"]
    assert copick_names(["labels"]) == {"labels": "labels-2"}  # the multilabel segmentation


def test_a_volume_set_becomes_runs_with_one_pick_each(cryoetgan, tmp_path, generated):
    volumes, table = generated
    cryoetgan("export", "copick", "g.star", "--contrast", "bright", "-o", "set")
    splits = pd.read_csv(tmp_path / "set/splits.csv")["split"]
    assert splits.tolist() == ["train", "train", "validation"]
    root = copick.from_file(str(tmp_path / "set/config.json"))
    run = root.get_run("g_000001")
    assert len(root.runs) == 3
    stored = run.get_voxel_spacing(VOXEL).tomograms[0]
    assert np.allclose(stored.numpy(), volumes[0], atol=1e-3)
    points, turns = run.get_picks("a-x")[0].numpy()
    assert np.allclose(points[0] / VOXEL, [BOX // 2 - 1, BOX // 2, BOX // 2])
    ours = rotation_from_relion(table[ANGLES].to_numpy()[0]).as_matrix()
    assert np.allclose(turns[0, :3, :3], ours, atol=1e-6)


def test_instances_come_back_beside_the_labels_and_picks_name_theirs(
    cryoetgan, tmp_path, extracted
):
    labels, instances = np.zeros(SHAPE, np.int16), np.zeros(SHAPE, np.float32)
    labels[12, 20, 25:27], labels[0, 0, :2] = 7, 9
    instances[12, 20, 25], instances[12, 20, 26], instances[0, 0, :2] = 300, 70000, 2
    write_volume(tmp_path / "TS_1_labels.mrc", labels, VOXEL)
    write_volume(tmp_path / "TS_1_instances.mrc", instances, VOXEL)
    write_json(sidecar(tmp_path / "TS_1_labels.mrc"), {"labels": {"7": "a_x", "9": "membrane"}})
    rows = extracted[1].assign(cryoetganInstance=[300, 5, 6])
    write_star(tmp_path / "TS_1.star", rows[rows["rlnTomoName"] == "TS_1"])
    cryoetgan("export", "copick", "TS_1.mrc", "-o", "p")
    run = copick.from_file(str(tmp_path / "p/config.json")).get_run("TS_1")
    (panoptic,) = run.get_segmentations(is_panoptic=True)
    classes, numbers = panoptic.numpy()
    assert np.array_equal(numbers, instances)
    assert np.array_equal(classes > 0, labels > 0)
    (picks,) = run.get_picks("a-x")
    assert [point.instance_id for point in picks.points][:1] == [300]
    inputs = read_json(tmp_path / "p/provenance.json")["provenance"]["inputs"]
    assert "TS_1_instances.mrc" in inputs
    write_volume(tmp_path / "TS_1_instances.mrc", instances[:4], VOXEL)
    refused(cryoetgan("export", "copick", "TS_1.mrc", "-o", "p", code=2), "TS_1_instances.mrc")


def test_the_config_separates_particles_from_segmented_classes(cryoetgan, tmp_path, extracted):
    labels = np.zeros(SHAPE, np.int16)
    labels[0, 0, :2] = 1, 2
    write_volume(tmp_path / "TS_1_labels.mrc", labels, VOXEL)
    write_json(sidecar(tmp_path / "TS_1_labels.mrc"), {"labels": {"1": "a_x", "2": "membrane"}})
    z, y, x = np.indices((20, 20, 20)) - 10
    ball = (z**2 + y**2 + x**2 <= 5**2).astype(np.float32)
    write_volume(tmp_path / "a_x.mrc", ball, VOXEL)
    words = ("--particles", "p.star", "--labels", "TS_1_labels.mrc", "--density", "a_x.mrc")
    done = cryoetgan("export", "copick", "TS_1.mrc", *words, "-o", "p")
    assert "no radius of b" in done.stderr
    root = copick.from_file(str(tmp_path / "p/config.json"))
    found = {item.name: item for item in root.pickable_objects}
    assert {name: item.is_particle for name, item in found.items()} == {
        "a-x": True,
        "b": True,
        "membrane": False,
    }
    assert found["a-x"].radius == pytest.approx(5 * VOXEL, rel=0.05)
    assert found["b"].radius is None  # unknown
    # TopCUP reads these of every class
    assert found["a-x"].metadata["score_weight"] == 1
    assert found["membrane"].metadata["score_weight"] == 0
    # octopi looks for a segmentation of the class's own name
    run = root.get_run("TS_1")
    (mask,) = run.get_segmentations(name="membrane")
    assert np.argwhere(mask.numpy()).tolist() == [[0, 0, 1]]
    assert not run.get_segmentations(name="a-x")
    assert len({tuple(item.color) for item in found.values()}) == 3
    assert "| a-x | a_x | 1 | 6" in (tmp_path / "p/README.md").read_text()


def test_labels_get_one_numbering():
    labels = np.array([[0, 3], [5, 3]])
    assert renumber_labels(labels, {3: 1, 5: 2}).tolist() == [[0, 1], [2, 1]]


def test_refusals(cryoetgan, tmp_path, extracted):
    write_volume(tmp_path / "other_labels.mrc", np.ones(SHAPE, np.int16), VOXEL)
    words = ("export", "copick", "TS_1.mrc", "--labels", "other_labels.mrc", "-o", "p")
    refused(cryoetgan(*words, code=2), "other_labels.mrc", "TS_1")
    write_volume(tmp_path / "TS_1_labels.mrc", np.ones((4, 4, 4), np.int16), VOXEL)
    words = ("export", "copick", "TS_1.mrc", "--labels", "TS_1_labels.mrc", "-o", "p")
    refused(cryoetgan(*words, code=2), "shape")
    refused(cryoetgan("export", "copick", "s.star", "TS_1.mrc", "-o", "p", code=2), "alone")
    write_star(tmp_path / "no.star", pd.DataFrame({"rlnTomoName": ["TS_1"]}))
    words = ("export", "copick", "TS_1.mrc", "--particles", "no.star", "-o", "p")
    refused(cryoetgan(*words, code=2), "cryoetganClass")
    (tmp_path / "more").mkdir()
    shutil.copy(tmp_path / "TS_1.mrc", tmp_path / "more/TS_1.mrc")
    for verb in ("copick", "plain"):
        done = cryoetgan("export", verb, "TS_1.mrc", "more/TS_1.mrc", "-o", "p", code=2)
        refused(done, "TS_1", "twice")
    assert not (tmp_path / "p").exists()


def test_radii_without_maps_are_those_of_labelled_balls(cryoetgan, tmp_path, extracted):
    z, y, x = np.indices(SHAPE)
    labels = np.zeros(SHAPE, np.int16)
    labels[(z - 12) ** 2 + (y - 20) ** 2 + (x - 25) ** 2 <= 6**2] = 1
    write_volume(tmp_path / "TS_1_labels.mrc", labels, VOXEL)
    write_json(sidecar(tmp_path / "TS_1_labels.mrc"), {"labels": {"1": "a_x"}})
    # labels and truth beside a tomogram are taken without being named
    write_star(tmp_path / "TS_1.star", extracted[1])
    cryoetgan("export", "copick", "TS_1.mrc", "-o", "p")
    root = copick.from_file(str(tmp_path / "p/config.json"))
    assert root.get_object("a-x").radius == pytest.approx(6 * VOXEL, rel=0.02)


def test_orientations_are_trusted_if_known_and_splits_are_listed(cryoetgan, tmp_path, extracted):
    table = extracted[1].drop(columns=ANGLES)
    table["cryoetganSplit"] = ["train", "train", "test"]
    table[["rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst"]] = [VOXEL / 2, 0, 0]
    write_star(tmp_path / "q.star", table)
    write_star(tmp_path / "zeros.star", table.assign(**dict.fromkeys(ANGLES, 0.0)))
    for name in ("q.star", "zeros.star"):
        cryoetgan("export", "copick", "TS_1.mrc", "TS_2.mrc", "--particles", name, "-o", "p")
        root = copick.from_file(str(tmp_path / "p/config.json"))
        (picks,) = root.get_run("TS_1").get_picks("a-x")
        # the particle's own place: the origin is subtracted
        assert picks.numpy()[0][0, 0] == pytest.approx((25.5 - 0.5) * VOXEL)
        assert not picks.trust_orientation
        folder = next((tmp_path / "p").rglob("TS_1/Picks"))
        cryoetgan("particles", "import", folder, "--tomogram", "TS_1.mrc", "-o", "back.star")
        back = read_star(tmp_path / "back.star").particles
        assert not set(ANGLES) & set(back)
        assert set(back["cryoetganClass"]) == {"a_x", "b"}  # copick says a-x
    # picks of tomograms without labels teach nobody
    write_star(tmp_path / "picked.star", table.drop(columns="cryoetganSplit"))
    cryoetgan("export", "copick", "TS_2.mrc", "--particles", "picked.star", "-o", "picked")
    assert pd.read_csv(tmp_path / "picked/splits.csv")["split"].tolist() == ["pick"]
    splits = pd.read_csv(tmp_path / "p/splits.csv", index_col="run")["split"]
    assert splits.to_dict() == {"TS_1": "train", "TS_2": "test"}
    readme = (tmp_path / "p/README.md").read_text()
    assert '--validateRunIDs "$(runs test)"' in readme
    listing = next(line for line in readme.splitlines() if line.startswith("runs()"))
    words = [f"{listing}\nruns {split}" for split in ("train", "test", "pick")]
    found = [subprocess.check_output(["sh", "-c", w], cwd=tmp_path / "p", text=True) for w in words]
    assert [names.strip() for names in found] == ["TS_1", "TS_2", ""]


def test_orientations_that_are_incomplete_are_said(cryoetgan, tmp_path, extracted):
    table = extracted[1]
    table.loc[1, ANGLES] = np.nan
    write_star(tmp_path / "q.star", table.assign(rlnTomoName="TS_1"))
    said = cryoetgan("export", "copick", "TS_1.mrc", "--particles", "q.star", "-o", "p").stderr
    assert "TS_1: 1 of 2 particles of class b have no angles" in said
    run = copick.from_file(str(tmp_path / "p/config.json")).get_run("TS_1")
    assert run.get_picks("a-x")[0].load().trust_orientation
    assert not run.get_picks("b")[0].load().trust_orientation


def test_picks_with_angles_are_trusted(project):
    (picks,) = project[0].get_run("TS_1").get_picks("a-x")
    assert picks.load().trust_orientation


def test_portal_metadata_names_the_files_and_states_truth_of_synthetic_tomograms_alone(
    cryoetgan, tmp_path, project
):
    """Fields of the CryoET Data Portal's schema 2.0, beside the project's files."""
    facts = {"method_type", "annotation_method", "annotation_software", "ground_truth_status"}
    base = tmp_path / "project"
    # TS_1 again, now as a synthetic tomogram whose rows are truth; b is segmented alone
    record = read_json(sidecar(tmp_path / "TS_1.mrc"))
    made = {"provenance": {"command": "imaging synthesize"}}
    write_json(sidecar(tmp_path / "TS_1.mrc"), record | made)
    truth = read_star(tmp_path / "p.star").particles[:1].assign(cryoetganSource="simulated")
    write_star(tmp_path / "truth.star", truth)
    words = ("--particles", "truth.star", "--labels", "TS_1_labels.mrc", "-o", "synthetic")
    cryoetgan("export", "copick", "TS_1.mrc", *words)
    # rows of another program on it are not truth
    write_star(tmp_path / "picked.star", truth.drop(columns="cryoetganSource"))
    cryoetgan("export", "copick", "TS_1.mrc", "--particles", "picked.star", "-o", "picked")
    folders = (base, None), (tmp_path / "picked", None), (tmp_path / "synthetic", "simulated")
    for folder, kind in folders:
        run = folder / "portal" / "TS_1"
        assert read_json(run / "run_metadata.json") == {"run_name": "TS_1"}
        series = read_json(run / "TiltSeries" / "tiltseries_metadata.json")
        assert series["tilt_range"] == {"min": -60, "max": 60}
        assert series["acceleration_voltage"] == 300_000  # volts
        volumes = run / "Reconstructions" / f"VoxelSpacing{VOXEL:.3f}"
        tomogram = read_json(volumes / "Tomograms" / "tomogram_metadata.json")
        assert tomogram["size"] == dict(zip("zyx", SHAPE, strict=True))
        assert tomogram["ctf_corrected"] is True
        assert (folder / tomogram["omezarr_dir"]).is_dir()
        found = read_json(volumes / "Annotations" / "a_x-1.0.json")
        assert (found.get("method_type"), found["object_count"]) == (kind, 1)
        assert facts & set(found) == (facts if kind else set())
        assert ("is_aligned" in series) == (folder != base)
        points, *masks = found["files"]
        assert {(one["shape"], one["mask_label"]) for one in masks} <= {("SegmentationMask", 1)}
        assert (points["shape"], points["format"]) == ("OrientedPoint", "copick")
        assert len(read_json(folder / points["path"])["points"]) == 1
    segmented = read_json(volumes / "Annotations" / "b-1.0.json")
    assert not facts & set(segmented)
    (mask,) = segmented["files"]
    assert mask["shape"] == "SegmentationMask"
    assert (tmp_path / "synthetic" / mask["path"]).is_dir()
