"""Whether a place for objects can be relied on, found out by trying."""
