"""The recording rules of drift against scipy and statsmodels, and where counts are few or missing."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from drifting import MODEL, REFERENCE, Attributed, Binned, Calibrated, expected_shares, same, share_gauge, share_z
from promtool import RECORDED, SCRAPED, absent, all_finite, close, described, passes, recorded, series, spread

FILES = Path(__file__).parents[2] / "k8s/monitoring/rules"
RULES = (FILES / "drift-1d.yaml").read_text(encoding="utf-8")
WINDOWS = {"1d": "6h", "7d": "42h"}  # and how often is scraped: four times
NUMERIC = ["underflow", *["bin"] * 10, "overflow", "missing"]
IN_CELLS = ["01", *(f"{number:02}" for number in range(1, 11)), "10", "12"]
CATEGORICAL = [*["bin"] * 4, "unseen", "other"]
RARE = ["00", "01", *["rare"] * 4]
SEX = MODEL | {"sensitive_feature": "sex"}


def features():
    """A numeric feature that has shifted, a categorical one with new categories, and one that is as it was."""
    dice = np.random.default_rng(11)
    held_out = [0, *dice.multinomial(8000, [0.1] * 10), 0, 331]
    shifted = [31, *dice.multinomial(4000, np.arange(1, 11) / 55), 170, 12]
    yield Binned({"feature": "amount"}, list(map(int, shifted)), list(map(int, held_out)), NUMERIC, IN_CELLS)
    yield Binned({"feature": "entry"}, [400, 310, 2, 0, 25, 60], [3000, 2500, 40, 7, 0, 0], CATEGORICAL, RARE)
    yield Binned({"feature": "same"}, [50, 30, 20], [5000, 3000, 2000])


def scores():
    for name, counts in (("0", [10, 20, 30, 400]), ("1", [400, 30, 20, 10])):
        yield Binned({"class": name}, counts, [900, 300, 200, 100], name="score", error=0.0025)
    for group, counts in (("f", [40, 30, 20, 10, 0]), ("m", [3, 4, 5, 60, 0])):
        labels = {"sensitive_feature": "sex", "group": group, "class": "1"}
        yield Binned(labels, counts, [90, 30, 20, 10, 0], name="group_score", error=0.0025)


def attributed():
    return Attributed(
        magnitudes={"amount": 0.71, "entry": 0.2, "same": 0.0},
        rows=523,
        reference_shares={"amount": 0.5, "entry": 0.4, "same": 0.1},
        deviations={"amount": 0.31, "entry": 0.22, "same": 0.05},
        reference_rows=1024,
    )


def calibrated():
    dice = np.random.default_rng(12)
    for group, size in (("f", 731), ("m", 40)):
        p = dice.beta(0.5, 3, size)
        yield Calibrated(SEX | {"group": group}, p, p > 0.3)


def inputs():
    for one in [*features(), *scores(), attributed()]:
        yield from one.counters()
        yield from one.gauges()
    for one in calibrated():
        yield from one.counters()
    yield from share_gauge(share_z(3))
    yield from described()


def expected(window):
    for one in [*features(), *scores(), attributed(), *calibrated()]:
        yield from one.expected(window)
    for one in features():
        yield from expected_shares(one, share_z(3), window)


@pytest.mark.parametrize("window", WINDOWS)
def test_rules_agree_with_scipy_and_statsmodels(tmp_path, window):
    """Every recorded value of two replicas, to nine digits, over either window."""
    rules = (FILES / f"drift-{window}.yaml").read_text(encoding="utf-8")
    passes(tmp_path, rules, (inputs(), [*expected(window), all_finite(window)]), every=WINDOWS[window])


def test_every_recorded_series_has_an_expected_value():
    """No rule of the file is left out of the comparison above."""
    (group,) = yaml.safe_load(RULES)["groups"]
    expectations = json.dumps(list(expected("1d")))
    for rule in group["rules"]:
        if "record" in rule:
            assert f"(({rule['record']}{{" in expectations


def test_series_carry_the_contracts_labels_and_no_others(tmp_path):
    """Replicas, pods and namespaces are summed away, whatever a scrape calls them."""
    scraped = " or ".join(f'{RECORDED[:-1]},{label}!=""}}' for label in (*SCRAPED, "pod", "instance"))
    levels = {
        "model_feature": "model_name, model_version, reference, feature",
        "model_class": "model_name, model_version, reference, class",
        "model_group_class": "model_name, model_version, sensitive_feature, group, reference, class",
    }
    stems = {"model_feature": "feature", "model_class": "score", "model_group_class": "group_score"}
    all_labels = [
        f"{recorded(f'{stems[level]}_psi', level=level)} unless on ({labels}) "
        f"{recorded(f'{stems[level]}_observations', 'increase1d', level)}"
        for level, labels in levels.items()
    ]
    passes(tmp_path, RULES, (inputs(), [absent(scraped), *map(absent, all_labels)]))


def test_without_observations_there_is_no_series(tmp_path):
    """Counters that stay at 0 beside their reference say nothing, and nothing is NaN."""
    empty = [
        Binned({"feature": "amount"}, [0] * 13, [0, *[800] * 10, 0, 331], NUMERIC),
        Binned({"class": "1"}, [0, 0], [30, 40], name="score"),
        Binned({"sensitive_feature": "sex", "group": "f", "class": "1"}, [0, 0], [30, 40], name="group_score"),
        Attributed({"amount": 0.0}, 0, {"amount": 1}, {"amount": 0.2}, 100),
    ]
    nobody = Calibrated(SEX | {"group": "f"}, np.array([]), np.array([], dtype=bool))
    quiet = [one for made in empty for one in (*made.counters(), *made.gauges())]
    quiet += [*nobody.counters(), *share_gauge(3), *described()]
    passes(tmp_path, RULES, (quiet, [absent(RECORDED), absent("ALERTS")]))


def test_without_a_reference_only_counts_and_their_shares_are_recorded(tmp_path):
    """A package that has no reference, or one that is gone: nothing is compared."""
    amount, by_feature = next(features()), attributed()
    passes(
        tmp_path,
        RULES,
        (
            [*amount.counters(), *by_feature.counters()],
            [
                close(recorded("feature_observations", "increase1d", "model_feature"), amount.n),
                close(recorded("attribution_share", level="model_feature", feature="entry"), 0.2 / 0.91),
                absent('{__name__=~".*(cell_proportion|psi|jensen|reference|pooled|difference|critical).*"}'),
                absent("ALERTS"),
                all_finite(),
            ],
        ),
    )


def test_a_reference_without_observations_is_no_reference(tmp_path):
    """1/m is not taken of 0, nor a share."""
    odd = Binned({"feature": "amount"}, [300, 700], [30, 40])
    gauges = [one for one in odd.gauges() if "reference_observations" not in one["series"]]
    zeros = [series("plumbline_feature_reference_observations", "0+0x4", **labels) for labels in odd.each_bin()]
    passes(
        tmp_path,
        RULES,
        (
            [*odd.counters(), *gauges, *zeros, *share_gauge(3)],
            [
                absent('{__name__=~".*(reference|cell_proportion|psi|critical).*:ratio.*"}'),
                absent("ALERTS"),
                all_finite(),
            ],
        ),
    )


def test_a_single_cell_has_nothing_to_compare(tmp_path):
    """Its share is always 1: no PSI, no distance, and n all the same."""
    made = Binned({"feature": "amount"}, [300, 700], [1000, 0], cells=["00", "00"])
    passes(
        tmp_path,
        RULES,
        (
            [*made.counters(), *made.gauges()],
            [
                close(recorded("feature_observations", "increase1d", "model_feature"), 1000),
                absent('{__name__=~".+:.*(psi|jensen).*"}'),
                absent("ALERTS"),
                all_finite(),
            ],
        ),
    )


def test_rare_bins_are_compared_together(tmp_path):
    """Whatever moves between bins of one cell is shown, and is no drift."""
    rare = ["00", *["rare"] * 3]
    made = Binned({"feature": "amount"}, [1000, 0, 40, 0], [1000, 20, 0, 20], cells=rare)
    shown = {"level": "model_feature_bin", "bin": "02 from 2"}
    passes(
        tmp_path,
        RULES,
        (
            [*made.counters(), *made.gauges()],
            [
                close(recorded("feature_psi", level="model_feature"), 0),
                close(recorded("feature_proportion", **shown), 40 / 1040),
                close(recorded("feature_reference_proportion", **shown), 0),
                all_finite(),
            ],
        ),
    )


def test_a_share_is_there_at_0_where_it_can_occur_and_only_there(tmp_path):
    """A nullable feature without a missing value misses 0 %; one that is not nullable has no such share."""
    nullable = Binned({"feature": "nullable"}, [50, 50, 0], [500, 400, 100], ["bin", "bin", "missing"])
    never = Binned({"feature": "never"}, [50, 50, 0], [500, 500, 0], ["bin", "bin", "other"])
    passes(
        tmp_path,
        RULES,
        (
            [*share_gauge(3), *(one for made in (nullable, never) for one in (*made.counters(), *made.gauges()))],
            [
                close(recorded("feature_missing", level="model_feature"), 0),
                close(recorded("feature_unseen", level="model_feature"), 0),
                same("model_feature:plumbline_feature_missing_reference:ratio_increase1d", {}, 0.1, "1d"),
                absent(recorded("feature_missing", level="model_feature", feature="never")),
                absent(recorded("feature_out_of_range", level="model_feature")),
            ],
        ),
    )


def test_two_references_are_kept_apart(tmp_path):
    """While replicas with other bins take over, each is compared with its own."""
    old, new = ({"feature": "amount", "reference": name} for name in ("aaaaaaaaaaaa", "bbbbbbbbbbbb"))
    before, after = Binned(old, [100, 300], [400, 400]), Binned(new, [10, 10, 80], [100, 100, 100])
    passes(
        tmp_path,
        RULES,
        (
            [*before.counters("a"), *before.gauges("a"), *after.counters("b"), *after.gauges("b")],
            [*before.expected("1d"), *after.expected("1d")],
        ),
    )


def test_a_restart_of_a_replica_loses_and_doubles_nothing(tmp_path):
    """One of two replicas starts again at 0 in the middle of the window."""
    labels = REFERENCE | {"feature": "amount", "bin": "00", "kind": "bin", "cell": "00"}
    name = "plumbline_feature_observations_total"
    passes(
        tmp_path,
        RULES,
        (
            [series(name, "0 100 0 40 40", "a", **labels), *spread(name, 60, "b", 4, **labels)],
            [close(recorded("feature_observations", "increase1d", "model_feature"), 200)],
        ),
    )


def test_attributions_that_are_all_0_have_no_share(tmp_path):
    """A model that answers the same whatever it is given goes by nothing."""
    constant = Attributed({"a": 0.0, "b": 0.0}, 300, {"a": 0.5, "b": 0.5}, {"a": 0.2, "b": 0.2}, 100)
    passes(
        tmp_path,
        RULES,
        (
            [*constant.counters(), *constant.gauges()],
            [absent('{__name__=~".*attribution_share(_difference)?:.*"}'), absent("ALERTS"), all_finite()],
        ),
    )


def test_expected_rates_are_absent_where_they_are_undefined(tmp_path):
    """Nobody predicted positive: no positive predictive value, and none of the positives is found."""
    p = np.array([0.1, 0.2, 0.3])
    nobody = Calibrated(SEX | {"group": "f"}, p, p > 1)
    group = {"group": "f"}
    passes(
        tmp_path,
        RULES,
        (
            [*nobody.counters(), *described()],
            [
                absent(recorded("expected_positive_predictive_value")),
                absent(recorded("expected_positive_predictive_value_lower")),
                close(recorded("expected_true_positive_rate", **group), 0),
                close(recorded("expected_false_positive_rate", **group), 0),
                all_finite(),
            ],
        ),
    )


def test_expected_bounds_stay_shares(tmp_path):
    """Of two cases the bounds of a rate would leave 0 to 1; they are cut there."""
    two = Calibrated(SEX | {"group": "f"}, np.array([0.9, 0.1]), np.array([True, False]))
    passes(
        tmp_path,
        RULES,
        (
            [*two.counters(), *described()],
            [
                close(recorded("expected_true_positive_rate"), 0.9),
                close(recorded("expected_true_positive_rate_upper"), 1),
                close(recorded("expected_false_positive_rate_lower"), 0),
                *two.expected("1d"),
            ],
        ),
    )


@pytest.mark.parametrize("missing", ["a positive class", "calibrators"])
def test_expected_rates_need_a_positive_class_and_calibrators(tmp_path, missing):
    """Where either is lacking nothing is expected."""
    (one, _) = calibrated()
    counters = list(one.counters())
    if missing == "calibrators":
        counters = [found for found in counters if "calibrated" not in found["series"]]
    positive = None if missing == "a positive class" else "1"
    passes(
        tmp_path, RULES, ([*counters, *described(positive=positive)], [absent('{__name__=~".*plumbline_expected_.*"}')])
    )


def test_certain_predictions_of_a_replica_that_ran_before_leave_no_negative_count(tmp_path):
    """Counters that did not begin at 0 are extrapolated by different factors; rates stay shares."""
    labels = SEX | {"group": "f", "predicted": "1"}
    before = "_x12"
    passes(
        tmp_path,
        RULES,
        (
            [
                series("plumbline_predictions_total", f"{before} 3 1003+0x11", **labels),
                series("plumbline_calibrated_score_sum_total", f"{before} 400 1400+0x11", **labels),
                series("plumbline_calibrated_score_variance_sum_total", f"{before} 0+0x12", **labels),
                *described(samples=24),
            ],
            [
                close(recorded("expected_positive_predictive_value"), 1),
                close(recorded("expected_false_positives", "increase1d"), 0),
                all_finite(),
            ],
        ),
        every="1h",
    )
