"""The `particles` stage."""
