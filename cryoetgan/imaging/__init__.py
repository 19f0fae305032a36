"""The `imaging` stage."""
