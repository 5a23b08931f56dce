"""Frames: where they come from, and what a network is fed."""
