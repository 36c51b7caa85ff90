"""The drift report as a page for people."""

from typing import Any


def render_drift(report: dict[str, Any]) -> str:
    """Placeholder until merged."""
    return str(report)
