"""Simulated subtomograms and tomograms: conventional, fitted, ablated."""
