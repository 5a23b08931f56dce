"""Measurements: recall at K, data sets with ground truth, latency."""
