"""Import of subtomograms that other programs extracted."""
