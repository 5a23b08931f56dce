"""Networks: trunks, heads, checkpoints."""
