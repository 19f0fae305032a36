"""Reading and writing: MRC, STAR, volume sets, provenance records."""
