"""The `imaging` stage."""

GOOD_POWER_RATIO = 0.9, 1.1
"""Simulated over real power by shell: a fit, or a set, outside it in any shell is not a good one."""
