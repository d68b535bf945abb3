"""`python -m coatcheck.cli`, the same as `coatcheck`."""

from coatcheck.cli import main

main()
