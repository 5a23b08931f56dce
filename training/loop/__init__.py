"""The training loop: steps, stages, metrics."""
