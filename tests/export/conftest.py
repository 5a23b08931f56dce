"""Puts this folder on the path, for what the tests below it share."""
