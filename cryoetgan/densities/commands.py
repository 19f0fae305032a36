"""Commands of the `densities` stage."""

from cryoetgan.command import group

app = group("")
