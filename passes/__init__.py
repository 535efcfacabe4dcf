"""Graph passes: onnx_ir model in, valid onnx_ir model out, one pass a file."""
