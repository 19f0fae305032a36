"""Metrics of volume sets, with baselines, intervals and warnings."""
