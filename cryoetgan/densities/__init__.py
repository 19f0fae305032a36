"""Densities: structure to density map, membranes, random poses."""

from typing import Any

__all__ = ["simulate"]


def __getattr__(name: str) -> Any:
    """Import `simulate` at its first use, so that importing the stage's commands stays fast."""
    if name == "simulate":
        from cryoetgan.densities.density_from_atoms import simulate

        return simulate
    raise AttributeError(f"module 'cryoetgan.densities' has no attribute '{name}'")
