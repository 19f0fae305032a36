"""The command line: light to start, clear when refused, exit codes as promised."""

import subprocess
import sys

from cryoetgan.cli import STAGES
from tests.conftest import ROOT, refused

HEAVY = ("torch", "gemmi", "matplotlib", "skimage", "pandas", "copick", "jinja2", "scipy")


def test_help_of_any_stage_imports_nothing_heavy():
    program = (
        "import sys\nfrom cryoetgan.cli import build\ntree = build()\n"
        f"for stage in {list(STAGES)!r}:\n"
        "    assert not tree.main([stage, '--help'], standalone_mode=False)\n"
        f"    print('LOADED', stage, sorted(set(sys.modules) & set({HEAVY!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for stage in STAGES:
        assert f"LOADED {stage} []" in done.stdout, done.stdout


def test_a_stage_starts_without_the_commands_of_others_and_without_numpy():
    program = (
        "import sys\nfrom cryoetgan.cli import build\nbuild('structures'), build('particles')\n"
        "print('numpy' in sys.modules, 'cryoetgan.evaluation.commands' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]


def test_a_process_of_its_own_says_and_returns_what_this_one_does(process, cryoetgan):
    for words, code in ((("--version",), 0), (("particles", "pik"), 2)):
        done, here = process(*words, code=code), cryoetgan(*words, code=code)
        assert (done.stdout, done.stderr) == (here.stdout, here.stderr)


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


def test_every_command_takes_what_all_take_and_speaks_of_a_seed_where_there_is_chance():
    from cryoetgan.cli import build

    tree = build()
    for stage in STAGES:
        for verb, command in tree.commands[stage].commands.items():
            options = {word: item for item in command.params for word in item.opts}
            assert {"--seed", "--verbose", "-v", "--quiet", "-q"} <= set(options), f"{stage} {verb}"
    options = {
        verb: {word: item for item in command.params for word in item.opts}["--seed"].hidden
        for verb, command in tree.commands["particles"].commands.items()
    }
    assert options["pick"]
    assert not options["average"]


def test_a_command_without_chance_takes_a_seed(cryoetgan, tmp_path):
    cryoetgan("structures", "phantom", "tric", "--seed", 4, "-o", "one.cif")
    cryoetgan("structures", "phantom", "tric", "-o", "two.cif")
    assert (tmp_path / "one.cif").read_bytes() == (tmp_path / "two.cif").read_bytes()


def test_a_defect_keeps_its_traceback_and_exits_1(tmp_path):
    program = (
        "import cryoetgan.cli as cli\n"
        "def broken(stage): raise RuntimeError('ours')\n"
        "cli.build = broken\ncli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "RuntimeError: ours" in done.stderr
