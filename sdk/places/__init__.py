"""The map file: places and descriptors in one SQLite database."""
