"""A detector taught by synthetic tomograms: picks with class and score."""
