"""The fairness report as a page: each sensitive feature's groups against their reference group."""

from service.api.page.fairness.render import render_fairness

__all__ = ["render_fairness"]
