"""`python -m cryoetgan` is the `cryoetgan` command."""

from cryoetgan.cli import main

main()
