"""Studies: the paper's ablation and its report."""
