"""Optics, acquisition geometry, rotations, coordinates."""
