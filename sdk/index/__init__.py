"""The search index of a map."""
