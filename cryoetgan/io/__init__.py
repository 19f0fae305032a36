"""Files: MRC, STAR, volume sets, provenance."""
