"""What the branches are fed: images, label maps, augmentation."""
