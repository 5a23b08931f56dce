"""Label maps: labelling with a segmentation network, and encoding (SLME)."""
