"""The index beside a map: derived from it, and kept in step with it."""
