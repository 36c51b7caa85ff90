"""The recording rules where counts are few, missing, corrected, restarted, reserved, or of more than two classes."""

from pathlib import Path

import compas
from promtool import (
    RECORDED,
    SCRAPED,
    absent,
    alive,
    all_finite,
    close,
    counted,
    described,
    expect,
    passes,
    recorded,
    selector,
    series,
    stepping,
)

RULES = (Path(__file__).parents[2] / "k8s/monitoring/rules/fairness-1d.yaml").read_text(encoding="utf-8")
PER_FEATURE = "model_sensitive_feature"
GROUP = {"model_name": "m", "model_version": "1", "sensitive_feature": "sex", "group": "f"}
EVEN = {("0", "0"): 60, ("0", "1"): 40, ("1", "0"): 30, ("1", "1"): 70}


def info(**options):
    return described(references=[("sex", "m")], **options)


def test_series_carry_the_contracts_labels_and_no_others(tmp_path):
    """Replicas, pods and namespaces are summed away, whatever a scrape calls them."""
    cells = {("0", "0"): 7, ("1", "0"): 5}
    scraped = " or ".join(f'{RECORDED[:-1]},{label}!=""}}' for label in (*SCRAPED, "pod", "instance"))
    count = recorded("outcomes", "increase1d", "model_group_predicted_actual")
    passes(
        tmp_path,
        RULES,
        (
            [*counted(cells), *info()],
            [
                absent(scraped),
                expect(
                    count,
                    [
                        (selector(count[:-2], GROUP | {"predicted": predicted, "actual": actual}), n)
                        for (predicted, actual), n in cells.items()
                    ],
                ),
            ],
        ),
    )


def test_a_corrected_outcome_moves_to_its_new_class(tmp_path):
    """Net cells follow corrections, whichever replica took them; one of an earlier day's outcome leaves no negative."""
    cells = {("0", "0"): 0, ("0", "1"): 0, ("1", "0"): 5, ("1", "1"): 10}
    net = "model_group_predicted_actual"
    passes(
        tmp_path,
        RULES,
        (
            [*counted(cells, corrections=[("1", "1", "0", 3), ("0", "1", "0", 2)]), *info()],
            [
                close(recorded("outcomes", "increase1d", net, predicted="1", actual="1"), 7),
                close(recorded("outcomes", "increase1d", net, predicted="1", actual="0"), 8),
                close(recorded("outcomes", "increase1d", net, predicted="0", actual="0"), 2),
                absent(recorded("outcomes", "increase1d", net, predicted="0", actual="1")),
                close(recorded("outcomes", "increase1d"), 17),
                close(recorded("positive_predictive_value"), 7 / 15),
                close(recorded("true_positive_rate"), 1),
                close(recorded("false_positive_rate"), 8 / 10),
                all_finite(),
            ],
        ),
    )


def test_a_group_without_positives_has_no_true_positive_rate_and_enters_no_gap(tmp_path):
    """Undefined is absent, and does not count as 0: the gap is that of the two other groups."""
    cells = {"m": EVEN, "f": {("0", "0"): 50, ("1", "0"): 10}, "x": {("0", "0"): 5, ("0", "1"): 50, ("1", "1"): 50}}
    inputs = [one for group, of_group in cells.items() for one in counted(of_group, group=group)]
    passes(
        tmp_path,
        RULES,
        (
            [*inputs, *info()],
            [
                absent(recorded("true_positive_rate", group="f")),
                absent(recorded("true_positive_rate_numerator", "increase1d", group="f")),
                absent(recorded("true_positive_rate_difference", group="f")),
                close(recorded("true_positive_rate", group="m"), 70 / 110),
                close(recorded("equal_opportunity_difference", level=PER_FEATURE), 70 / 110 - 0.5),
                close(recorded("false_positive_rate_difference", level=PER_FEATURE), 30 / 90),
                close(recorded("false_positive_rate_difference_eligible", level=PER_FEATURE), 30 / 90 - 10 / 60),
                close(recorded("equalized_odds_difference", level=PER_FEATURE), 30 / 90),
                all_finite(),
            ],
        ),
    )


def test_a_gap_needs_two_groups_and_equalized_odds_both_of_its_gaps(tmp_path):
    """With a true positive rate in one group only, neither gap that builds on it is there."""
    cells = {"m": EVEN, "f": {("0", "0"): 50, ("1", "0"): 10}}
    inputs = [one for group, of_group in cells.items() for one in counted(of_group, group=group)]
    passes(
        tmp_path,
        RULES,
        (
            [*inputs, *info()],
            [
                absent(recorded("equal_opportunity_difference", level=PER_FEATURE)),
                absent(recorded("equalized_odds_difference", level=PER_FEATURE)),
                close(recorded("demographic_parity_difference", level=PER_FEATURE), 50 / 60 - 0.5),
            ],
        ),
    )


def test_reserved_groups_are_shown_and_never_compared(tmp_path):
    """`unknown`, `declined` and `other` have rates; no gap, difference, ratio or alert takes them in."""
    cells = {
        "m": EVEN,
        "f": EVEN,
        "unknown": {("0", "1"): 500},
        "declined": {("1", "0"): 500},
        "other": {("1", "1"): 500},
    }
    inputs = [one for group, of_group in cells.items() for one in counted(of_group, group=group)]
    reserved = 'group=~"unknown|declined|other"'
    compared = f'{{__name__=~".+(difference|impact_ratio|adverse_ratio|simultaneous|declared).+",{reserved}}}'
    passes(
        tmp_path,
        RULES,
        (
            [*inputs, *info(), *alive()],
            [
                close(recorded("selection_rate", group="unknown"), 1),
                close(recorded("positive_predictive_value", group="declined"), 0),
                close(recorded("demographic_parity_difference", level=PER_FEATURE), 0),
                close(recorded("demographic_parity_ratio", level=PER_FEATURE), 1),
                close(recorded("equalized_odds_difference", level=PER_FEATURE), 0),
                absent(compared),
                absent("ALERTS"),
                all_finite(),
            ],
        ),
    )


def test_without_traffic_there_is_no_series_and_no_alert(tmp_path):
    """Counters that stay at 0 say nothing; a monitor that counts is not silent."""
    cells = dict.fromkeys(EVEN, 0)
    inputs = [one for group in ("m", "f", "unknown") for one in counted(cells, group=group)]
    passes(tmp_path, RULES, ([*inputs, *info(), *alive()], [absent(RECORDED), absent("ALERTS")]))


def test_a_restart_of_a_replica_loses_and_doubles_nothing(tmp_path):
    """One of two replicas starts again at 0 in the middle of the window."""
    labels = GROUP | {"predicted": "0"}
    passes(
        tmp_path,
        RULES,
        (
            [
                series("plumbline_predictions_total", "0 100 0 40 40", "a", **labels),
                series("plumbline_predictions_total", stepping(60), "b", **labels),
                *info(),
            ],
            [
                close(recorded("predictions", "increase1d"), 200),
                close(recorded("selection_rate_denominator", "increase1d"), 200),
            ],
        ),
    )


def test_more_classes_are_judged_one_against_the_rest(tmp_path):
    """Positive is c, favourable is a; the numbers are counted by hand."""
    cells = {"aa": 40, "ab": 10, "ac": 5, "ba": 5, "bb": 20, "bc": 5, "ca": 3, "cb": 2, "cc": 30}
    table = {tuple(pair): n for pair, n in cells.items()}
    passes(
        tmp_path,
        RULES,
        (
            [*counted(table), *info(classes=("a", "b", "c"), positive="c", favourable="a")],
            [
                close(recorded("selection_rate"), 55 / 120),
                close(recorded("true_positive_rate"), 30 / 40),
                close(recorded("false_positive_rate"), 5 / 80),
                close(recorded("positive_predictive_value"), 30 / 35),
                close(recorded("base_rate"), 40 / 120),
            ],
        ),
    )


def test_a_model_without_a_positive_class_has_no_rates_of_it(tmp_path):
    """It still has a selection rate and a label coverage."""
    passes(
        tmp_path,
        RULES,
        (
            [*counted(EVEN), *info(positive=None)],
            [
                close(recorded("selection_rate"), 0.5),
                close(recorded("label_coverage"), 1),
                absent('{__name__=~".*(true_positive|false_positive|predictive|base_rate|observed).*"}'),
            ],
        ),
    )


def test_models_and_versions_are_told_apart(tmp_path):
    """Each model has its own classes: what is positive in one is not in the other."""
    passes(
        tmp_path,
        RULES,
        (
            [*counted(EVEN), *counted(EVEN, model="n"), *info(), *info(model="n", positive="0", favourable="1")],
            [
                close(recorded("true_positive_rate", model_name="m"), 70 / 110),
                close(recorded("true_positive_rate", model_name="n"), 60 / 90),
            ],
        ),
    )


def test_half_a_case_is_added_where_nobody_is_selected(tmp_path):
    """The ratio is 0 and has bounds; it is absent, with the bounds shown, where the reference group selects nobody."""
    tables = [(0, 500, 250, 500), (0, 50, 25, 50), (300, 500, 500, 500), (25, 50, 0, 50), (0, 50, 0, 50), (1, 9, 4, 7)]
    passes(tmp_path, RULES, *[of_selected(*table) for table in tables])


def of_selected(x, n, x_reference, n_reference):
    """Counters of x of n selected in f and in m, and all that is expected of the ratios, by statsmodels."""
    z = 2.326
    inputs = [
        series("plumbline_predictions_total", stepping(count), **GROUP | {"group": group}, predicted=predicted)
        for group, (selected, of) in {"f": (x, n), "m": (x_reference, n_reference)}.items()
        for predicted, count in (("0", selected), ("1", of - selected))
    ]
    expected = compas.expected_ratios((x, n), (x_reference, n_reference), {"group": "f"}, z)
    return [*inputs, *info(z=z)], [*expected, absent('{__name__=~".+_ratio.+",group="m"}'), all_finite()]


def test_equalized_odds_ratio_needs_both_ratios_and_the_mean_both_gaps(tmp_path):
    """Without a false alarm anywhere the ratio of FPR is undefined, its gap is 0."""
    cells = {
        "m": {("0", "0"): 60, ("0", "1"): 40, ("1", "1"): 60},
        "f": {("0", "0"): 50, ("0", "1"): 10, ("1", "1"): 10},
    }
    inputs = [one for group, of_group in cells.items() for one in counted(of_group, group=group)]
    passes(
        tmp_path,
        RULES,
        (
            [*inputs, *info()],
            [
                close(recorded("equal_opportunity_ratio", level=PER_FEATURE), 0.5 / 0.6),
                absent(recorded("false_positive_rate_ratio", level=PER_FEATURE)),
                absent(recorded("equalized_odds_ratio", level=PER_FEATURE)),
                close(recorded("equalized_odds_difference_mean", level=PER_FEATURE), 0.05),
                absent(recorded("equal_opportunity_ratio_eligible", level=PER_FEATURE)),
                absent(recorded("equalized_odds_difference_mean_eligible", level=PER_FEATURE)),
                all_finite(),
            ],
        ),
    )


def test_averages_need_both_differences(tmp_path):
    """A group in which nobody is predicted negative omits nobody: it has no false omission rate."""
    cells = {"m": EVEN, "f": {("1", "0"): 20, ("1", "1"): 20}, "x": {("0", "0"): 30, ("1", "0"): 10, ("1", "1"): 20}}
    inputs = [one for group, of_group in cells.items() for one in counted(of_group, group=group)]
    tpr, fpr, ppv = 70 / 110, 30 / 90, 70 / 100
    passes(
        tmp_path,
        RULES,
        (
            [*inputs, *info()],
            [
                absent(recorded("false_omission_rate", group="f")),
                absent(recorded("average_predictive_value_difference", group="f")),
                close(recorded("average_odds_difference", group="f"), (1 - tpr + 1 - fpr) / 2),
                close(recorded("false_omission_rate", group="x"), 0),
                close(recorded("average_predictive_value_difference", group="x"), (20 / 30 - ppv - 0.4) / 2),
                close(recorded("average_odds_difference", group="x"), (1 - tpr + 0.25 - fpr) / 2),
                all_finite(),
            ],
        ),
    )


def test_bounds_stay_shares_at_the_ends(tmp_path):
    """Wilson's interval of 0 of 4 begins at 0, and of 4 of 4 ends at 1; at n = 1 too there is nothing but numbers."""
    upper = 3.841458820694124 / (4 + 3.841458820694124)
    passes(
        tmp_path,
        RULES,
        (
            [*counted({("1", "1"): 4}, group="f"), *counted({("0", "0"): 4}, group="m"), *info()],
            [
                close(recorded("selection_rate_lower", group="f"), 0),
                close(recorded("selection_rate_upper", group="f"), upper),
                close(recorded("selection_rate_lower", group="m"), 1 - upper),
                close(recorded("selection_rate_upper", group="m"), 1),
                all_finite(),
            ],
        ),
        ([*counted({("1", "1"): 1}, group="f"), *counted({("0", "0"): 1}, group="m"), *info()], [all_finite()]),
    )


def test_outcomes_of_earlier_predictions_do_not_lift_coverage_over_100_percent(tmp_path):
    """Outcomes for last week's predictions arrive today; and where nothing was predicted there is no coverage."""
    passes(
        tmp_path,
        RULES,
        (
            [
                *counted({("0", "0"): 90}, predictions={"0": 40}, group="m"),
                *counted({("0", "0"): 90}, predictions={"0": 0}, group="f"),
                *counted({("0", "0"): 0}, predictions={"0": 10}, group="x"),
                *info(),
            ],
            [
                close(recorded("label_coverage", group="m"), 1),
                close(recorded("label_coverage", group="x"), 0),
                absent(recorded("label_coverage", group="f")),
                all_finite(),
            ],
        ),
    )


def test_what_one_replica_corrects_of_another_leaves_no_fraction_of_a_count(tmp_path):
    """Started at different times, replicas extrapolate differently; what is left of a cell that was emptied is none."""
    cell = GROUP | {"predicted": "1"}
    moved = cell | {"from_actual": "1", "to_actual": "0"}
    passes(
        tmp_path,
        RULES,
        (
            [
                series("plumbline_outcomes_total", "_x12 1000 1003+0x11", "b", **cell, actual="1"),
                series("plumbline_outcomes_total", "1000+0x24", "b", **cell, actual="0"),
                series("plumbline_outcome_corrections_total", "1000 1003+0x23", "a", **moved),
                *info(samples=24),
            ],
            [
                absent(recorded("outcomes", "increase1d", "model_group_predicted_actual", actual="1")),
                absent(recorded("true_positive_rate")),
            ],
        ),
        every="1h",
    )
