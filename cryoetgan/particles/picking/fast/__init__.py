"""Difference-of-Gaussians picking on a coarse grid."""
