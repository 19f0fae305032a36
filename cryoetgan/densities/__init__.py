"""Densities: structure to density map, membranes, random poses."""

from typing import Any

__all__ = ["simulate"]


def __getattr__(name: str) -> Any:
    """Load `simulate` on first use: importing the stage's commands stays light."""
    if name == "simulate":
        from cryoetgan.densities.density_from_atoms import simulate

        return simulate
    raise AttributeError(f"module 'cryoetgan.densities' has no attribute '{name}'")
