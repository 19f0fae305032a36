"""What runs again after an edit: the page in docs/ is what the workflow does."""

import re
import subprocess
import sys

import pytest

from cryoetgan.config import Config, check
from cryoetgan.setup.edits import TABLES, edit, keys
from cryoetgan.setup.plans import Job, edited, rules, with_followers
from cryoetgan.setup.reruns import CELLS, CLASSES, PAGE, TOMOGRAMS
from cryoetgan.tables import ClassRow, TomogramRow, columns
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def made():
    """The page and what it is made of, from a process of its own: Snakemake keeps state."""
    program = (
        "import json, pathlib, sys, tempfile\n"
        "from cryoetgan.setup import reruns as r\n"
        "from cryoetgan.setup.plans import edited, with_followers\n"
        "root, folder = pathlib.Path(sys.argv[1]), pathlib.Path(tempfile.mkdtemp())\n"
        "e = r.Example(root, folder)\n"
        "def again(**rows):\n"
        "    grown = e.plan(None, **rows)\n"
        "    run = with_followers(edited(e.base, grown), grown)\n"
        "    return {n: [grown[n].rule, n not in e.base] for n in run}\n"
        "row = {'path': 'another.mrc', 'split': 'train'}\n"
        "source = {'source': 'phantom:hexamer'}\n"
        "text = '\\n'.join(r._page(e, root)) + '\\n'\n"
        "tomogram = again(tomograms=r.TOMOGRAMS | {'added': row})\n"
        "kind = again(classes=r.CLASSES | {'added': source})\n"
        "content = e.config.model_dump(mode='json')\n"
        "content['densities']['count'] = 20_000\n"
        "curve = [n for n in e.plan(content) if 'evaluation/' in n and '_train_' in n]\n"
        "poses = [job.reads for job in e.base.values() if job.rule == 'densities_pose']\n"
        "size = e.config.densities.voxel_size\n"
        "print(json.dumps([text, tomogram, kind, curve, poses, size]))"
    )
    import json

    done = subprocess.run(
        [sys.executable, "-c", program, ROOT], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_poses_are_drawn_one_and_a_half_voxels_off_centre(made):
    (poses,), size = made[4:]
    assert f"--max-shift={1.5 * size}" in poses


def test_the_page_is_current(made):
    assert (ROOT / PAGE).read_text() == made[0], "run: python -m cryoetgan.setup.reruns"


def test_a_tomogram_added_runs_nothing_of_the_others(made):
    again = made[1]
    assert {"tomograms_import", "particles_pick", "particles_score"} <= {
        rule for rule, new in again.values() if new
    }
    for outputs, (_, new) in again.items():
        assert new or not any(name in outputs for name in TOMOGRAMS), outputs


def test_a_class_added_makes_no_other_structure_or_map_again(made):
    again = made[2]
    for outputs, (rule, new) in again.items():
        alone = rule.startswith("structures_") or (
            rule.startswith("densities_") and "poses" not in outputs
        )
        assert new or not alone, outputs
        assert rule != "tomograms_import", "the user's own tomograms hold no simulated class"


def test_learning_curves_reach_ten_thousand_where_there_are_so_many_volumes(made):
    points = re.findall(r"evaluation/(\w+)_train_(\d+)\.json", " ".join(made[3]))
    sizes = [100, 300, 1000, 3000, 10_000]
    assert sorted((of, int(size)) for of, size in points) == sorted(
        (of, size) for of in ("gan", "fitted") for size in sizes
    )


def test_every_key_and_column_is_edited():
    config = Config()
    for key in keys():
        if key not in TABLES:
            assert check(edit(config, key), key) != config
    for model in (ClassRow, TomogramRow):
        assert {name for name, _ in columns(model)} <= set(CELLS)
    assert {row for row, _ in CELLS.values()} <= {*CLASSES, *TOMOGRAMS}


def test_what_follows_is_found_through_all_jobs_between():
    whole = {
        "a": Job("first", "x", frozenset()),
        "b": Job("second", "y", frozenset({"a"})),
        "c": Job("third", "z", frozenset({"b"})),
        "d": Job("other", "w", frozenset()),
    }
    now = whole | {"a": Job("first", "changed", frozenset())}
    assert edited(whole, now) == {"a"}
    assert rules(with_followers({"a"}, now), now) == {"first", "second", "third"}
    assert with_followers({"d"}, now) == {"d"}
