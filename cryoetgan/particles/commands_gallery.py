"""Commands of the `particles` stage that show particles to a person."""

import typer


def register(app: typer.Typer) -> None:
    """Add this module's commands to the stage's group."""
