"""Panels about the monitor itself, on every dashboard that would mislead if it were silent."""

from k8s.monitoring.alerts import SILENT_SECONDS
from k8s.monitoring.dashboards import panels
from k8s.monitoring.dashboards.panels import NUMBER, SECONDS, Panel


def health() -> list[Panel]:
    """When it last counted, and what it could not count."""
    return [
        panels.number(
            "Monitor last counted",
            "Seconds since the replica that is furthest behind has counted predictions by group; above "
            f"{SILENT_SECONDS} the monitor is silent, and what it shows is old.",
            "time() - min(plumbline_monitor_last_success_timestamp_seconds)",
            unit=SECONDS,
            bad_above=SILENT_SECONDS,
            size=(6, 8),
        ),
        panels.number(
            "Failures to count",
            "Inferences since the replicas started that were answered and could not be counted by group; it should "
            "be 0.",
            "sum(plumbline_monitor_failures_total)",
            unit=NUMBER,
            bad_above=1,
            size=(6, 8),
        ),
    ]
