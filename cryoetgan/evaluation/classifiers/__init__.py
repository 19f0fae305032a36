"""Classifiers of subtomograms: networks, training, accuracy."""
