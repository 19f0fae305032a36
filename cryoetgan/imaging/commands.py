"""Commands of the `imaging` stage."""

from cryoetgan.command import group

app = group("")
