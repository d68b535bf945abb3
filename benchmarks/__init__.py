"""coatcheck beside its peers, on the same server, in one run: `python -m benchmarks`."""
