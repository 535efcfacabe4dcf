"""The steps of `qutec.load`: from the bytes of an ONNX file to one static graph at one opset."""
