"""Comparison of synthetic sets over several seeds."""
