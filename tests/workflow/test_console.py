"""A run prints one line per step, its warnings, and its errors."""

import io
import logging
from types import SimpleNamespace

import pytest

from cryoetgan.workflow import console


@pytest.fixture
def logger():
    """A logger like Snakemake's, with one handler for the screen."""
    made = logging.Logger("run", logging.INFO)
    screen = io.StringIO()
    made.addHandler(logging.StreamHandler(screen))
    made.screen = screen
    return made


def say(logger, event, level=logging.INFO, text="", **values):
    logger.log(level, text, extra={"event": event and SimpleNamespace(name=event), **values})


def run_one(logger, log, failed=False):
    job = {"jobid": 3, "rule_name": "particles_score", "wildcards": {"tomogram": "t1"}}
    say(logger, "RUN_INFO", stats={"total": 12})
    say(logger, "JOB_INFO", log=[str(log)], **job)
    if failed:
        say(logger, "JOB_ERROR", logging.ERROR, log=[str(log)], **job)
    else:
        say(logger, "JOB_FINISHED", job_id=3)
        say(logger, "PROGRESS", done=1, total=12)


def test_a_step_is_one_line_and_its_warnings_follow(logger, tmp_path, capsys):
    console.install(logger, lambda: False)
    log = tmp_path / "score.log"
    log.write_text("INFO a\nWARNING few picks\nWARNING few picks\n" + "WARNING {}\n" * 5)
    run_one(logger, log)
    first, second, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("[ 1/12] particles score t1")
    assert first.endswith(" s")
    assert second.strip() == "WARNING few picks"
    assert logger.screen.getvalue() == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("INFO x\ncryoetgan: t1.mrc: is empty\n", "t1.mrc: is empty"),
        ("Traceback ...\nValueError: 3\n", "ValueError: 3"),
    ],
)
def test_a_failed_step_names_its_log_and_its_error(logger, tmp_path, capsys, text, shown):
    console.install(logger, lambda: False)
    log = tmp_path / "score.log"
    log.write_text(text)
    run_one(logger, log, failed=True)
    said = capsys.readouterr().err
    assert "FAILED particles score t1" in said
    assert str(log) in said
    assert said.splitlines()[-1].strip() == shown


def test_other_warnings_and_shell_commands_asked_for_stay(logger):
    console.install(logger, lambda: False)
    say(logger, None, text="Building DAG of jobs...")
    say(logger, None, logging.WARNING, "a file is missing")
    say(logger, "SHELLCMD", text="python -m cryoetgan")
    say(logger, "ERROR", logging.ERROR, "RuleException:\nCalledProcessError in file x")
    say(logger, None, text="Nothing to be done")
    said = logger.screen.getvalue().splitlines()
    assert said == ["a file is missing", "python -m cryoetgan", "Nothing to be done"]


def test_a_dry_run_and_a_verbose_one_print_everything(logger, capsys, tmp_path):
    console.install(logger, lambda: True)
    run_one(logger, tmp_path / "no.log")
    assert len(logger.screen.getvalue().splitlines()) == 4
    assert capsys.readouterr().err == ""
    verbose = logging.Logger("verbose", logging.DEBUG)
    console.install(verbose, lambda: False)
    assert verbose.handlers == []


def test_the_errors_of_a_run_are_its_own(tmp_path):
    for name, text in (("a", "cryoetgan: broken\n"), ("b", "INFO done\n")):
        (tmp_path / f"{name}.log").write_text(text)
    assert console.failures_since(tmp_path, 0) == [("broken", tmp_path / "a.log")]
    assert console.failures_since(tmp_path, (tmp_path / "a.log").stat().st_mtime + 10) == []


def test_a_bar_is_drawn_on_a_terminal_alone():
    screen = io.StringIO()
    console.Bar(screen).show(1, 2)
    assert screen.getvalue() == ""
    screen.isatty = lambda: True
    console.Bar(screen).show(1, 2)
    assert "1 of 2 steps" in screen.getvalue()
    assert "#" * (console.Bar.WIDTH // 2) in screen.getvalue()
