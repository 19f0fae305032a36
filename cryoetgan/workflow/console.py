"""What a run prints: one line per step, warnings, errors, and the end.

Snakemake's log file (.snakemake/log) keeps all its messages; the output of each step is in the
step's own log file. A dry run and `--verbose` print everything, as Snakemake does.
"""

import logging
import sys
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TextIO

FAILURE = "cryoetgan: "
"""Start of the line with which a command reports a mistake of the user."""
WARNING = "WARNING "
MAX_WARNINGS_SHOWN = 3
"""Per step; the others are in the log."""
EVENTS = {
    "WORKFLOW_STARTED",
    "RUN_INFO",
    "RESOURCES_INFO",
    "JOB_INFO",
    "JOB_STARTED",
    "JOB_FINISHED",
    "JOB_ERROR",
    "GROUP_INFO",
    "GROUP_ERROR",
    "PROGRESS",
}
"""Events that `StepHandler` prints in its own way."""
CHATTER = (
    "Assuming unrestricted shared filesystem",
    "Building DAG of jobs",
    "Complete log(s):",
    "Conda environments: ignored",
    "Elapsed time:",
    "Execute ",
    "Group jobs: inactive",
    "host: ",
    "Provided cores:",
    "Provided resources:",
    "Rules claiming more threads",
    "Select jobs to execute",
    "Singularity containers: ignored",
    "Using shell:",
)
"""Beginnings of messages without an event that say nothing of the run."""


def install(logger: logging.Logger, is_dry_run: Callable[[], bool]) -> None:
    """Replace the messages that Snakemake prints by one line per step.

    Parameters
    ----------
    logger : logging.Logger
        Snakemake's; its handlers on the screen get a filter, its log file does not.
    is_dry_run : callable
        Whether the run is a dry run, which Snakemake knows after the rules are read.
    """
    if logger.level <= logging.DEBUG:
        return

    def is_wanted(record: logging.LogRecord) -> bool:
        return is_dry_run() or not is_replaced(record)

    for handler in logger.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.addFilter(is_wanted)
    steps = StepHandler()
    steps.addFilter(lambda record: not is_dry_run())
    logger.addHandler(steps)


def is_replaced(record: logging.LogRecord) -> bool:
    """Return whether a record is printed in another way, or tells a user nothing."""
    event = event_name(record)
    if event is None:
        return record.levelno < logging.WARNING and record.getMessage().startswith(CHATTER)
    # a failed command is printed with its log, without the whole command line
    return event in EVENTS or (event == "ERROR" and "CalledProcessError" in record.getMessage())


def event_name(record: logging.LogRecord) -> str | None:
    """Return the name of the event that a record of Snakemake stands for, if any."""
    return getattr(getattr(record, "event", None), "name", None)


class StepHandler(logging.Handler):
    """Print one line per finished step: progress, rule, item, seconds.

    Parameters
    ----------
    stream : TextIO
        Where lines go; a terminal also shows a bar below them.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(logging.INFO)
        self.stream = stream or sys.stderr
        self.started: dict[int, tuple[float, Mapping[str, Any]]] = {}
        self.done, self.total = 0, 0
        self.bar = Bar(self.stream)

    def emit(self, record: logging.LogRecord) -> None:
        """Handle one record of Snakemake's logger."""
        try:
            self._emit(record)
        except Exception:  # noqa: BLE001 a display must never end a run
            self.handleError(record)

    def _emit(self, record: logging.LogRecord) -> None:
        event, values = event_name(record), record.__dict__
        if event == "JOB_INFO":
            self.started[values["jobid"]] = time.monotonic(), values
        elif event == "RUN_INFO":
            self.total = values["stats"].get("total", 0)
        elif event == "PROGRESS":
            self.done, self.total = values["done"], values["total"]
            self.bar.show(self.done, self.total)
        elif event == "JOB_FINISHED":
            self._finish(values["job_id"])
        elif event == "JOB_ERROR":
            self._fail(values)

    def write(self, text: str) -> None:
        """Print one line above the bar."""
        self.bar.hide()
        self.stream.write(text.rstrip("\n") + "\n")
        self.bar.show(self.done, self.total)
        self.stream.flush()

    def _finish(self, jobid: Any) -> None:
        started = self.started.pop(jobid, None)
        if started is None or not started[1].get("log"):
            return
        begin, job = started
        seconds = time.monotonic() - begin
        width = len(str(self.total))
        count = f"[{self.done + 1:>{width}}/{self.total}]"
        self.write(f"{count} {step_name(job):<56} {seconds:8.1f} s")
        warnings = lines_of(job["log"], WARNING)
        for line in warnings[:MAX_WARNINGS_SHOWN]:
            self.write(f"  {line}")
        if len(warnings) > MAX_WARNINGS_SHOWN:
            self.write(f"  {len(warnings) - MAX_WARNINGS_SHOWN} more warnings in {job['log'][0]}")

    def _fail(self, job: Mapping[str, Any]) -> None:
        self.started.pop(job["jobid"], None)
        logs = [str(path) for path in job.get("log") or []]
        self.write(f"FAILED {step_name(job)}" + "".join(f" (log: {path})" for path in logs))
        for line in lines_of(logs, FAILURE) or last_lines(logs):
            self.write(f"  {line.removeprefix(FAILURE)}")


class Bar:
    """A progress bar on a terminal; nothing elsewhere."""

    WIDTH = 40

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.visible = stream, stream.isatty()

    def show(self, done: int, total: int) -> None:
        """Draw the bar on the last line."""
        if self.visible and total:
            filled = "#" * (self.WIDTH * done // total)
            self.stream.write(f"\r[{filled:<{self.WIDTH}}] {done} of {total} steps")
            self.stream.flush()

    def hide(self) -> None:
        """Clear the last line."""
        if self.visible:
            self.stream.write("\r\x1b[K")


def step_name(job: Mapping[str, Any]) -> str:
    """Return the name of a step: stage and verb of its rule, then its wildcards."""
    rule = str(job.get("rule_name", "")).replace("_", " ", 1).replace("_", "-")
    wildcards = job.get("wildcards") or {}
    return " ".join([rule, *map(str, wildcards.values())])


def lines_of(logs: Collection[str], start: str) -> list[str]:
    """Return the distinct lines of some log files that begin with `start`, in order."""
    found = []
    for path in map(Path, logs):
        if path.exists():
            text = path.read_text(encoding="utf-8", errors="replace")
            found += [line for line in text.splitlines() if line.startswith(start)]
    return list(dict.fromkeys(found))


def last_lines(logs: Collection[str]) -> list[str]:
    """Return the last line of each log file that has one: of a traceback, its error."""
    found = []
    for path in map(Path, logs):
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        found += text.splitlines()[-1:]
    return found


def failures_since(folder: Path, start: float) -> list[tuple[str, Path]]:
    """Return (message, log file) of each command that failed since a time (s, epoch)."""
    return [
        (line.removeprefix(FAILURE), path)
        for path in sorted(folder.rglob("*.log"))
        if path.stat().st_mtime >= start
        for line in lines_of([str(path)], FAILURE)
    ]
