"""Commands of the `export` stage."""

from cryoetgan.command import group

app = group("")
