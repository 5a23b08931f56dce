"""Reading frames from images, folders, CSVs and videos, and preparing them for a network."""
