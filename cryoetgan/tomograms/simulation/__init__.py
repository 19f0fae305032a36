"""Simulated tomograms with ground truth."""
