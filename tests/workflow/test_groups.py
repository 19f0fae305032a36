"""Several microscopes in one run, masks of regions to leave out, the second picker."""

import re

import numpy as np
import pytest
import yaml

from cryoetgan.io.exclusion import ExclusionMask
from cryoetgan.io.mrc import read_volume, write_volume
from cryoetgan.io.star import COORDINATES, read_star
from tests.workflow.conftest import TINY

TABLE = """tomogram\tpath\ttilt_low\ttilt_high\tsplit\tgroup\tmask
t1\tt1.mrc\t-60\t60\ttrain\ttitan\tcarbon.mrc
t2\tt2.mrc\t-50\t50\ttrain\ttalos\tice.mrc
t3\tsimulate\t-60\t60\ttest\ttitan\t
cut\tcut.mrc\t-60\t60\ttest\ttitan\t
"""
CLASSES = "class\tsource\nball\tball.mrc\nrod\tball.mrc\n"
MASKS = {"carbon": np.s_[:, :40, 1:], "ice": np.s_[:, :, 30:]}
SHAPE = (32, 64, 64)


@pytest.fixture(scope="module")
def several(project):
    """A run of three tomograms of two microscopes, two of noise with masks; the words for it."""
    folder = project.folder
    rng = np.random.default_rng(2)
    (folder / "several.tsv").write_text(TABLE)
    (folder / "balls.tsv").write_text(CLASSES)
    for name in ("t1", "t2"):
        write_volume(folder / f"{name}.mrc", rng.standard_normal(SHAPE), 20.0)
    for name, part in MASKS.items():
        mask = np.zeros(SHAPE, np.int8)
        mask[part] = 1
        write_volume(folder / f"{name}.mrc", mask, 20.0)
    (folder / "cut.mrc").write_bytes((folder / "t1.mrc").read_bytes()[:-100])
    r = np.sqrt(sum((axis - 8) ** 2 for axis in np.indices((16,) * 3)))
    write_volume(folder / "ball.mrc", (r < 4).astype(np.float32), 20.0)
    content = yaml.safe_load((folder / TINY[1]).read_text())
    content["tomograms"]["table"] = "several.tsv"
    content["structures"]["table"] = "balls.tsv"

    def words(run, **sections):
        changed = {name: content.get(name, {}) | keys for name, keys in sections.items()}
        path = folder / f"{run}.yaml"
        path.write_text(yaml.safe_dump(content | changed | {"run": run}))
        return "--configfile", path.name

    return project, words


def picks_of(*names):
    return [f"results/masked/particles/{name}_picks.star" for name in names]


def never_in_a_masked_region(project):
    for path, (file, part) in zip(picks_of("t1", "t2"), MASKS.items(), strict=True):
        table = read_star(project.folder / path).particles
        places = table[COORDINATES].to_numpy(float)[:, ::-1]
        mask = read_volume(project.folder / f"{file}.mrc").data
        assert mask[part].all()
        assert not ExclusionMask(mask, mask, labelled=False).holds(places).any()
        assert len(places) > 5


def test_a_bad_tomogram_is_said_while_the_others_go_on_and_a_mask_is_its_tomograms_own(several):
    project, words = several
    # small tomograms have more particles than noise peaks
    config = words("masked", particles={"sigma": 60.0, "threshold": 3.0})
    said = project.snakemake(*config, "--", *picks_of("t1", "t2", "cut"), code=1)
    assert "cut.mrc: cannot be read as MRC: cut short" in said.split("Errors:")[1]
    assert "Traceback" not in said
    never_in_a_masked_region(project)
    # a mask drawn anew runs its own tomogram again, and no other
    whole = np.array(read_volume(project.folder / "carbon.mrc").data)
    write_volume(project.folder / "carbon.mrc", np.roll(whole, 1, axis=2), 20.0)
    said = project.snakemake("-n", *config, "--", *picks_of("t1", "t2"))
    rules = set(re.findall(r"^rule (\w+):", said, re.MULTILINE))
    assert rules == {"tomograms_mask", "particles_pick"}
    assert set(re.findall(r"wildcards: tomogram=(\w+)", said)) == {"t1"}
    write_volume(project.folder / "carbon.mrc", whole, 20.0)


def test_matching_picks_nothing_in_a_masked_region(several):
    project, words = several
    particles = {"picker": "match", "rotations": 8, "score_threshold_sd": 1.0}
    project.snakemake(*words("masked", particles=particles), "--", *picks_of("t1", "t2"))
    never_in_a_masked_region(project)


def test_each_group_trains_its_own_generator_and_averages_are_made_if_asked_for(several):
    project, words = several
    own = {"per_group": True, "preset": "recommended", "steps": 2}
    config = words("own", translation=own, particles={"average_iterations": 0})
    said = project.snakemake("-n", "-p", *config, "--", "all", "averages")
    made = "results/own/translation/recommended"
    trained = dict(re.findall(r"translation train .*--group=(\w+) .* -o (\S+)", said))
    assert trained == {"titan": f"{made}/titan", "talos": f"{made}/talos"}
    for name in ("generated", "untrained", "cycled"):
        parts = f"{made}/titan/{name}.star {made}/talos/{name}.star"
        assert re.search(rf"translation \w+ {parts} -o {made}/{name}.star", said)
    averages = re.findall(r"particles average .* --class (\w+) .*--iterations=0", said)
    assert set(averages) == {"ball", "rod"}
