"""Loading model packages and running them: ONNX Runtime sessions, batching, the repository. Knows no HTTP."""
