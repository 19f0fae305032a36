"""CryoETGAN: labelled synthetic cryo-electron tomograms that match your own data."""

__version__ = "0.1.0"
