"""Geometry, optics and coordinates that several stages share."""
