"""Trees of files in an object store: a folder-like view of keys."""
