"""The first act: a Temporal workflow whose payloads are megabytes."""
