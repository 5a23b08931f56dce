"""Inputs of the branches: frames, label maps, augmentation."""
