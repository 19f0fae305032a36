"""Labelled synthetic cryo-electron tomograms that look like one's own microscope's."""

__version__ = "0.1.0"
