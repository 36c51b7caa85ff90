"""When the drift alerts fire, against scipy's values, and what they tell the person on call."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from drifting import MODEL, REFERENCE, Attributed, Binned, share_gauge, share_z
from promtool import absent, firing, passes, series

from k8s.monitoring.drift_job_alerts import drift_job_alerts
from k8s.monitoring.render_rules import render
from service.monitor.drift import LEAST_ATTRIBUTION_CHANGE, LEAST_OBSERVATIONS, LEAST_PSI, LEAST_SHARE_INCREASE

FILES = Path(__file__).parents[2] / "k8s/monitoring/rules"
RULES = (FILES / "drift-1d.yaml").read_text(encoding="utf-8")
SOON = render("10m", interval="1m", kind="drift", for_="2m", keep_firing_for="3m")

EVEN = [1000] * 10
OF_A_SHARE = [9000, 1000]
DISTRIBUTIONS = {
    "FeatureDrift": ("feature", {"feature": "amount"}),
    "ScoreDrift": ("score", {"class": "1"}),
    "GroupScoreDrift": ("group_score", {"sensitive_feature": "sex", "group": "f", "class": "1"}),
}


@dataclass(frozen=True)
class Case:
    """Counts beside a reference; whether PSI is above its floor, above its critical value, n enough."""

    counts: list
    reference: list
    effect: bool
    beyond_chance: bool
    enough: bool

    @property
    def fires(self):
        return self.effect and self.beyond_chance and self.enough


CASES = {
    "100 of no drift, a PSI that passes for one": Case([15, 4, 9, 13, 6, 15, 11, 6, 14, 7], EVEN, True, False, False),
    "199 that drift": Case([4, 5, 8, 12, 16, 21, 25, 30, 35, 43], EVEN, True, True, False),
    "200 that drift": Case([4, 5, 8, 12, 16, 21, 25, 30, 35, 44], EVEN, True, True, True),
    "600 that drift": Case([10, 20, 30, 40, 50, 60, 70, 80, 90, 150], EVEN, True, True, True),
    "1000 as in the reference": Case([100, 98, 103, 97, 101, 99, 102, 100, 96, 104], EVEN, False, False, True),
    "exactly as in the reference": Case(EVEN, EVEN, False, False, True),
    "above the floor, within chance": Case([20, 30, 45, 60, 95], [6, 6, 6, 6, 6], True, False, True),
    "beyond chance, below the floor": Case([90000, 110000], [100000, 100000], False, True, True),
    "all in one bin": Case([0, 0, 0, 0, 0, 0, 0, 0, 0, 300], EVEN, True, True, True),
    "new values": Case([100] * 9 + [400], [1000] * 9 + [0], True, True, True),
    "nothing counted": Case([0] * 10, EVEN, True, False, False),
}


OF_THE_JOB = {alert.name for alert in drift_job_alerts()}  # in test_watching_alerts.py


def test_every_alert_is_tested():
    """Those of the file are those below, and those on the drift job, which has no window."""
    (group,) = yaml.safe_load(RULES)["groups"]
    alerts = {rule["alert"] for rule in group["rules"] if "alert" in rule}
    assert alerts == {*DISTRIBUTIONS, *KINDS, "AttributionDrift", *OF_THE_JOB}


@pytest.mark.parametrize("alert", DISTRIBUTIONS)
def test_an_alarm_needs_effect_chance_and_numbers(tmp_path, alert):
    """Each case is a model of its own; the alert fires where all three hold, and there alone."""
    name, labels = DISTRIBUTIONS[alert]
    inputs, expected = list(share_gauge(3)), []
    for model, case in CASES.items():
        made = Binned({**labels, "model_name": model}, case.counts, case.reference, name=name)
        if made.n:
            found = made.psi > LEAST_PSI, made.psi > made.critical, made.n >= LEAST_OBSERVATIONS
            assert found == (case.effect, case.beyond_chance, case.enough), (model, made.psi, made.critical)
        inputs += [*made.counters(), *made.gauges()]
        expected += [made.labels] if case.fires else []
    assert len(expected) == 4
    others = absent(f"ALERTS{{alertname!='{alert}'}}")
    passes(tmp_path, RULES, (inputs, [firing(alert, *expected), others]))


def test_long_windows_alert_too(tmp_path):
    """Seven days in four steps."""
    drifting = Binned({"feature": "amount"}, CASES["600 that drift"].counts, EVEN)
    rules = (FILES / "drift-7d.yaml").read_text(encoding="utf-8")
    inputs = [*drifting.counters(), *drifting.gauges()]
    passes(tmp_path, rules, (inputs, [firing("FeatureDrift", drifting.labels, time="7d")]), every="42h")


KINDS = {
    "FeatureMissing": ("missing", ["bin", "missing"]),
    "FeatureOutOfRange": ("out_of_range", ["bin", "underflow", "overflow"]),
    "FeatureUnseen": ("unseen", ["bin", "unseen", "other"]),
}
SHARE_CASES = {  # of n, in the reference of m: whether it fires
    "a third of 300, a tenth before": (100, 300, 1000, 10000, True),
    "a tenth of 300, as before": (30, 300, 1000, 10000, False),
    "fewer than before": (0, 300, 1000, 10000, False),
    "a third of 199": (66, 199, 1000, 10000, False),
    "a third of 200": (66, 200, 1000, 10000, True),
    "4 points more of many": (14000, 100000, 10000, 100000, False),
    "6 points more of many": (16000, 100000, 10000, 100000, True),
    "7 points more of 200: chance": (34, 200, 1000, 10000, False),
    "20 points more, few in the reference": (60, 200, 2, 20, False),
    "none before, 6 % of 300": (18, 300, 0, 10000, True),
    "all": (300, 300, 1000, 10000, True),
}


@pytest.mark.parametrize("alert", KINDS)
def test_a_share_alerts_where_it_has_grown_enough(tmp_path, alert):
    """Each case is a model of its own; half of the values are of either kind where a share is of two."""
    share, kinds = KINDS[alert]
    z, inputs, expected = share_z(30), [], []
    for model, (x, n, x_reference, m, fires) in SHARE_CASES.items():
        counts, reference = ([of - bad, *halves(bad, len(kinds) - 1)] for bad, of in ((x, n), (x_reference, m)))
        made = Binned({"feature": "amount", "model_name": model}, counts, reference, kinds)
        count, r = made.share(share)
        beyond = count / n - r > max(LEAST_SHARE_INCREASE, made.share_critical(share, z))
        assert fires == (beyond and n >= LEAST_OBSERVATIONS), model
        inputs += [*made.counters(), *made.gauges(), *share_gauge(z, labels=REFERENCE | {"model_name": model})]
        expected += [made.labels] if fires else []
    other_shares = absent(f"ALERTS{{alertname!~'{alert}|FeatureDrift'}}")
    passes(tmp_path, RULES, (inputs, [firing(alert, *expected), other_shares]))


def halves(total, parts):
    return [total] if parts == 1 else [total // 2, total - total // 2]


ATTRIBUTION_CASES = {  # share of one of two features, rows, rows in the reference, deviation: whether it fires
    "more": (0.8, 400, 1000, 0.3, True),
    "less": (0.2, 400, 1000, 0.3, True),
    "of too few rows": (0.8, 199, 1000, 0.3, False),
    "less than matters, beyond chance": (0.54, 40000, 100000, 0.1, False),
    "within chance": (0.56, 400, 1000, 0.8, False),
    "as in the reference": (0.5, 400, 1000, 0.3, False),
}


def test_attribution_alerts_where_a_share_differs_either_way(tmp_path):
    """Each case is a model of its own; what one feature gains the other loses, and both are told."""
    inputs, expected = [], []
    for model, (share, rows, m, deviation, fires) in ATTRIBUTION_CASES.items():
        halves_, same = {"a": 0.5, "b": 0.5}, {"a": deviation, "b": deviation}
        labels = MODEL | {"model_name": model}
        made = Attributed({"a": 3 * share, "b": 3 * (1 - share)}, rows, halves_, same, m, labels)
        critical = made.z * deviation * np.sqrt(1 / rows + 1 / m)
        beyond = abs(share - 0.5) > max(LEAST_ATTRIBUTION_CHANGE, critical)
        assert fires == (beyond and rows >= LEAST_OBSERVATIONS), model
        inputs += [*made.counters(), *made.gauges()]
        expected += [labels | {"feature": feature} for feature in "ab" if fires]
    passes(tmp_path, RULES, (inputs, [firing("AttributionDrift", *expected)]))


def by_minute(made, values, minutes=60):
    """A distribution that grows minute by minute, on one replica."""
    for labels, one in zip(made.each_bin(), values, strict=True):
        yield series(f"plumbline_{made.name}_observations_total", one, **labels)
    yield from made.gauges(["a"], minutes)


def test_alert_waits_fires_stays_and_ends(tmp_path):
    """Drifted for 20 minutes, then as in the reference; the alert ends as the window fills with what is."""
    made = Binned({"feature": "amount"}, [1, 1], [5000, 5000])
    inputs = by_minute(made, ["0+80x20 1650+50x39", "0+20x20 450+50x39"])
    alert = "FeatureDrift"
    psi_is_low = absent("model_feature:plumbline_feature_psi:ratio_increase10m > 0.1", "26m")
    passes(
        tmp_path,
        SOON,
        (
            inputs,
            [
                firing(alert, time="3m"),
                firing(alert, made.labels, time="3m", state="pending"),
                firing(alert, made.labels, time="5m"),
                firing(alert, made.labels, time="20m"),
                firing(alert, made.labels, time="24m"),
                psi_is_low,
                firing(alert, made.labels, time="27m"),
                firing(alert, time="30m"),
                firing(alert, time="60m"),
            ],
        ),
        every="1m",
    )


def test_alert_ends_when_nothing_is_counted_any_more(tmp_path):
    """Without traffic the window empties: what it held is no longer judged."""
    made = Binned({"feature": "amount"}, [1, 1], [5000, 5000])
    passes(
        tmp_path,
        SOON,
        (
            by_minute(made, ["0+80x20 1600+0x40", "0+20x20 400+0x40"]),
            [firing("FeatureDrift", made.labels, time="20m"), firing("FeatureDrift", time="35m")],
        ),
        every="1m",
    )


ABOVE = "against the reference: above the 0.1 that is tolerated, and above the"
CHANCE = "that chance exceeds in about 0.5 % of windows without drift."
REPORT = "Exact counts: GET /v1/models/m/drift?version=1."


def said(alert, labels, summary, description, action):
    """Expects exactly this alert of this name, with its labels and annotations, after half an hour."""
    annotations = {"summary": summary, "description": description, "action": f"{action} {REPORT}"}
    labels = labels | {"severity": "warning", "window": "10m"}
    return {
        "eval_time": "30m",
        "alertname": alert,
        "exp_alerts": [{"exp_labels": labels, "exp_annotations": annotations}],
    }


@pytest.mark.parametrize("alert", DISTRIBUTIONS)
def test_what_an_alert_on_a_distribution_says(tmp_path, alert):
    """How many, how far, what chance would do, which bins have grown, where to look."""
    name, labels = DISTRIBUTIONS[alert]
    made = Binned(labels, [1] * 5, [1000] * 5, name=name)
    words, action = {
        "FeatureDrift": (
            "the values of amount",
            "Look at the shares of missing, out-of-range and unseen values of amount first, then at its bins, and at "
            "what changed upstream: units, a default, a source, who asks. Whether the predictions suffer, the scores "
            "(ScoreDrift) and, once outcomes are there, the rates tell.",
        ),
        "ScoreDrift": (
            "the predicted probabilities of class 1",
            "Look at which features drift at the same time. If none does, features may have changed together, or "
            "another file is served under this version (plumbline_model_info). A threshold that was chosen on the "
            "reference now selects another share.",
        ),
        "GroupScoreDrift": (
            "the predicted probabilities of class 1 for sex f",
            "Look at whether ScoreDrift fires too. If so, all are concerned and its cause comes first; if not, "
            "something changed for this group alone: its selection rate "
            "(model_group:plumbline_selection_rate:ratio_increase10m), who sends its requests, how sex is filled in.",
        ),
    }[alert]
    text = said(
        alert,
        made.labels,
        f"m/1: {words} are distributed differently from the reference (PSI 0.51)",
        f"Over the last 10m {words} (500 counted) had a PSI of 0.51 {ABOVE} 0.033 {CHANCE} "
        "More than in the reference, in shares of all: from 4 +0.20, from 3 +0.10.",
        action,
    )
    inputs = by_minute(made, [f"0+{each}x60" for each in (2, 5, 8, 15, 20)])
    passes(tmp_path, SOON, (inputs, [], [text]), every="1m")


@pytest.mark.parametrize("alert", KINDS)
def test_what_an_alert_on_a_share_says(tmp_path, alert):
    """The share, the reference's, what is tolerated and what chance would do."""
    _, kinds = KINDS[alert]
    words, action = {
        "FeatureMissing": (
            "are missing",
            "Look at whether a caller or a source has stopped filling it in. The model still answers, on less than it "
            "was measured with.",
        ),
        "FeatureOutOfRange": (
            "lie outside the range of the reference",
            "Look at units and scale first (a factor of 1000, cents), then whether new kinds of cases are sent. There "
            "the model extrapolates: nothing was measured about it.",
        ),
        "FeatureUnseen": (
            "are categories that the reference never saw",
            "Look at whether codes were renamed or added upstream. The model knows nothing of them; a new category "
            "needs a model that was trained on it.",
        ),
    }[alert]
    made = Binned({"feature": "amount"}, [1] * len(kinds), [9900, 100, 0][: len(kinds)], kinds)
    text = said(
        alert,
        made.labels,
        f"m/1: 25% of the values of amount {words}",
        f"Over the last 10m 25% of 1000 values of amount {words}, in the reference 1%. The difference "
        f"is above the 5 % that is tolerated, and above the 1.746% {CHANCE}",
        action,
    )
    inputs = [*by_minute(made, [f"0+{each}x60" for each in (75, 25, 0)[: len(kinds)]]), *share_gauge(3, "a", 60)]
    passes(tmp_path, SOON, (inputs, [], [text]), every="1m")


def test_what_the_alert_on_attribution_says(tmp_path):
    """The share now and the difference, with its sign."""
    made = Attributed({"a": 1, "b": 1}, 1, {"a": 0.5, "b": 0.5}, {"a": 0.3, "b": 0.3}, 1000)
    stem = "plumbline_attribution_magnitude"
    inputs = [
        series(f"{stem}_sum_total", "0+40x60", **MODEL, feature="a"),
        series(f"{stem}_sum_total", "0+10x60", **MODEL, feature="b"),
        series(f"{stem}_rows_total", "0+50x60", **MODEL),
        *made.gauges(60),
    ]
    texts = []
    for feature, share, difference in (("a", 80, "+0.30"), ("b", 20, "-0.30")):
        description = (
            f"Over the last 10m {feature} made up {share}% of the absolute SHAP values of 500 explained rows: "
            f"{difference}0 against the reference, more than the 0.05 that is tolerated, and than the 0.050 that "
            "chance exceeds in about 0.5 % of windows without drift, either way."
        )
        action = (
            f"Look at whether the values of {feature} drift (FeatureDrift), or those of the feature whose share moved "
            "the other way. The model itself has not changed: it meets other cases."
        )
        summary = (
            f"m/1: the share of {feature} in what moves the predictions differs by {difference} from the reference"
        )
        texts.append(said("AttributionDrift", MODEL | {"feature": feature}, summary, description, action))
    both = texts[0] | {"exp_alerts": [one for text in texts for one in text["exp_alerts"]]}
    passes(tmp_path, SOON, (inputs, [], [both]), every="1m")
