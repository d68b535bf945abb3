"""Plugs for frameworks, one folder each. None is imported unless you import it."""
