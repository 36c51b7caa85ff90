"""The dashboard Service: requests, runs of the model, explanations and records of the service itself."""

from k8s.monitoring.dashboards import panels, tables
from k8s.monitoring.dashboards.frame import Json, dashboard
from k8s.monitoring.dashboards.health import health
from k8s.monitoring.dashboards.panels import COUNT, PERCENT, SECONDS, Panel, Query
from k8s.monitoring.dashboards.tables import Column
from k8s.monitoring.dashboards.variables import MODEL, of

RANGE = "$__rate_interval"
QUANTILES = (0.5, 0.9, 0.99)
ROUTES = 'route!~"/metrics|/v2/health/.*"'
READY, REFUSED = (of(f"plumbline_model_{state}", 'model_name="$model"') for state in ("ready", "refused"))
QUARTER = (6, 8)


def service() -> Json:
    """The dashboard."""
    return dashboard(
        "Service",
        "Requests, runs of the model, explanations and records: whether the service answers, how fast, and what it "
        "keeps.",
        ("datasource", "model", "version"),
        ("Requests, all models", requests()),
        ("Runs of ${model} ${version}", runs()),
        ("Explanations of ${model} ${version}", explanations()),
        ("Records, all models", records()),
        empty="nothing was counted",
    )


def rate(counter: str, *labels: str, selector: str = "") -> str:
    """Events per second, over all replicas."""
    return f"sum by ({', '.join(labels)}) (rate({of(counter, selector)}[{RANGE}]))"


def quantiles(
    histogram: str, *labels: str, selector: str = "", of_shares: tuple[float, ...] = QUANTILES
) -> list[Query]:
    """Quantiles over all replicas, of what happened; where nothing did they are NaN, which the comparison drops."""
    buckets = rate(f"{histogram}_bucket", "le", *labels, selector=selector)
    names = "".join(f" {{{{{label}}}}}" for label in labels)
    return [(f"{share:.0%}{names}", f"histogram_quantile({share:g}, {buckets}) >= 0") for share in of_shares]


def requests() -> list[Panel]:
    """Rate, errors, duration."""
    requests_ = "plumbline_http_requests_total"
    total = f"(sum(rate({of(requests_, ROUTES)}[{RANGE}])) > 0)"
    share = f"(sum(rate({requests_}{{{ROUTES},status=~%s}}[{RANGE}])) or vector(0)) / {total}"
    return [
        panels.lines(
            "Requests by route",
            "Finished requests per second, without those of probes and of Prometheus; a route that falls to 0 has "
            "lost its callers or its way to them.",
            ("{{route}}", rate(requests_, "route", selector=ROUTES)),
            unit="reqps",
            size=QUARTER,
        ),
        panels.lines(
            "Requests by status",
            "Finished requests per second by status: 4xx are mistakes of callers, 503 means too much load or no "
            "records, 500 a fault of the service.",
            ("{{status}}", rate(requests_, "status", selector=ROUTES)),
            unit="reqps",
            size=QUARTER,
        ),
        panels.lines(
            "Share of errors",
            "Which share of requests ended in an error, of the caller (4xx) or of the service (5xx); only the latter "
            "should wake anybody.",
            ("4xx", share % '"4.."'),
            ("5xx", share % '"5.."'),
            unit=PERCENT,
            size=QUARTER,
        ),
        panels.lines(
            "Requests under way",
            "Requests that are being answered at this moment, over all replicas; a level that keeps rising means "
            "that answers fall behind.",
            ("under way", "sum(plumbline_http_requests_in_flight)"),
            unit=COUNT,
            size=QUARTER,
        ),
        panels.lines(
            "Latency",
            "From a request's first byte to the last of its answer, all routes but probes: 99 % were faster than the "
            "topmost line.",
            *quantiles("plumbline_http_request_duration_seconds", selector=ROUTES),
            unit=SECONDS,
        ),
        panels.lines(
            "99 % latency by route",
            "The duration that 99 % of the requests of each route stayed below; compare a route with its own past, "
            "not with others.",
            *quantiles("plumbline_http_request_duration_seconds", "route", selector=ROUTES, of_shares=(0.99,)),
            unit=SECONDS,
        ),
    ]


def runs() -> list[Panel]:
    """Batches, the queue before them, and what they run on."""
    rows = f"rate({of('plumbline_batch_rows_%s')}[{RANGE}])"
    return [
        panels.lines(
            "Rows per run",
            "How many rows one run of the model took: it grows with load, which is what lets the service keep up.",
            ("mean", f"sum({rows % 'sum'}) / (sum({rows % 'count'}) > 0)"),
            *quantiles("plumbline_batch_rows", selector=MODEL, of_shares=(0.99,)),
            unit=COUNT,
            size=QUARTER,
        ),
        panels.lines(
            "Rows predicted",
            "Rows per second that the model has predicted, over all replicas, whatever they were asked for.",
            ("rows", f"sum({rows % 'sum'})"),
            unit="cps",
            size=QUARTER,
        ),
        panels.lines(
            "Rows waiting",
            "Rows in the queue before the model, over all replicas: above 0 for long means that it is the model "
            "which limits.",
            ("rows", f"sum({of('plumbline_queue_rows')})"),
            unit=COUNT,
            size=QUARTER,
        ),
        panels.lines(
            "Duration of a run",
            "How long one run of the model takes, without the wait before it.",
            *quantiles("plumbline_batch_duration_seconds", selector=MODEL),
            unit=SECONDS,
            size=QUARTER,
        ),
        tables.rows(
            "Provider and device",
            "One row per provider, with the device and how many replicas run on it: a row too many means that some "
            "replica fell back, to the CPU for instance.",
            {"provider": "Provider", "device": "Device"},
            Column(
                "Replicas",
                f"count by (provider, device) ({of('plumbline_model_info')})",
                COUNT,
                0,
            ),
            size=(9, 6),
        ),
        tables.rows(
            "Versions ready",
            "One row per version of this model: how many replicas have it loaded and checked, and how many refused the "
            "package that they last saw, also where the one before serves.",
            {"model_version": "Version"},
            Column("Ready", f"sum by (model_version) ({READY})", COUNT, 0),
            Column("Refused", f"sum by (model_version) ({REFUSED})", COUNT, 0),
            chooses="version",
            size=(9, 6),
        ),
        panels.number(
            "Packages refused, all models",
            "How many packages replicas refused when they last saw them, each replica counted; it should be 0.",
            "sum(plumbline_model_refused)",
            unit=COUNT,
            bad_above=1,
            size=(6, 6),
        ),
    ]


def explanations() -> list[Panel]:
    """How many, how fast, how exact."""
    return [
        panels.lines(
            "Explained rows by status",
            "Rows per second for which callers asked an explanation, by what came of it; skipped and failed ones "
            "were answered without, estimates are less exact than exact ones.",
            ("{{status}}", rate("plumbline_explanations_total", "status", selector=MODEL)),
            unit="cps",
            size=QUARTER,
        ),
        panels.lines(
            "Duration of an explanation",
            "How long the explainer takes for one row, by algorithm.",
            *quantiles("plumbline_explanation_duration_seconds", "algorithm", selector=MODEL),
            unit=SECONDS,
            size=QUARTER,
        ),
        panels.lines(
            "Additivity residual",
            "By how much base value plus SHAP values miss the margin, in margin units: rounding makes a millionth, a "
            "rise means that explanations no longer add up to the score.",
            *quantiles("plumbline_additivity_residual", selector=MODEL, of_shares=(0.5, 1)),
            unit="sci",
            size=QUARTER,
        ),
        panels.lines(
            "Samples for the monitor",
            "Predictions per second drawn to be explained for the monitor alone: dropped ones gave way to callers "
            "and make the attributions less certain, not wrong.",
            ("{{result}}", rate("plumbline_explanation_samples_total", "result", selector=MODEL)),
            unit="cps",
            size=QUARTER,
        ),
    ]


def records() -> list[Panel]:
    """What is written down, and whether it keeps up."""
    committed = 'result="committed"'
    return [
        panels.lines(
            "Rows waiting to be recorded",
            "Rows in the queue before the records, over all replicas: answers wait for it unless the service is set "
            "to answer first.",
            ("rows", "sum(plumbline_audit_queue_rows)"),
            unit=COUNT,
            size=QUARTER,
        ),
        panels.lines(
            "Audit lag",
            "How long a row waits to be recorded at the present rate, the queue over the rows committed per second.",
            (
                "lag",
                f"sum(plumbline_audit_queue_rows) / ({rate('plumbline_audit_rows_total', selector=committed)} > 0)",
            ),
            unit=SECONDS,
            size=QUARTER,
        ),
        panels.lines(
            "Duration of a commit",
            "How long one transaction of the records takes; the disk or the database decides.",
            *quantiles("plumbline_audit_commit_duration_seconds"),
            unit=SECONDS,
            size=QUARTER,
        ),
        panels.lines(
            "Recorded rows",
            "Rows per second by whether their transaction was committed; any failed ones are decisions that were "
            "refused or went unrecorded.",
            ("{{result}}", rate("plumbline_audit_rows_total", "result")),
            unit="cps",
            size=QUARTER,
        ),
        panels.lines(
            "Outcomes received",
            "Outcomes per second that callers sent, of all models, by what came of them; only joined and corrected "
            "ones count in Fairness.",
            ("{{model_name}} {{result}}", rate("plumbline_outcomes_received_total", "model_name", "result")),
            unit="cps",
        ),
        *health(),
    ]
