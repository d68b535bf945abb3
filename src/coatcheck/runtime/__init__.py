"""How the core waits, runs things side by side and tells time."""
