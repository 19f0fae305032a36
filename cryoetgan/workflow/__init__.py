"""The logic of the Snakemake workflow: files, options and dependencies of each stage."""
