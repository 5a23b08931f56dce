"""Label maps: made by a segmentation network, encoded by SLME."""
