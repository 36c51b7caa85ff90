"""Why a measurement gives no figures.

BenchError
├── Unsuitable          this machine or model cannot be measured; exit code 2
└── MeasurementFailed   a server did not start, or answered something else than asked; exit code 1
"""


class BenchError(Exception):
    """Anything that ends a measurement without figures."""

    exit_code = 1


class Unsuitable(BenchError):
    """Something that the measurement needs is not here. Nothing was started."""

    exit_code = 2


class MeasurementFailed(BenchError):
    """Something went wrong while measuring, so that its figures would mean nothing."""
