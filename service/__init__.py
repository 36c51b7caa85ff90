"""Plumbline's serving package: predictions, explanations and fairness counters from ONNX model packages."""

import os

# ONNX Runtime reports usage to its vendor unless this is set before its first import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
