"""What training minimises: tuples, losses, and the weights of pairs."""
