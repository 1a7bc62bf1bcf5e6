"""Meta-World's fifty tasks: one arm at a table."""
