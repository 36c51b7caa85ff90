"""The alerts that watch the watching: too little evidence, a silent monitor, a refused package, the drift job."""

import pytest
from promtool import alive, constant, described, firing, passes, series

from k8s.monitoring.render_rules import render

RULES = render("10m", interval="1m", for_="2m", keep_firing_for="3m")
OF_DRIFT = render("10m", interval="1m", kind="drift", for_="2m", keep_firing_for="3m")
MODEL = {"model_name": "m", "model_version": "1"}
# Scraped and evaluated every 5 minutes: counts per step below are five times those per minute.
STEPS, EVERY = 8, "5m"
PREDICT = "/v1/models/{name}:predict"
LABELLED = ("true_positive_rate", "false_positive_rate", "positive_predictive_value")
EVERY_RATE = ("selection_rate", *LABELLED)


def group(name, predictions, outcomes=(0, 0, 0, 0)):
    """Predictions, half of each class, and the labelled cells TP, FP, FN, TN, all per minute."""
    labels = MODEL | {"sensitive_feature": "sex", "group": name}
    for predicted in ("0", "1"):
        yield series("plumbline_predictions_total", f"0+{predictions * 5 / 2}x{STEPS}", **labels, predicted=predicted)
    for (predicted, actual), n in zip((("1", "1"), ("1", "0"), ("0", "1"), ("0", "0")), outcomes, strict=True):
        cell = labels | {"predicted": predicted, "actual": actual}
        yield series("plumbline_outcomes_total", f"0+{n * 5}x{STEPS}", **cell)


def insufficient(*rates, time="30m"):
    labels = [MODEL | {"sensitive_feature": "sex", "rate": rate} for rate in rates]
    return firing("FairnessInsufficientEvidence", *labels, time=time)


@pytest.mark.parametrize(
    ("groups", "rates"),
    [
        pytest.param({"f": (100, (9, 9, 9, 9)), "m": (100, (9, 9, 9, 9))}, (), id="enough of all"),
        pytest.param({"f": (2, (1, 0, 0, 1)), "m": (100, (9, 9, 9, 9))}, EVERY_RATE, id="a small group"),
        pytest.param({"f": (100, (0, 9, 0, 9)), "m": (100, (9, 9, 9, 9))}, ("true_positive_rate",), id="no positives"),
        pytest.param({"f": (100,), "m": (100,)}, LABELLED, id="no outcomes"),
        pytest.param({"f": (0,), "m": (0,), "unknown": (100,)}, EVERY_RATE, id="all unknown"),
        pytest.param({"f": (0,), "m": (0,), "unknown": (0,)}, (), id="no traffic"),
        pytest.param({"f": (100, (9, 9, 9, 9)), "m": (100, (9, 9, 9, 9)), "unknown": (1,)}, (), id="few unknown"),
    ],
)
def test_too_little_evidence_is_said_once_per_rate(tmp_path, groups, rates):
    """One alert per sensitive feature and rate, however many declared groups are short; reserved ones do not count."""
    inputs = [one for name, counts in groups.items() for one in group(name, *counts)]
    passes(
        tmp_path,
        RULES,
        (
            [*inputs, *described(references=[("sex", "m")], samples=STEPS), *alive(STEPS, 300)],
            [insufficient(*rates)],
        ),
        every=EVERY,
    )


def test_evidence_is_not_missed_before_a_whole_window_was_counted(tmp_path):
    """A version that has just been deployed has little of everything, and lacks nothing."""
    inputs = [*group("f", 2), *group("m", 2)]
    passes(
        tmp_path,
        RULES,
        (
            [*inputs, *described(references=[("sex", "m")], samples=STEPS, positive=None), *alive(STEPS, 300)],
            [insufficient(time="10m"), insufficient("selection_rate", time="15m")],
        ),
        every=EVERY,
    )


def test_what_the_alert_on_evidence_says(tmp_path):
    """It names the groups that are short."""
    inputs = [*group("f", 2), *group("m", 100), *group("x", 0)]
    alert = {
        "eval_time": "30m",
        "alertname": "FairnessInsufficientEvidence",
        "exp_alerts": [
            {
                "exp_labels": MODEL
                | {"sensitive_feature": "sex", "rate": "selection_rate", "severity": "info", "window": "10m"},
                "exp_annotations": {
                    "summary": "m/1: the selection_rate by sex cannot be judged for 2 group(s)",
                    "description": "Over the last 10m the denominator of this rate was below 30 in: f (20 "
                    "predictions); x (0 predictions). No alert can speak for them, whether or not they are "
                    "treated alike.",
                    "action": "Nobody need get up for this. Judge these groups over a longer window; ask whether "
                    "callers send the sensitive feature (model_sensitive_feature:plumbline_sensitive_feature_coverage:"
                    "ratio_increase10m) and, for rates that need labels, outcomes. "
                    "Exact counts: GET /v1/models/m/fairness?sensitive_feature=sex.",
                },
            }
        ],
    }
    info = described(references=[("sex", "m")], samples=STEPS, positive=None)
    passes(tmp_path, RULES, ([*inputs, *info, *alive(STEPS, 300)], [], [alert]), every=EVERY)


def up():
    yield series("plumbline_http_requests_in_flight", constant(0, STEPS))


def succeeding(values=f"0+300x{STEPS}"):
    yield series("plumbline_monitor_last_success_timestamp_seconds", values)


def answering(predictions, *, status="200", rows=5):
    yield series("plumbline_http_requests_total", f"0+25x{STEPS}", route=PREDICT, method="POST", status=status)
    yield series("plumbline_batch_rows_sum", f"0+{rows * 5}x{STEPS}", **MODEL)
    if predictions is not None:
        labels = MODEL | {"sensitive_feature": "sex", "group": "f", "predicted": "0"}
        yield series("plumbline_predictions_total", f"0+{predictions * 5}x{STEPS}", **labels)


WHERE = {"job": "plumbline", "instance": "a:8000"}
SILENT = {
    "nothing is scraped": (
        [],
        "nothing_exported",
        "no replica exports the fairness monitor's metrics, nor any others of the service",
    ),
    "the monitor is not exported": (
        [*up()],
        "monitor_not_exported",
        "a:8000: the service is up and exports no metrics of the fairness monitor",
    ),
    "the monitor has stopped counting": (
        [*up(), *succeeding("0 300 600+0x6")],
        "not_counting",
        "a:8000: the monitor last counted 20m 0s ago, over 10 minutes",
    ),
    "predictions are answered and not counted": (
        [*up(), *succeeding(), *answering(0)],
        "predictions_not_counted",
        "a:8000: 50 rows of m/1 ran in 10 minutes, requests were answered with 200, and no prediction was counted",
    ),
}


@pytest.mark.parametrize("case", SILENT)
def test_silence_is_told_with_its_reason(tmp_path, case):
    """One alert, which says what is silent and where."""
    inputs, reason, summary = SILENT[case]
    labels = {"reason": reason, "severity": "warning", "window": "10m"}
    if inputs:
        labels |= WHERE
    if reason == "predictions_not_counted":
        labels |= MODEL
    alert = {
        "eval_time": "30m",
        "alertname": "FairnessMonitorSilent",
        "exp_alerts": [
            {
                "exp_labels": labels,
                "exp_annotations": {
                    "summary": summary,
                    "description": "While the fairness monitor is silent no other fairness alert can fire; that there "
                    "is none then means nothing.",
                    "action": "Look at the service's log and at plumbline_monitor_failures_total; where nothing is "
                    "exported, at the scrape configuration and at up.",
                },
            }
        ],
    }
    passes(tmp_path, RULES, (inputs, [], [alert]), every=EVERY)


def test_a_monitor_that_counts_is_not_called_silent(tmp_path):
    """Nor one without traffic, without predictions that succeed, or whose model declares no sensitive feature."""
    quiet = firing("FairnessMonitorSilent", time="30m")
    healthy = [*up(), *succeeding()]
    passes(
        tmp_path,
        RULES,
        *[
            (inputs, [quiet])
            for inputs in (
                healthy,
                [*healthy, *answering(5)],
                [*healthy, *answering(0, rows=0)],
                [*healthy, *answering(0, status="400")],
                [*healthy, *answering(None)],
            )
        ],
        every=EVERY,
    )


def refused(model, values, replica="a"):
    return series("plumbline_model_refused", values, replica, model_name=model, model_version="1")


def test_a_refused_package_is_told_once_for_all_replicas(tmp_path):
    """While it stays refused for longer than a moment, and not after."""
    inputs = [
        *(refused("m", "0 1+0x3 0+0x3", replica) for replica in ("a", "b")),
        refused("fine", constant(0, STEPS)),
        refused("briefly", "0 1 0+0x6"),
    ]
    alert = {
        "eval_time": "15m",
        "alertname": "ModelRefused",
        "exp_alerts": [
            {
                "exp_labels": MODEL | {"severity": "warning", "window": "10m"},
                "exp_annotations": {
                    "summary": "m/1: refused by 2 replica(s)",
                    "description": "The package that they last saw does not pass the checks. What served before goes "
                    "on; what is refused at start keeps a replica from being ready. The label step of "
                    "plumbline_model_load_failures_total says at which check.",
                    "action": "Look at the reason: POST /v2/repository/index, or `model refused` in the service's log. "
                    "Put the package in place again, whole, or take it away.",
                },
            }
        ],
    }
    passes(tmp_path, RULES, (inputs, [firing("ModelRefused", time="25m")], [alert]), every=EVERY)


def classified(model, auc, p_value):
    for name, value in (("auc", auc), ("p_value", p_value)):
        labels = MODEL | {"model_name": model}
        yield series(f"plumbline_domain_classifier_{name}", constant(value, STEPS), **labels)


def test_rows_that_are_told_from_the_reference_need_an_auc_that_matters_and_is_no_chance(tmp_path):
    """Neither alone is enough."""
    inputs = [*classified("both", 0.7, 0.001), *classified("little", 0.55, 0.001), *classified("chance", 0.7, 0.2)]
    labels = MODEL | {"model_name": "both"}
    passes(tmp_path, OF_DRIFT, (inputs, [firing("FeaturesDriftTogether", labels, time="30m")]), every=EVERY)


def test_a_change_of_the_error_rate_is_told_for_two_days(tmp_path):
    """By when it was found: whether the job ran at the hour before, or what else lies in its window, is no matter."""

    def changed(group, values):
        labels = MODEL | {"group": group} | ({} if group == "all" else {"sensitive_feature": "sex"})
        return labels, series("plumbline_concept_drift_latest_change_timestamp_seconds", values, **labels)

    day = 86_400
    recent, with_a_hole = changed("all", constant(day, 16)), changed("female", f"{day}+0x5 _x2 {day}+0x8")
    old, new = changed("male", constant(-2 * day, 16)), changed("other", f"{-2 * day}+0x8 {day}+0x7")
    inputs = [found for _, found in (recent, with_a_hole, old, new)]
    told = [
        firing("ErrorRateChanged", recent[0], with_a_hole[0], time="30h"),
        firing("ErrorRateChanged", recent[0], with_a_hole[0], new[0], time="66h"),
        firing("ErrorRateChanged", time="78h"),
    ]
    passes(tmp_path, OF_DRIFT, (inputs, told), every="6h")


def test_a_drift_job_that_stands_still_is_told(tmp_path):
    """After two days; who does not run it is not told."""
    name = "plumbline_drift_job_last_success_timestamp_seconds"
    still, ran = series(name, constant(0, 12)), series(name, "0+21600x12")
    for inputs, expected in (([still], [{}]), ([ran], []), ([], [])):
        told = [firing("DriftJobStale", time="36h"), firing("DriftJobStale", *expected, time="60h")]
        passes(tmp_path, OF_DRIFT, (inputs, told), every="6h")
