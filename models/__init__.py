"""Reference early-exit networks: definitions in torch, training recipes and small .onnx files.

Not part of the installed package. `python -m models.digits` trains and exports `models/digits.onnx`
(needs the extra `train`); `python -m models.demo` compiles and runs that file (needs the extra `demo`).
"""
