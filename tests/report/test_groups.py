"""A run whose groups of tomograms have a generator each."""

import pytest

from cryoetgan.report.results import open_results, volumes_in
from cryoetgan.report.run import load_run
from cryoetgan.report.sections.training import training_curves


@pytest.fixture
def results(tmp_path):
    for group, loss in (("talos", "0.5"), ("titan", "0.25")):
        folder = tmp_path / "translation/smoke" / group
        folder.mkdir(parents=True)
        (folder / "checkpoint.pt").write_bytes(b"")
        (folder / "log.csv").write_text(f"step,cycle_d,sd_ratio\n1,{loss},1\n2,{loss},1\n")
    # those of ablations are no preset's
    ablated = tmp_path / "translation/ablations/input_noise_0/0"
    ablated.mkdir(parents=True)
    (ablated / "checkpoint.pt").write_bytes(b"")
    for name in ("a.mrc", "a_labels.mrc", "a_mask.mrc"):
        path = tmp_path / "tomograms" / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return open_results(tmp_path)


def test_each_groups_training_is_shown(results):
    assert results.presets() == ["smoke"]
    titles = [title for title, _ in training_curves(load_run(results, 1))]
    assert titles
    for group in ("talos", "titan"):
        assert any(title.startswith(f"{group}: ") for title in titles)
    assert results.training_logs("smoke", True)["titan"]["cycle_d"] == [0.25, 0.25]


def test_the_configuration_says_which_of_two_trainings_is_meant(results):
    (results.folder / "translation/smoke/checkpoint.pt").write_bytes(b"")
    (results.folder / "translation/smoke/log.csv").write_text("step,cycle_d\n1,7\n2,7\n")
    assert results.training_logs("smoke", False)[""]["cycle_d"] == [7, 7]
    assert set(results.training_logs("smoke", True)) == {"talos", "titan"}


def test_masks_and_labels_are_no_tomograms(results):
    assert [path.name for path in volumes_in(results.folder / "tomograms")] == ["a.mrc"]
