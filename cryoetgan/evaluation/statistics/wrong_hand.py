"""Limits of the alarm of a wrong hand, for the test (`evaluation.hand`) and the report."""

CLEAR_SHARE = 0.25
"""Share of picks that prefer the map, below which a wrong hand is the only explanation. Of 508 picks
of six species, none of them hemagglutinin, 42 % prefer its map, which is significant."""
SIGNIFICANCE = 1e-3
"""Probability that picks of nothing raise the alarm of a wrong hand."""
