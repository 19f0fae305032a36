"""Training machinery shared by all models."""
