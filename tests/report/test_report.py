"""The page: honest verdicts, escaped values, whatever is there and what is not."""

import re
import shutil
import subprocess

import pandas as pd
import pytest

from cryoetgan.files import write_json, write_text
from cryoetgan.report.verdict import conclude
from cryoetgan.star import ANGLES, COORDINATES, write_star
from cryoetgan.volumes import write_volume, write_volume_set
from tests.conftest import refused

HOSTILE = "<script>alert(1)</script>"


def result(accuracy, n=200):
    return {
        "accuracy": accuracy,
        "interval": [max(0, accuracy - 0.04), min(1, accuracy + 0.04)],
        "classes": ["a", "b"],
        "confusion": [[60, 40], [30, 70]],
        "n_train": 300,
        "n_test": n,
        "network": "small",
    }


@pytest.fixture
def results(tmp_path, rng):
    folder = tmp_path / "results" / "run"
    table = pd.DataFrame({"cryoetganClass": ["a", "b"] * 5, **{a: rng.random(10) for a in ANGLES}})
    real = table.assign(cryoetganSplit="test", rlnTomoName="t1")
    real[COORDINATES] = rng.uniform(10, 30, (10, 3))
    for name, rows in (
        ("particles/marked", real),
        ("particles/subtomograms", real),
        ("imaging/simulated", table),
        ("translation/smoke/generated", table),
        ("densities/poses", table),
    ):
        write_volume_set(folder / f"{name}.star", rng.random((10, 16, 16, 16)), rows, 10.0)
    write_star(folder / "particles" / "selected.star", real)
    write_volume(folder / "tomograms" / "t1.mrc", rng.standard_normal((40, 48, 56)), 10.0)
    (folder / "translation/smoke/checkpoint.pt").write_bytes(b"x")
    write_text(
        folder / "translation/smoke/log.csv",
        "step,loss_D_s,loss_D_d,cycle_d,cycle_s,sd_ratio\n1,1,1,1,1,1\n2,1,1,1,1,1\n",
    )
    for name, value in (
        ("gan_train", 0.8),
        ("physics_train", 0.5),
        ("ceiling", 0.78),
        ("gan_test", 0.7),
    ):
        write_json(folder / "evaluation" / f"{name}.json", result(value))
    metric = {"value": 0.1, "interval": [0.05, 0.15], "nulls": {"noise": 0.9}, "warning": None}
    flagged = metric | {"warning": "density is near its cap"}
    write_json(folder / "evaluation/measure.json", {"kid": metric, "density": flagged})
    write_json(folder / "evaluation/measure_untrained.json", {"kid": metric | {"value": 0.7}})
    write_json(folder / "evaluation/measure_physics.json", {"kid": metric})
    write_text(folder / "config.yaml", f"run: run # {HOSTILE}\n")
    return folder


def test_the_page_is_whole_self_contained_and_escaped(cryoetgan, results, tmp_path):
    cryoetgan("report", "build", results, "--title", HOSTILE, "-o", "page.html")
    page = (tmp_path / "page.html").read_text()
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"<script|src=\"(?!data:)|href=\"http", page)
    assert page.count("data:image/png;base64,") >= 8
    assert "80 %" in page
    assert "better than physics" in page
    assert "density is near its cap" in page
    assert "KID to real crops is 0.1 after training and 0.7 before: lower" in page
    assert 'id="gaps"' not in page
    # the same results give the same bytes
    cryoetgan("report", "build", results, "--title", HOSTILE, "-o", "again.html")
    assert (tmp_path / "again.html").read_text() == page


def test_what_is_missing_is_said(cryoetgan, results, tmp_path):
    (results / "imaging/simulated.mrcs").unlink()
    (results / "evaluation/measure.json").write_text("{")
    shutil.rmtree(results / "translation")
    cryoetgan("report", "build", results, "-o", "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "simulated.mrcs" in page
    assert "measure.json" in page
    assert 'id="gaps"' in page
    (tmp_path / "empty").mkdir()
    cryoetgan("report", "build", "empty", "-o", "empty.html")
    assert "No verdict" in (tmp_path / "empty.html").read_text()
    refused(cryoetgan("report", "build", "nowhere", "-o", "x.html", code=2), "nowhere")


@pytest.mark.parametrize(
    ("made", "physics", "ceiling", "tone", "words"),
    [
        (0.80, 0.50, 0.78, "good", "better than physics"),
        (0.60, 0.50, 0.90, "fair", "short of labelled"),
        (0.52, 0.50, 0.90, "bad", "no better than guessing"),
        (0.70, 0.72, 0.90, "fair", "adds nothing"),
        (0.60, 0.80, 0.90, "bad", "Physics alone does better"),
    ],
)
def test_the_verdict_follows_from_the_numbers(made, physics, ceiling, tone, words):
    found = {
        "gan_train": result(made),
        "physics_train": result(physics),
        "ceiling": result(ceiling),
    }
    verdict = conclude(found, "marked", simulated=False)
    assert verdict.tone == tone
    assert words in verdict.sentence
    assert verdict.caveats == []
    found["gan_test"] = result(0.99)
    assert ("may carry a mark" in " ".join(conclude(found, "marked", False).caveats)) == (
        made < 0.79
    )


def test_pseudo_labels_and_simulated_tomograms_are_called_so():
    caveats = " ".join(conclude({"gan_train": result(0.8)}, "template", True).caveats)
    assert "best template" in caveats
    assert "simulated" in caveats


@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_fits_a_phone_and_a_laptop(cryoetgan, results, tmp_path, width):
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not installed: the page is not looked at")
    cryoetgan("report", "build", results, "-o", "page.html")
    probe = "<script>document.title='W'+document.documentElement.scrollWidth</script></body>"
    page = (tmp_path / "page.html").read_text().replace("</body>", probe)
    (tmp_path / "probe.html").write_text(page)
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", f"--user-data-dir={tmp_path / 'browser'}",
            f"--window-size={width},1000", "--dump-dom", (tmp_path / "probe.html").as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = int(re.search(r"<title>W(\d+)", done.stdout)[1])
    assert found <= max(width, 500), "the page is wider than the window"
