"""Particle picking by Difference of Gaussians."""
