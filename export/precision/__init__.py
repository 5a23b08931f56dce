"""A float32 ONNX file becomes fp16 or int8."""
