"""Subtomogram averages and their FSC."""
