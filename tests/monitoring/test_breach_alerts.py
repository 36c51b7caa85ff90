"""When the breach alerts fire, against statsmodels' intervals, and what they tell the person on call."""

import random
from pathlib import Path
from statistics import NormalDist

import pytest
from compas import log_interval
from promtool import alive, counted, described, expect, firing, passes, series
from statsmodels.stats.proportion import confint_proportions_2indep

from k8s.monitoring.render_rules import render
from service.monitor.comparison import compare_difference, compare_ratio
from service.monitor.fairness import LEAST_IMPACT_RATIO, MOST_ADVERSE_RATIO, Rate

RULES = (Path(__file__).parents[2] / "k8s/monitoring/rules/fairness-1d.yaml").read_text(encoding="utf-8")
SOON = render("10m", interval="1m", for_="2m", keep_firing_for="3m")

HARDLY_CHANCE = "The interval that holds for all groups at once excludes that threshold too: this is hardly chance."
LOOK_AT_SELECTION = (
    "Look at the selection rates of both groups over time, at the features that make the difference "
    "(model_group_feature:plumbline_attribution_difference:mean_increase10m), and at what changed: "
    "model version, data, who asks. Exact counts: GET /v1/models/m/fairness?sensitive_feature=sex."
)

RATIOS = {"FairnessImpactRatio", "FairnessAdverseRatio"}
# Labelled cells and predictions that make x of n the rate that the alert is about.
COUNTS = {
    "FairnessImpactRatio": lambda x, n: ({}, {"1": x, "0": n - x}),
    "FairnessAdverseRatio": lambda x, n: ({}, {"1": x, "0": n - x}),
    "FairnessTruePositiveRateGap": lambda x, n: ({("1", "1"): x, ("0", "1"): n - x}, None),
    "FairnessFalsePositiveRateGap": lambda x, n: ({("1", "0"): x, ("0", "0"): n - x}, None),
    "FairnessPredictiveValueGap": lambda x, n: ({("1", "1"): x, ("1", "0"): n - x}, None),
    "FairnessLabelCoverageGap": lambda x, n: ({("0", "0"): x}, {"0": n}),
}
# x of n in the group, x of n in the reference group, one-sided z.
BY_HAND = [
    (31, 100, 45, 100, 1.645),  # noise: a ratio of 0.69, and nothing to say against chance
    (300, 1000, 500, 1000, 2.326),
    (400, 1000, 500, 1000, 2.326),  # on 0.8
    (380, 1000, 500, 1000, 1.645),
    (2, 30, 25, 30, 1.645),
    (2, 29, 25, 30, 1.645),  # one too few
    (2, 30, 24, 29, 1.645),
    (950, 1000, 990, 1000, 2.326),  # hardly an impact ratio, an adverse ratio of 5
    (990, 1000, 950, 1000, 2.326),
    (0, 500, 400, 500, 1.645),
    (500, 500, 500, 500, 1.645),
    (500, 500, 0, 500, 1.645),
    (0, 500, 250, 500, 1.645),  # nobody selected
    (0, 40, 3, 40, 1.645),  # nobody selected, of few
    (0, 29, 250, 500, 1.645),
    (200, 500, 500, 500, 1.645),  # nobody adverse in the reference group: no adverse ratio, and a breach of it
    (499, 500, 500, 500, 1.645),
    (0, 500, 500, 500, 2.326),
    (40, 40, 9999, 10000, 1.645),  # an adverse ratio of 0 below its own interval
    (40, 40, 10000, 10000, 1.645),  # nobody adverse anywhere: sizes alone are no difference
    (0, 10000, 0, 40, 1.645),  # nobody selected anywhere
    (1, 10000, 0, 40, 1.645),  # somebody selected, of the group alone
    (620, 1000, 500, 1000, 1.645),
    (640, 1000, 500, 1000, 1.645),
    (640, 1000, 500, 1000, 3.5),
]


def drawn(count=25):
    """Tables of all sizes about the thresholds, the same each time."""
    draw = random.Random(5)
    for _ in range(count):
        n, n_reference = (int(10 ** draw.uniform(1.4, 3.5)) for _ in range(2))
        x_reference = draw.randint(1, n_reference)
        share = x_reference / n_reference
        wished = share * draw.uniform(0.4, 0.9) if draw.random() < 0.5 else share + draw.uniform(-0.4, 0.4)
        yield min(n, max(1, round(wished * n))), n, x_reference, n_reference, draw.choice([1.645, 2.326, 2.8])


TABLES = [*BY_HAND, *drawn()]


def breaches(alert, x, n, x_reference, n_reference, z):
    """Whether the table is a breach, by statsmodels' intervals."""
    if min(n, n_reference) < 30:
        return False
    alpha = 2 * (1 - NormalDist().cdf(z))
    if alert not in RATIOS:
        low, high = confint_proportions_2indep(
            x, n, x_reference, n_reference, compare="diff", method="newcomb", alpha=alpha
        )
        return low > 0.1 or high < -0.1
    if alert == "FairnessAdverseRatio":
        x, x_reference = n - x, n_reference - x_reference
    value = x / n / (x_reference / n_reference) if x_reference else None
    low, high = log_interval(x, n, x_reference, n_reference, alpha)
    if alert == "FairnessImpactRatio":
        return value is not None and value < 0.8 and high < 0.8
    return low > 2 and (value > 2 if value is not None else x > 0)


def reported(alert, x, n, x_reference, n_reference, z):
    """Whether the report calls the table a breach."""
    if alert == "FairnessImpactRatio":
        found = compare_ratio(
            Rate(x, n), Rate(x_reference, n_reference), z=z, at_least=LEAST_IMPACT_RATIO, at_most=None
        )
    elif alert == "FairnessAdverseRatio":
        adverse = Rate(n - x, n), Rate(n_reference - x_reference, n_reference)
        found = compare_ratio(*adverse, z=z, at_least=None, at_most=MOST_ADVERSE_RATIO)
    else:
        found = compare_difference(Rate(x, n), Rate(x_reference, n_reference), z=z)
    return found["state"] == "breach"


@pytest.mark.parametrize("alert", COUNTS)
@pytest.mark.parametrize("table", TABLES)
def test_the_report_calls_the_same_tables_breaches(alert, table):
    """What an alert says of exact counts, the report says."""
    assert reported(alert, *table) == breaches(alert, *table)


@pytest.mark.parametrize("alert", COUNTS)
def test_alert_agrees_with_statsmodels(tmp_path, alert):
    """Each table is a model of its own; the alert fires for those that are breaches, and for no other."""
    inputs = list(alive())
    for number, (x, n, x_reference, n_reference, z) in enumerate(TABLES):
        model = f"table {number}"
        inputs += described(model, favourable="1", references=[("sex", "m")], z=z)
        for group, count in (("f", (x, n)), ("m", (x_reference, n_reference))):
            cells, predictions = COUNTS[alert](*count)
            inputs += counted(cells, model=model, group=group, predictions=predictions, replicas=("a",))
    expected = [table for table in enumerate(TABLES) if breaches(alert, *table[1])]
    assert 3 <= len(expected) < len(TABLES) - 3
    found = firing(alert, *[labels(f"table {number}") for number, _ in expected])
    passes(tmp_path, RULES, (inputs, [found]))


def labels(model="m", group="f"):
    return {"model_name": model, "model_version": "1", "sensitive_feature": "sex", "group": group}


def selecting(f_values, m_values, minutes=60, group="f", **options):
    """Selected and not selected in a group and in the reference group m, minute by minute."""
    for name, (selected, rejected) in ((group, f_values), ("m", m_values)):
        for predicted, values in (("0", selected), ("1", rejected)):
            yield series("plumbline_predictions_total", values, **labels(group=name), predicted=predicted)
    yield from described(references=[("sex", "m")], samples=minutes, **options)
    yield from alive(samples=minutes, step=60)


def test_alert_waits_fires_stays_and_ends(tmp_path):
    """Unfair for 20 minutes, then fair; the condition ends at minute 26, as the window fills with fair decisions."""
    inputs = selecting(("0+20x20 450+50x39", "0+80x20 1650+50x39"), ("0+50x60", "0+50x60"))
    alert = "FairnessImpactRatio"
    passes(
        tmp_path,
        SOON,
        (
            inputs,
            [
                firing(alert, time="2m"),
                firing(alert, labels(), time="2m", state="pending"),
                firing(alert, labels(), time="3m"),
                firing(alert, labels(), time="20m"),
                firing(alert, labels(), time="25m"),
                expect("model_group:plumbline_impact_ratio_simultaneous_upper:ratio_increase10m < 0.8", [], "26m"),
                firing(alert, labels(), time="28m"),
                firing(alert, time="29m"),
                firing(alert, time="60m"),
            ],
        ),
        every="1m",
    )


def test_a_reserved_group_never_alerts(tmp_path):
    """Nor does the reference group when it fares worse than all others."""
    bad, good = ("0+10x60", "0+90x60"), ("0+90x60", "0+10x60")
    for group in ("unknown", "declined", "other"):
        passes(
            tmp_path, SOON, (selecting(bad, good, group=group), [firing("FairnessImpactRatio", time="30m")]), every="1m"
        )


def test_what_the_alert_on_selection_says(tmp_path):
    """Which model, which group, against which, how much, how sure, out of how many, and where to look."""
    passes(
        tmp_path,
        SOON,
        (
            selecting(("0+40x60", "0+60x60"), ("0+80x60", "0+20x60")),
            [],
            [
                said(
                    "FairnessImpactRatio",
                    "m/1: sex f gets the favourable prediction 0.50 times as often as m",
                    "Over the last 10m sex f gets the favourable prediction 0.50 times as often as the reference group "
                    "(95 % interval 0.46 to 0.54; 1000 counted, and 1000 in the reference group), below the 0.8 "
                    "that is tolerated. " + HARDLY_CHANCE,
                    LOOK_AT_SELECTION,
                ),
                said(
                    "FairnessAdverseRatio",
                    "m/1: sex f is denied the favourable prediction 3.00 times as often as m",
                    "Over the last 10m sex f is denied the favourable prediction 3.00 times as often as the reference "
                    "group (95 % interval 2.62 to 3.43; 1000 counted, and 1000 in the reference group), above the 2 "
                    "that is tolerated. " + HARDLY_CHANCE,
                    LOOK_AT_SELECTION,
                ),
            ],
        ),
        every="1m",
    )


def test_what_the_alert_says_where_there_is_no_ratio(tmp_path):
    """Nobody is denied in the reference group: the bound is told, as a bound."""
    passes(
        tmp_path,
        SOON,
        (
            selecting(("0+40x60", "0+60x60"), ("0+100x60", "0+0x60")),
            [firing("FairnessAdverseRatio", labels(), time="30m")],
            [
                said(
                    "FairnessAdverseRatio",
                    "m/1: sex f is denied the favourable prediction at least 117.30 times as often as m",
                    "Over the last 10m sex f is denied the favourable prediction at least 117.30 times as often as the "
                    "reference group (no ratio, for there it is nobody; 1000 counted, and 1000 in the reference "
                    "group), above the 2 that is tolerated. " + HARDLY_CHANCE,
                    LOOK_AT_SELECTION,
                )
            ],
        ),
        every="1m",
    )


def test_what_the_alert_on_a_difference_says(tmp_path):
    """The sign says in which direction the group differs."""
    inputs = list(selecting(("0+50x60", "0+50x60"), ("0+50x60", "0+50x60")))
    for group, found, missed in (("f", 10, 40), ("m", 30, 20)):
        for predicted, per_minute in (("1", found), ("0", missed)):
            cell = labels(group=group) | {"predicted": predicted, "actual": "1"}
            inputs.append(series("plumbline_outcomes_total", f"0+{per_minute}x60", **cell))
    passes(
        tmp_path,
        SOON,
        (
            inputs,
            [firing("FairnessLabelCoverageGap", time="30m"), firing("FairnessFalsePositiveRateGap", time="30m")],
            [
                said(
                    "FairnessTruePositiveRateGap",
                    "m/1: the true positive rate (cases found, of those that there are) of sex f differs by -0.40 from "
                    "that of m",
                    "Over the last 10m the true positive rate (cases found, of those that there are) of sex f minus "
                    "that of the reference group was -0.40 (95 % interval -0.45 to -0.34; 500 counted, and 500 "
                    "in the reference group), beyond the 0.1 that is tolerated. " + HARDLY_CHANCE,
                    "Look at whose cases are missed: the label coverage of both groups first, then their scores and "
                    "calibration. Exact counts: GET /v1/models/m/fairness?sensitive_feature=sex.",
                )
            ],
        ),
        every="1m",
    )


def said(alert, summary, description, action, time="30m"):
    """Expects exactly this alert of this name, with its labels and annotations."""
    return {
        "eval_time": time,
        "alertname": alert,
        "exp_alerts": [
            {
                "exp_labels": labels() | {"severity": "warning", "window": "10m"},
                "exp_annotations": {"summary": summary, "description": description, "action": action},
            }
        ],
    }
