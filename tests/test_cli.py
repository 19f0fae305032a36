"""The command line: light to start, clear when refused, exit codes as promised."""

import subprocess
import sys

import pytest

from cryoetgan.cli import STAGES
from tests.conftest import ROOT, refused

HEAVY = ("torch", "gemmi", "matplotlib", "skimage", "pandas", "copick", "jinja2", "scipy")


@pytest.mark.parametrize("stage", STAGES)
def test_help_of_a_stage_imports_nothing_heavy(stage):
    program = (
        f"import sys\nsys.argv = ['cryoetgan', {stage!r}, '--help']\n"
        "from cryoetgan.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('LOADED', sorted(set(sys.modules) & set({HEAVY!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "LOADED []" in done.stdout, done.stdout


def test_version_and_unknown_commands(cryoetgan):
    assert cryoetgan("--version").stdout.startswith("cryoetgan 0.")
    refused(cryoetgan("particles", "pik", code=2), "pik", "pick")
    refused(cryoetgan("nonsense", code=2), "nonsense")
    refused(cryoetgan("check", "--config", "no.yaml", code=2), "no.yaml")


def test_every_command_says_what_it_does(cryoetgan):
    from cryoetgan.cli import build

    for name, group in build().commands.items():
        for verb, command in getattr(group, "commands", {"": group}).items():
            assert len(command.help or "") > 30, f"{name} {verb}"


def test_a_defect_keeps_its_traceback_and_exits_1(tmp_path):
    program = (
        "import cryoetgan.cli as cli\n"
        "def broken(): raise RuntimeError('ours')\n"
        "cli.build = broken\ncli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
