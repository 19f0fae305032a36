"""Commands of the `structures` stage."""

from cryoetgan.command import group

app = group("")
