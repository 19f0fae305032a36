"""Tests, one folder a stage."""
