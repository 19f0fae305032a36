"""Commands of the `evaluation` stage."""

from cryoetgan.command import group

app = group("")
