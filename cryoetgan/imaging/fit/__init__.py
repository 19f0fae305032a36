"""Fit an imaging model to a tomogram and its picks."""
