"""Confidence intervals, and the groups of volumes that they are drawn from."""
