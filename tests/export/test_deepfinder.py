"""Parameters of DeepFinder: its lists agree with its targets, and its patches fit."""

import json
import subprocess
import sys
from xml.etree import ElementTree

import mrcfile
import numpy as np
import pandas as pd
import pytest

from cryoetgan.export.deepfinder import segmented_patch
from cryoetgan.io.files import sidecar, write_json
from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import COORDINATES, write_star

SHAPE, SIDE = (36, 60, 64), 6
EDGE = {"a_x": SIDE, "b": SIDE + 2}
"""Edge of the cube of a class, voxels."""


def write_tomogram(folder, name, rng, labelled=True):
    """Write a tomogram, and if it is labelled cubes of two classes and a membrane."""
    write_volume(folder / f"{name}.mrc", rng.standard_normal(SHAPE).astype(np.float32), 10.0)
    if not labelled:
        return
    labels, rows = np.zeros(SHAPE, np.int16), []
    labels[0] = 5
    for number, x in enumerate((8, 24, 40, 54)):
        kind = ("b", "a_x")[number % 2]
        place = np.array([x, rng.integers(10, 50), rng.integers(10, 26)])
        half = EDGE[kind] // 2
        x0, y0, z0 = place - half
        labels[z0 : z0 + 2 * half, y0 : y0 + 2 * half, x0 : x0 + 2 * half] = {"b": 2, "a_x": 9}[
            kind
        ]
        rows.append(
            {
                "rlnTomoName": name,
                "cryoetganClass": kind,
                **dict(zip(COORDINATES, place, strict=True)),
            }
        )
    write_volume(folder / f"{name}_labels.mrc", labels, 10.0)
    names = {"2": "b", "5": "membrane", "9": "a_x"}
    write_json(sidecar(folder / f"{name}_labels.mrc"), {"labels": names})
    write_star(folder / f"{name}.star", pd.DataFrame(rows))


@pytest.fixture
def exported(cryoetgan, tmp_path, rng):
    """The export of two labelled tomograms with one to be picked before them."""
    write_tomogram(tmp_path, "T", rng, labelled=False)
    for name in ("s1", "s2"):
        write_tomogram(tmp_path, name, rng)
    cryoetgan("export", "plain", "T.mrc", "s1.mrc", "s2.mrc", "-o", "plain")
    return tmp_path / "plain"


def paths(root, key):
    return [each.get("path") for each in root.find(key)]


def test_objects_lie_on_the_targets_of_their_tomogram(exported):
    root = ElementTree.parse(exported / "deepfinder/train.xml").getroot()
    targets = [mrcfile.read(exported / path) for path in paths(root, "path_target")]
    for path, target in zip(paths(root, "path_tomo"), targets, strict=True):
        assert mrcfile.read(exported / path).shape == target.shape
    assert int(root.find("number_of_classes").get("n")) == max(t.max() for t in targets) + 1
    found = {}
    for part in ("train", "valid"):
        file = exported / root.find(f"path_objl_{part}").get("path")
        found[part] = list(ElementTree.parse(file).getroot())
        assert len(found[part]) == 4
        for each in found[part]:
            x, y, z = (round(float(each.get(axis))) for axis in "xyz")
            assert targets[int(each.get("tomo_idx"))][z, y, x] == int(each.get("class_label"))
    assert {e.get("tomo_idx") for e in found["train"]} != {
        e.get("tomo_idx") for e in found["valid"]
    }


def test_patches_fit_and_clusters_are_a_quarter_of_a_particle(exported):
    root = ElementTree.parse(exported / "deepfinder/train.xml").getroot()
    patch = int(root.find("patch_size").get("n"))
    assert patch % 4 == 0
    assert SHAPE[0] - 4 < patch <= SHAPE[0]
    # the largest particle stays in its patch
    assert int(root.find("random_shift").get("shift")) + max(EDGE.values()) / 2 <= patch / 2
    picking = json.loads((exported / "deepfinder/pick.json").read_text())
    # the network sees 25 voxels of border about a tomogram; of a patch all but 25 voxels are kept
    assert 55 < picking["patch_size"] < SHAPE[0] + 50
    smallest = {each["class"]: each["smallest_cluster"] for each in picking["classes"]}
    assert smallest == {"membrane": None, **{name: edge**3 / 4 for name, edge in EDGE.items()}}
    assert min(EDGE.values()) / 2 < picking["cluster_radius"] < max(EDGE.values())
    assert picking["pick"] == ["T"]
    splits = pd.read_csv(exported / "tomograms.csv").set_index("tomogram")
    assert dict(splits["tomo_idx"]) == picking["tomograms"]
    assert dict(splits["split"]) == {"T": "pick", "s1": "train", "s2": "validation"}


@pytest.mark.parametrize("shape", [(128, 256, 256), (38, 90, 96), (300, 310, 320)])
def test_the_patch_of_the_segmentation_needs_the_fewest_voxels(shape):
    """Counted by DeepFinder's own centres of patches, in our words."""

    def voxels(patch):
        count = 1
        for edge in np.array(shape) + 50:
            half = patch // 2
            centres = list(range(half, edge - half, patch - 54))
            count *= len(centres) + (centres[-1] < edge - half)
        return count * patch**3

    edges = [edge for edge in range(56, 161, 4) if edge < min(shape) + 50]
    assert voxels(segmented_patch([shape])) == min(map(voxels, edges))


def test_without_labels_nothing_is_written_for_deepfinder(cryoetgan, tmp_path, rng):
    write_tomogram(tmp_path, "T", rng, labelled=False)
    cryoetgan("export", "plain", "T.mrc", "-o", "plain")
    assert not (tmp_path / "plain/deepfinder").exists()
    assert "run_deepfinder.py" not in (tmp_path / "plain/README.md").read_text()


def test_the_script_needs_no_part_of_cryoetgan(exported):
    """It runs in the environment of DeepFinder; without it, it names the missing module."""
    words = [sys.executable, "-I", "run_deepfinder.py", "train"]
    done = subprocess.run(words, cwd=exported, capture_output=True, text=True, check=False)
    assert "No module named 'deepfinder" in done.stderr
    assert "cryoetgan" not in (exported / "run_deepfinder.py").read_text()
