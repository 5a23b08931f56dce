"""Measuring recall on data sets with ground truth, and latency."""
