"""ONNX graphs: their parts, their types, and which TensorRT accepts them."""
