"""Brings a model that somebody else trained, as an ONNX file with its data, into a package that the service serves."""
