"""An ONNX file becomes a TensorRT engine."""
