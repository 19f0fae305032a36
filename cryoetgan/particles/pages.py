"""Keep a memory-mapped tomogram from filling the memory."""

from cryoetgan.pages import release

__all__ = ["release"]
