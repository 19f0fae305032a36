"""Import of tomograms: read, resample, normalise."""
