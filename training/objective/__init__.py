"""Training objective: tuples, losses, and the weights of pairs."""
