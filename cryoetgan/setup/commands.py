"""Commands that belong to no stage: init, check, validate."""

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
