"""The `structures` stage."""
