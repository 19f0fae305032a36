"""Commands of the `translation` stage."""

from cryoetgan.command import group

app = group("")
