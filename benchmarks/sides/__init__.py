"""What is measured beside each other: one module for each side."""
