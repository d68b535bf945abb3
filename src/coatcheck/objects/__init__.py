"""The ObjectStore port, and its stores: S3, a local folder, memory; URLs open them."""
