"""Commands of the `particles` stage."""

from cryoetgan.command import group

app = group("")
