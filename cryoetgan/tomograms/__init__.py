"""The `tomograms` stage."""
