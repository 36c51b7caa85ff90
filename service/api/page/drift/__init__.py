"""The drift report as a page: what the model sees and says now against its reference."""

from service.api.page.drift.render import render_drift

__all__ = ["render_drift"]
