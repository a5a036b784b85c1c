"""Files: written whole or not at all, by whom, found by pattern, and tables."""
