"""Model zoos: populations trained together, their records, their storage, and readers of checkpoint files."""
