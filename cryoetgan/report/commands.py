"""Commands of the `report` stage."""

from cryoetgan.command import group

app = group("")
