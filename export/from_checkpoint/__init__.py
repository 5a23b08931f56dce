"""A training checkpoint becomes an ONNX file."""
