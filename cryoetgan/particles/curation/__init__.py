"""Selection, splits, and review by a person."""
