"""Plumbline's offline package: data, training, evaluation and export of the models that `service` serves."""

import service  # noqa: F401  (switches ONNX Runtime's telemetry off before anything here imports it)
