"""Training of ONNX graphs in torch (extra `train`); nothing here imports torch before it is needed."""
