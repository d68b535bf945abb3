"""Shows coatcheck at work on real servers of its own: `python -m demo`, or `make demo`."""
