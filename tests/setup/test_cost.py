"""Expected cost of a run: it grows with the work, and the shipped configurations quote it."""

import re
from inspect import signature

import mrcfile
import pytest

from cryoetgan.config import Config, load
from cryoetgan.detection import commands as detection
from cryoetgan.setup.cost import DETECTOR_STEPS, count_multiplications, estimate
from cryoetgan.setup.input_files import inspect_sets
from cryoetgan.tables import SubtomogramRow, TomogramRow, read_classes, read_images
from cryoetgan.translation.cyclegan.settings import CycleGANSettings
from cryoetgan.translation.residual.settings import ResidualSettings
from tests.conftest import ROOT


def test_the_generators_multiplications_are_the_papers():
    # the paper's generator: 7.2e9 at 40^3 (counted layer by layer for PAPER.md's table)
    assert count_multiplications(CycleGANSettings()) * 40**3 == pytest.approx(7.2e9, rel=0.02)
    # of the residual generator each filter and its adjoint count, but not the density estimator
    small = ResidualSettings(diffusion_steps=2, filters=3)
    assert count_multiplications(small) == 2 * 2 * 3 * 27
    assert count_multiplications(small.replace(width=64)) == count_multiplications(small)


def test_the_cost_grows_with_what_is_asked_for(tomograms, cryoetgan):
    cryoetgan("init", tomograms)
    config = load(tomograms / "config.yaml")
    classes = read_classes(tomograms / "classes.tsv")
    rows = [
        TomogramRow(tomogram="a", path=str(tomograms / "TS_01.mrc"), tilt_low=-60, tilt_high=60)
    ]

    def cost(**sections):
        changed = {
            name: getattr(config, name).model_copy(update=keys) for name, keys in sections.items()
        }
        return estimate(config.model_copy(update=changed), classes, rows, cores=4)

    base = cost()
    paper = cost(translation={"preset": "paper"})
    assert (
        paper["minutes_training"] > 50 * cost(translation={"preset": "smoke"})["minutes_training"]
    )
    assert paper["minutes"] > paper["minutes_training"] > 60
    twice = cost(densities={"count": 2 * config.densities.count})
    assert 1.3 * base["disk_gb"] < twice["disk_gb"] < 2.1 * base["disk_gb"]
    longer = cost(translation={"steps": 100}), cost(translation={"steps": 200})
    assert longer[1]["minutes_training"] == pytest.approx(2 * longer[0]["minutes_training"])
    drawn = cost(tomograms={"synthetic": 5})
    x, y, z = config.tomograms.shape
    assert drawn["disk_gb"] - base["disk_gb"] == pytest.approx(3 * 20e-9 * x * y * z)
    assert drawn["minutes"] > base["minutes"]
    assert signature(detection.train).parameters["steps"].default == DETECTOR_STEPS
    taught = [cost(detection={"steps": steps})["minutes"] for steps in (0, 1000, None)]
    assert taught[0] < taught[1] < taught[2] == base["minutes"]
    assert cost(tomograms={"synthetic": 0})["minutes"] < taught[0]
    exports = [cost(tomograms={"synthetic": n}, export={"formats": ["plain"]}) for n in (0, 3)]
    assert exports[1]["disk_gb"] - exports[0]["disk_gb"] == pytest.approx(3 * 30e-9 * x * y * z)
    assert cost(particles={"picker": "match"})["minutes"] > base["minutes"]
    also = cost(evaluation={"second_network": "cb3d"})
    alone = cost(evaluation={"network": "cb3d", "learning_curve": []})
    assert also["minutes"] > alone["minutes"] > base["minutes"]
    both = [row.model_copy(update={"group": name}) for row in rows for name in ("titan", "talos")]
    own = config.translation.model_copy(update={"per_group": True})
    each = estimate(config.model_copy(update={"translation": own}), classes, both, cores=4)
    assert each["minutes_training"] == pytest.approx(2 * base["minutes_training"])
    quick = estimate(config, classes, rows, gpu=True, cores=4)
    assert quick["minutes"] < base["minutes"]


def test_sets_of_subtomograms_cost_as_their_boxes_do(tmp_path):
    def cost(count, **keys):
        with mrcfile.new_mmap(
            tmp_path / "s.mrcs", (count, 8, 8, 8), mrc_mode=2, overwrite=True
        ) as file:
            file.voxel_size = 10
        path, tilts = str(tmp_path / "s.mrcs"), {"tilt_low": -60, "tilt_high": 60}
        sets = [SubtomogramRow(name=name, path=path, group=name, **tilts) for name in "ab"]
        config = Config.model_validate({"densities": {"voxel_size": 10}, **keys})
        _, voxels = inspect_sets(config, sets)
        return estimate(config, [], sets, cores=4, set_voxels=voxels)

    few, many = cost(10), cost(1000)
    assert (few["tomograms"], few["sets"]) == (0, 2)
    assert many["disk_gb"] - few["disk_gb"] == pytest.approx(2 * 990 * 8**3 * 8e-9)
    assert many["memory_gb"] == few["memory_gb"]  # boxes are read one by one
    assert many["minutes"] > few["minutes"]
    each = cost(10, translation={"per_group": True})
    assert each["minutes_training"] == pytest.approx(2 * few["minutes_training"])


@pytest.mark.parametrize("name", ["se1", "se2", "czii"])
def test_the_comment_of_a_full_size_configuration_gives_the_present_estimate(name):
    path = ROOT / "config" / f"{name}.yaml"
    config = load(path)
    tables = [read_classes(ROOT / config.structures.table)]
    names = config.tomograms.table, config.particles.table
    tables.append(read_images(*(ROOT / name if name else None for name in names)))
    on_cores = estimate(config, *tables, cores=2)
    on_gpu = estimate(config, *tables, gpu=True, cores=16)
    hours, training, gpu, disk = map(
        float,
        re.search(
            r"([\d.]+) hours on two cores, ([\d.]+) of them training.*?([\d.]+) with a GPU\. "
            r"([\d.]+) GB of disk",
            path.read_text().replace("\n# ", " "),
        ).groups(),
    )
    assert hours == pytest.approx(on_cores["minutes"] / 60, rel=0.1)
    assert training == pytest.approx(on_cores["minutes_training"] / 60, rel=0.1)
    assert gpu == pytest.approx(on_gpu["minutes"] / 60, rel=0.1)
    assert disk == pytest.approx(on_cores["disk_gb"], rel=0.1)
