"""The `densities` stage."""
