"""COMPAS replayed as counters of two replicas, and what fairlearn, statsmodels and pandas say of the same rows."""

from collections import Counter
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from fairlearn import metrics as fairlearn
from promtool import REPLICAS, absent, alive, all_finite, close, described, selector, series, stepping
from sklearn.metrics import precision_score, recall_score
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

FILE = Path(__file__).parents[3] / "shared" / "data" / "compas.csv"
REFERENCES = {"race": "Caucasian", "sex": "Male"}
FEATURES = ("priors", "age", "charge")
BINS = [f"{low / 10}-{(low + 1) / 10}" for low in range(10)]
LEVELS = {
    "selection_rate": fairlearn.selection_rate,
    "true_positive_rate": fairlearn.true_positive_rate,
    "false_positive_rate": fairlearn.false_positive_rate,
    "positive_predictive_value": precision_score,
}


def rows():
    """The 7214 people, with a made-up score, SHAP values and replica, and an outcome for some; the same each time."""
    if not FILE.exists():
        pytest.skip("the COMPAS table is not here (shared/data/compas.csv beside the repository)")
    table = pd.read_csv(FILE)
    random = np.random.default_rng(7)
    frame = pd.DataFrame({"race": table["race"], "sex": table["sex"]})
    frame["predicted"] = table["score"].astype(int)
    frame["actual"] = table["label_value"].astype(int)
    frame["score"] = np.clip(random.beta(2, 2, len(frame)) * 0.5 + 0.5 * frame["predicted"], 0.001, 0.999)
    frame["bin"] = [BINS[int(score * 10)] for score in frame["score"]]
    for feature in FEATURES:
        frame[feature] = random.normal(0.3 * (frame["race"] == "African-American"), 1)
    frame["margin"] = frame[list(FEATURES)].sum(axis=1) - 0.4
    frame["explained"] = random.random(len(frame)) < 0.3
    frame["replica"] = np.where(random.random(len(frame)) < 0.4, *REPLICAS)
    frame["labelled"] = random.random(len(frame)) < np.where(frame["race"] == "Caucasian", 0.9, 0.6)
    return frame


def simultaneous_z(frame, feature):
    return NormalDist().inv_cdf(1 - 0.05 / (frame[feature].nunique() - 1))


def replayed(frame, model, favourable):
    """Every series that two replicas export once all rows have been counted; unlabelled rows have no outcome."""
    totals = Counter()
    for row in frame.to_dict("records"):
        for feature in REFERENCES:
            base = {"model_name": model, "model_version": "1", "sensitive_feature": feature}

            def count(name, amount=1.0, base=base, replica=row["replica"], **labels):
                totals[name, replica, tuple((base | labels).items())] += amount

            group, predicted, actual = row[feature], str(row["predicted"]), str(row["actual"])
            count("plumbline_predictions_total", group=group, predicted=predicted)
            count("plumbline_sensitive_feature_values_total", status="known")
            if row["labelled"]:
                count("plumbline_outcomes_total", group=group, predicted=predicted, actual=actual)
                count("plumbline_outcome_score_sum_total", row["score"], group=group, actual=actual)
                count("plumbline_outcome_score_bin_total", group=group, bin=row["bin"], actual=actual)
            if row["explained"]:
                count("plumbline_attribution_rows_total", group=group)
                sign = "positive" if row["margin"] >= 0 else "negative"
                count("plumbline_attribution_margin_sum_total", abs(row["margin"]), group=group, sign=sign)
                for name in FEATURES:
                    sign = "positive" if row[name] >= 0 else "negative"
                    amount = abs(row[name])
                    count("plumbline_attribution_sum_total", amount, group=group, feature=name, sign=sign)
    for (name, replica, labels), total in totals.items():
        yield series(name, stepping(total), replica, **dict(labels))
    for feature, reference in REFERENCES.items():
        z = simultaneous_z(frame, feature)
        classes = ("0", "1") if feature == "race" else ()
        yield from described(
            model, classes=classes, positive="1", favourable=str(favourable), references=[(feature, reference)], z=z
        )
    for feature in REFERENCES:
        labels = {"model_name": model, "model_version": "1", "sensitive_feature": feature}
        values = "plumbline_sensitive_feature_values_total"
        yield series(values, stepping(250), **labels, status="unknown")
        # Wild, and in no gap: reserved groups are not compared.
        yield series("plumbline_predictions_total", stepping(250), **labels, group="unknown", predicted="1")
    yield from alive()


def expected(frame, model, favourable):
    """The value of every recording rule, from the rows."""
    for feature in REFERENCES:
        yield from expected_of_feature(frame, model, favourable, feature)
    yield all_finite()


def expected_of_feature(frame, model, favourable, feature):
    where = {"model_name": model, "model_version": "1", "sensitive_feature": feature}
    z, reference = simultaneous_z(frame, feature), REFERENCES[feature]
    labelled = frame[frame["labelled"]]
    known = len(frame) / (len(frame) + 250)
    name = "model_sensitive_feature:plumbline_sensitive_feature_coverage:ratio_increase1d"
    yield close(selector(name, where), known)
    yield close(f"sum({selector('model_group:plumbline_declared_predictions:increase1d', where)})", len(frame))

    fractions = {group: group_fractions(of_group, favourable) for group, of_group in frame.groupby(feature)}
    for group, of_group in frame.groupby(feature):
        labels = where | {"group": group}
        rates = fractions[group]
        yield from expected_rates(of_group, rates, labels, favourable, z)
        yield from expected_calibration(of_group[of_group["labelled"]], labels)
        explained = of_group[of_group["explained"]]
        of_reference = frame[(frame[feature] == reference) & frame["explained"]]
        yield from expected_attribution(explained, of_reference, labels, group == reference)
        if group == reference:
            yield absent(selector("model_group:plumbline_impact_ratio:ratio_increase1d", labels))
        else:
            yield from expected_differences(rates, fractions[reference], labels, z)
            yield from expected_ratios(rates["selection_rate"], fractions[reference]["selection_rate"], labels, z)
            yield from expected_averages(of_group, frame[frame[feature] == reference], labels)
    yield from expected_disparities(frame, labelled, where, favourable, feature, fractions)


def group_fractions(of_group, favourable):
    """(numerator, denominator) of each rate, counted by pandas."""
    labelled = of_group[of_group["labelled"]]
    pairs = pd.crosstab(labelled["predicted"], labelled["actual"]).reindex(index=[0, 1], columns=[0, 1], fill_value=0)
    return {
        "selection_rate": (int((of_group["predicted"] == favourable).sum()), len(of_group)),
        "true_positive_rate": (int(pairs.loc[1, 1]), int(pairs[1].sum())),
        "false_positive_rate": (int(pairs.loc[1, 0]), int(pairs[0].sum())),
        "positive_predictive_value": (int(pairs.loc[1, 1]), int(pairs.loc[1].sum())),
        "label_coverage": (len(labelled), len(of_group)),
    }


def of_group_series(name, operation, labels, level="model_group"):
    return selector(f"{level}:plumbline_{name}:{operation}_increase1d".replace(":_", ":"), labels)


def ratio(name, labels, level="model_group"):
    return of_group_series(name, "ratio", labels, level)


def expected_rates(of_group, rates, labels, favourable, z):
    yield close(of_group_series("predictions", "", labels), len(of_group))
    yield close(of_group_series("outcomes", "", labels), int(of_group["labelled"].sum()))
    for predicted, n in of_group["predicted"].value_counts().items():
        of_class = labels | {"predicted": str(predicted)}
        yield close(of_group_series("predictions", "", of_class, "model_group_predicted"), n)
    for (predicted, actual), n in of_group[of_group["labelled"]].groupby(["predicted", "actual"]).size().items():
        cell = labels | {"predicted": str(predicted), "actual": str(actual)}
        yield close(of_group_series("outcomes", "", cell, "model_group_predicted_actual"), n)
    alpha = 2 * (1 - NormalDist().cdf(z))
    for name, (numerator, denominator) in rates.items():
        if denominator == 0:
            yield absent(ratio(name, labels))
            continue
        yield close(of_group_series(f"{name}_numerator", "", labels), numerator)
        yield close(of_group_series(f"{name}_denominator", "", labels), denominator)
        yield close(ratio(name, labels), numerator / denominator)
        low, high = proportion_confint(numerator, denominator, 0.05, method="wilson")
        yield close(ratio(f"{name}_lower", labels), low)
        yield close(ratio(f"{name}_upper", labels), high)
        if name != "selection_rate":
            low, high = proportion_confint(numerator, denominator, alpha, method="wilson")
            yield close(ratio(f"{name}_simultaneous_lower", labels), low)
            yield close(ratio(f"{name}_simultaneous_upper", labels), high)


def expected_differences(rates, of_reference, labels, z):
    alpha = 2 * (1 - NormalDist().cdf(z))
    for name, fraction in rates.items():
        pair = (*fraction, *of_reference[name])
        if 0 in (pair[1], pair[3]):
            yield absent(ratio(f"{name}_difference", labels))
            continue
        yield close(ratio(f"{name}_difference", labels), pair[0] / pair[1] - pair[2] / pair[3])
        low, high = confint_proportions_2indep(*pair, compare="diff", method="newcomb", alpha=0.05)
        yield close(ratio(f"{name}_difference_lower", labels), low)
        yield close(ratio(f"{name}_difference_upper", labels), high)
        if name != "selection_rate":
            low, high = confint_proportions_2indep(*pair, compare="diff", method="newcomb", alpha=alpha)
            yield close(ratio(f"{name}_difference_simultaneous_lower", labels), low)
            yield close(ratio(f"{name}_difference_simultaneous_upper", labels), high)


def expected_averages(of_group, of_reference, labels):
    """AIF360's averages of two differences, from scikit-learn's scores."""
    scores = {
        "tpr": {"pos_label": 1, "score": recall_score},
        "tnr": {"pos_label": 0, "score": recall_score},
        "ppv": {"pos_label": 1, "score": precision_score},
        "npv": {"pos_label": 0, "score": precision_score},
    }

    def scored(people, name):
        known, how = people[people["labelled"]], dict(scores[name])
        return how.pop("score")(known["actual"], known["predicted"], zero_division=np.nan, **how)

    own, others = ({name: scored(people, name) for name in scores} for people in (of_group, of_reference))
    yield close_or_absent(ratio("false_omission_rate", labels), 1 - own["npv"])
    apart = {name: own[name] - others[name] for name in scores}
    yield close_or_absent(ratio("false_omission_rate_difference", labels), -apart["npv"])
    yield close_or_absent(ratio("average_odds_difference", labels), (apart["tpr"] - apart["tnr"]) / 2)
    yield close_or_absent(ratio("average_predictive_value_difference", labels), (apart["ppv"] - apart["npv"]) / 2)


def close_or_absent(expr, value):
    return absent(expr) if np.isnan(value) else close(expr, value)


def log_interval(x, n, x_reference, n_reference, alpha):
    """statsmodels' interval of a ratio; half a case is added to all four counts where one of the counted is 0."""
    added = 0.5 if 0 in (x, x_reference) else 0
    counts = (count + added for count in (x, n, x_reference, n_reference))
    return confint_proportions_2indep(*counts, compare="ratio", method="log", alpha=alpha)


def expected_ratios(selected, of_reference, labels, z):
    (x, n), (x_reference, n_reference) = selected, of_reference
    alpha = 2 * (1 - NormalDist().cdf(z))
    yield close(of_group_series("not_selected", "", labels), n - x)
    for name, pair, bound in (
        ("impact_ratio", (x, n, x_reference, n_reference), 1),
        ("adverse_ratio", (n - x, n, n_reference - x_reference, n_reference), 0),
    ):
        defined = pair[2] > 0
        value = (pair[0] / pair[1]) / (pair[2] / pair[3]) if defined else np.nan
        low, high = log_interval(*pair, alpha=0.05)
        yield close_or_absent(ratio(name, labels), value)
        yield close_or_absent(ratio(f"{name}_lower", labels), low if defined else np.nan)
        yield close_or_absent(ratio(f"{name}_upper", labels), high if defined else np.nan)
        yield close(of_group_series(f"{name}_added_cases", "", labels), 0.5 if 0 in (pair[0], pair[2]) else 0)
        yield close(ratio(f"{name}_centre", labels), np.sqrt(low * high))
        error = np.log(high / low) / (2 * NormalDist().inv_cdf(0.975))
        yield close(ratio(f"{name}_log_standard_error", labels), error)
        bounds = log_interval(*pair, alpha=alpha)
        yield close(ratio(f"{name}_simultaneous_{('lower', 'upper')[bound]}", labels), bounds[bound])


def expected_calibration(labelled, labels):
    mean_score, observed = labelled["score"].mean(), labelled["actual"].mean()
    yield close(of_group_series("outcome_score", "mean", labels), mean_score)
    yield close(ratio("base_rate", labels), observed)
    yield close(ratio("calibration_difference", labels), mean_score - observed)
    for name, in_bin in labelled.groupby("bin"):
        of_bin = labels | {"bin": name}
        yield close(of_group_series("outcome_score_bin", "", of_bin, "model_group_bin"), len(in_bin))
        yield close(ratio("observed_rate", of_bin, "model_group_bin"), in_bin["actual"].mean())


def expected_attribution(explained, of_reference, labels, is_reference):
    if explained.empty:
        return
    yield close(of_group_series("attribution_rows", "", labels), len(explained))
    yield close(of_group_series("attribution_margin", "mean", labels), explained["margin"].mean())
    for name in FEATURES:
        of_feature = labels | {"feature": name}
        yield close(of_group_series("attribution", "mean", of_feature, "model_group_feature"), explained[name].mean())
        if not is_reference:
            difference = explained[name].mean() - of_reference[name].mean()
            series_name = of_group_series("attribution_difference", "mean", of_feature, "model_group_feature")
            yield close(series_name, difference)
    if not is_reference:
        margin = of_group_series("attribution_margin_difference", "mean", labels)
        yield close(margin, explained["margin"].mean() - of_reference["margin"].mean())
        # The base value is the same for both groups: the features' differences add up to that of the margin.
        parts = of_group_series("attribution_difference", "mean", labels, "model_group_feature")
        yield close(f"sum({parts}) - sum({margin})", 0.0)


def expected_disparities(frame, labelled, where, favourable, feature, fractions):
    def kept(rows, rate, least):
        return rows[[fractions[group][rate][1] >= least for group in rows[feature]]]

    def by_group(rate, least):
        rows = kept(labelled, rate, least)
        return fairlearn.MetricFrame(
            metrics=LEVELS[rate], y_true=rows["actual"], y_pred=rows["predicted"], sensitive_features=rows[feature]
        )

    for suffix, least in (("", 1), ("_eligible", 30)):
        of_all = kept(frame, "selection_rate", least)
        selected = (of_all["predicted"] == favourable).astype(int)
        arguments = {"y_true": of_all["actual"], "y_pred": selected, "sensitive_features": of_all[feature]}
        found = {
            "demographic_parity_difference": fairlearn.demographic_parity_difference(**arguments),
            "demographic_parity_ratio": fairlearn.demographic_parity_ratio(**arguments),
        }
        for name, rate in (
            ("equal_opportunity_difference", "true_positive_rate"),
            ("false_positive_rate_difference", "false_positive_rate"),
            ("predictive_parity_difference", "positive_predictive_value"),
        ):
            found[name] = by_group(rate, least).difference()
        found["equal_opportunity_ratio"] = by_group("true_positive_rate", least).ratio()
        found["false_positive_rate_ratio"] = by_group("false_positive_rate", least).ratio()
        if least == 1:
            arguments = {
                "y_true": labelled["actual"],
                "y_pred": labelled["predicted"],
                "sensitive_features": labelled[feature],
            }
            found["equalized_odds_difference"] = fairlearn.equalized_odds_difference(**arguments)
            found["equalized_odds_difference_mean"] = fairlearn.equalized_odds_difference(**arguments, agg="mean")
            found["equalized_odds_ratio"] = fairlearn.equalized_odds_ratio(**arguments)
        else:
            # fairlearn's takes one set of rows; which groups are eligible may differ between TPR and FPR.
            gaps = found["equal_opportunity_difference"], found["false_positive_rate_difference"]
            found["equalized_odds_difference"], found["equalized_odds_difference_mean"] = max(gaps), sum(gaps) / 2
            found["equalized_odds_ratio"] = min(found["equal_opportunity_ratio"], found["false_positive_rate_ratio"])
        for name, value in found.items():
            yield close(ratio(name + suffix, where, "model_sensitive_feature"), value)
