"""The `evaluation` stage."""
