"""What Prometheus sees of the service itself: requests, batches, queues, models.

Label values come from the code and the manifests, never from a request: a caller cannot make a new series.
"""

import itertools
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.errors import LOADING_STEPS, REFUSAL_REASONS, InvalidValue, PlumblineError
from service.manifest import Manifest

# A `_created` series for each counter would double the exposition and nobody reads them.
disable_created_metrics()  # type: ignore[no-untyped-call]

LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
RESIDUAL_BUCKETS = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0)
MODEL_LABELS = ("model_name", "model_version")
ROW_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The service's counters in one registry. `observe_*` are cheap and may be called on the event loop."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = Counter(
            "plumbline_http_requests", "Finished HTTP requests.", ("route", "method", "status"), registry=registry
        )
        self.latency = Histogram(
            "plumbline_http_request_duration_seconds",
            "From the request's first byte in the service to the last byte of its response.",
            ("route",),
            registry=registry,
            buckets=LATENCY_BUCKETS,
        )
        self.in_flight = Gauge("plumbline_http_requests_in_flight", "HTTP requests under way.", registry=registry)
        self.batch_rows = Histogram(
            "plumbline_batch_rows", "Rows in one run of a model.", MODEL_LABELS, registry=registry, buckets=ROW_BUCKETS
        )
        self.batch_latency = Histogram(
            "plumbline_batch_duration_seconds",
            "Duration of one run of a model.",
            MODEL_LABELS,
            registry=registry,
            buckets=(0.00001, 0.000025, 0.00005, 0.0001, 0.00025, *LATENCY_BUCKETS),
        )

        self.scored_rows = Counter(
            "plumbline_scored_rows", "Rows of files that were answered by :score.", MODEL_LABELS, registry=registry
        )
        self.explanations = Counter(
            "plumbline_explanations",
            "Rows for which an explanation was asked, by what came of it.",
            (*MODEL_LABELS, "status"),
            registry=registry,
        )
        self.explanation_latency = Histogram(
            "plumbline_explanation_duration_seconds",
            "Duration of the explainer's runs for one row.",
            (*MODEL_LABELS, "algorithm"),
            registry=registry,
            buckets=LATENCY_BUCKETS,
        )
        self.additivity_residual = Histogram(
            "plumbline_additivity_residual",
            "Largest difference between base value plus values and the explained margin, in margin units.",
            MODEL_LABELS,
            registry=registry,
            buckets=RESIDUAL_BUCKETS,
        )
        self.explanation_samples = Counter(
            "plumbline_explanation_samples",
            "Predictions drawn to be explained for the monitor alone, by what came of it.",
            (*MODEL_LABELS, "result"),
            registry=registry,
        )
        self.refused_values = Counter(
            "plumbline_refused_values",
            "Requests that were refused, by the first value that does not fit.",
            (*MODEL_LABELS, "feature", "reason"),
            registry=registry,
        )
        self.outcomes_received = Counter(
            "plumbline_outcomes_received",
            "Outcomes that callers sent, by what came of them.",
            ("model_name", "result"),
            registry=registry,
        )
        self.load_failures = Counter(
            "plumbline_model_load_failures",
            "Attempts to load a package that was refused, by the step that refused it.",
            ("model_name", "step"),
            registry=registry,
        )
        self.audit_rows = Counter(
            "plumbline_audit_rows", "Rows of attempts to write to the records.", ("result",), registry=registry
        )
        self.audit_latency = Histogram(
            "plumbline_audit_commit_duration_seconds",
            "Duration of one transaction of the records.",
            registry=registry,
            buckets=LATENCY_BUCKETS,
        )
        self._committed, self._not_committed = map(self.audit_rows.labels, ("committed", "failed"))

    def expect(self, manifest: Manifest, *, fates: Iterable[str]) -> None:
        """Have the series of a model that is served exist from the start; `fates` are those of outcomes."""
        for result in fates:
            self.outcomes_received.labels(manifest.name, result)
        for result in ("explained", "dropped", "failed") if manifest.explainer is not None else ():
            self.explanation_samples.labels(manifest.name, manifest.version, result)
        self.scored_rows.labels(manifest.name, manifest.version)
        for name, reason in itertools.product(manifest.feature_names, REFUSAL_REASONS):
            self.refused_values.labels(manifest.name, manifest.version, name, reason)
        for step in LOADING_STEPS:
            self.load_failures.labels(manifest.name, step)
        for histogram in (self.batch_rows, self.batch_latency):
            histogram.labels(manifest.name, manifest.version)

    def count_load_failure(self, model_name: str, error: PlumblineError) -> None:
        """Count a package that was refused; what is not its own fault is that of the records."""
        self.load_failures.labels(model_name, getattr(error, "step", "records")).inc()

    def count_refused(self, manifest: Manifest, error: InvalidValue) -> None:
        """Count a request that a value was refused in."""
        self.refused_values.labels(manifest.name, manifest.version, error.feature, error.reason).inc()

    def watch_records(self, waiting_rows: Callable[[], int]) -> None:
        """Show how many rows wait to be recorded."""
        gauge = Gauge("plumbline_audit_queue_rows", "Rows waiting to be recorded.", registry=self.registry)
        gauge.set_function(waiting_rows)

    def watch_monitor(self, failures: Callable[[], int], last_success_seconds: Callable[[], float]) -> None:
        """Show how the fairness monitor itself does."""
        self.registry.register(MonitorCollector(failures, last_success_seconds))

    def forget_features(self, old: Manifest, new: Manifest) -> None:
        """Remove the series of features that the package which took the place of another one does not have."""
        for name in set(old.feature_names) - set(new.feature_names):
            labels = {"model_name": old.name, "model_version": old.version, "feature": name}
            self.refused_values.remove_by_labels(labels)

    def forget_model(self, model_name: str, model_version: str) -> None:
        """Remove the series of a version that is no longer served."""
        own = [self.batch_rows, self.batch_latency, self.scored_rows, self.explanations, self.explanation_latency]
        for metric in (*own, self.additivity_residual, self.explanation_samples, self.refused_values):
            metric.remove_by_labels({"model_name": model_name, "model_version": model_version})

    def count_scored(self, manifest: Manifest, rows: int) -> None:
        """Count rows of a file; called from the thread that scores it."""
        self.scored_rows.labels(manifest.name, manifest.version).inc(rows)

    def count_commit(self, rows: int, seconds: float, error: Exception | None) -> None:
        """Count one transaction of the records."""
        (self._committed if error is None else self._not_committed).inc(rows)
        self.audit_latency.observe(seconds)

    def batch_observer(self, model_name: str, model_version: str) -> Callable[[int, float], None]:
        """A function of (rows, seconds) that counts runs of this model.

        Its series are looked up at the first run: it is made before it is known whether the model will serve.
        """
        children: list[Histogram] = []

        def observe(rows: int, seconds: float) -> None:
            if not children:
                children.extend(
                    histogram.labels(model_name, model_version) for histogram in (self.batch_rows, self.batch_latency)
                )
            rows_child, latency_child = children
            rows_child.observe(rows)
            latency_child.observe(seconds)

        return observe


class MonitorCollector(Collector):
    """Whether the fairness monitor counts."""

    def __init__(self, failures: Callable[[], int], last_success_seconds: Callable[[], float]) -> None:
        self._failures = failures
        self._last_success_seconds = last_success_seconds

    def collect(self) -> Iterable[Metric]:
        """Families for the exposition."""
        failures = CounterMetricFamily("plumbline_monitor_failures", "Inferences that could not be counted.")
        failures.add_metric((), self._failures())
        success = GaugeMetricFamily(
            "plumbline_monitor_last_success_timestamp_seconds", "When the inferences that waited were last counted."
        )
        success.add_metric((), self._last_success_seconds())
        return failures, success


class ModelCollector(Collector):
    """Info, readiness and queue depth of the models, computed at scrape time from what is loaded then."""

    def __init__(
        self,
        loaded: Callable[[], Iterable[tuple[tuple[str, str], dict[str, str], int]]],
        refused: Callable[[], Iterable[str]],
    ) -> None:
        """`loaded` gives ((name, version), info labels, waiting rows); `refused` gives `NAME/VERSION` keys.

        A key is in both where what was refused should have taken the place of what is loaded.
        """
        self._loaded = loaded
        self._refused = refused

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Families for the exposition."""
        info = GaugeMetricFamily(
            "plumbline_model_info", "A model that is served.", labels=(*MODEL_LABELS, "digest", "provider", "device")
        )
        ready = GaugeMetricFamily(
            "plumbline_model_ready", "1 if loaded and checked, 0 if refused.", labels=MODEL_LABELS
        )
        queue = GaugeMetricFamily("plumbline_queue_rows", "Rows waiting for a run.", labels=MODEL_LABELS)
        failed = GaugeMetricFamily(
            "plumbline_model_refused", "1 if the package that was last seen was refused.", labels=MODEL_LABELS
        )
        refused = set(self._refused())
        for key, labels, waiting_rows in self._loaded():
            info.add_metric((*key, labels["digest"], labels["provider"], labels["device"]), 1)
            ready.add_metric(key, 1)
            queue.add_metric(key, waiting_rows)
            failed.add_metric(key, "/".join(key) in refused)
            refused.discard("/".join(key))
        for other in sorted(refused):
            ready.add_metric(other.split("/", 1), 0)
            failed.add_metric(other.split("/", 1), 1)
        return info, ready, failed, queue
