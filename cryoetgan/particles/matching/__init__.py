"""Template matching: scores, whole tomograms, refinement."""
