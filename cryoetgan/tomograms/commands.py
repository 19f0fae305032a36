"""Commands of the `tomograms` stage."""

from cryoetgan.command import group

app = group("")
