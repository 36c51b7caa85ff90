"""The verdicts as text for people's programs (JSON) and for node_exporter's textfile collector."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from service.api.reports import utc
from service.driftjob.verdicts import Concept, Separation, Verdict

MODEL = ("model_name", "model_version")
GROUP = (*MODEL, "sensitive_feature", "group")


def as_json(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """One object for each model version; times in UTC."""
    made = [asdict(verdict) for verdict in verdicts]
    for verdict in made:
        for stream in verdict["concept_drift"].get("streams", ()):
            for change in stream["changes"]:
                change |= {name: utc(change[name]) for name in ("found_at", "began_at")}
    return made


def write_metrics(verdicts: Sequence[Verdict], path: Path, *, now: float) -> None:
    """Replace `path`, at once. What could not be judged has no series."""
    write_to_textfile(str(path), registry_of(verdicts, now=now))


def registry_of(verdicts: Sequence[Verdict], *, now: float) -> CollectorRegistry:
    """Gauges of what was found at `now`."""
    registry = CollectorRegistry()
    auc = Gauge(
        "plumbline_domain_classifier_auc",
        "How well recent rows are told from the reference: 0.5 not at all, 1 always.",
        MODEL,
        registry=registry,
    )
    p_value = Gauge(
        "plumbline_domain_classifier_p_value", "Chance of such an AUC without drift.", MODEL, registry=registry
    )
    rows = Gauge("plumbline_domain_classifier_rows", "Rows that were compared.", (*MODEL, "source"), registry=registry)
    changes = Gauge(
        "plumbline_concept_drift_changes", "Changes of the error rate in the window.", GROUP, registry=registry
    )
    latest = Gauge(
        "plumbline_concept_drift_latest_change_timestamp_seconds",
        "When the outcome arrived that showed the latest change of the error rate.",
        GROUP,
        registry=registry,
    )
    errors = Gauge(
        "plumbline_concept_error_ratio",
        "Share of wrong predictions since the last change in the window.",
        GROUP,
        registry=registry,
    )
    outcomes = Gauge("plumbline_concept_outcomes", "Outcomes since that change.", GROUP, registry=registry)
    Gauge("plumbline_drift_job_last_success_timestamp_seconds", "When the job last finished.", registry=registry).set(
        now
    )
    for verdict in verdicts:
        model = (verdict.model_name, verdict.model_version)
        if isinstance(found := verdict.domain_classifier, Separation):
            auc.labels(*model).set(found.auc)
            p_value.labels(*model).set(found.p_value)
            rows.labels(*model, "reference").set(found.reference_rows)
            rows.labels(*model, "current").set(found.current_rows)
        if isinstance(concept := verdict.concept_drift, Concept):
            for stream in concept.streams:
                labels = (*model, stream.sensitive_feature, stream.group)
                changes.labels(*labels).set(len(stream.changes))
                if stream.changes:
                    latest.labels(*labels).set(max(change.found_at for change in stream.changes))
                errors.labels(*labels).set(stream.error_ratio)
                outcomes.labels(*labels).set(stream.window_n)
    return registry
