"""The `translation` stage."""
