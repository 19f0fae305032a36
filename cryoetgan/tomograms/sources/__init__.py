"""Tomograms from files, URLs, archives and data portals."""
