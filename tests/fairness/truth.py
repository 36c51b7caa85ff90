"""What fairlearn, scikit-learn and statsmodels say of a table of people; columns as in `tables`."""

import fairlearn.metrics as fairlearn
from sklearn.metrics import confusion_matrix
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint


def disparities(table, feature):
    """fairlearn's metrics over all groups, by the names that the report has for them."""
    about = table["actual"], table["predicted"]
    groups = {"sensitive_features": table[feature]}
    return {
        "demographic_parity_difference": fairlearn.demographic_parity_difference(*about, **groups),
        "demographic_parity_ratio": fairlearn.demographic_parity_ratio(*about, **groups),
        "equal_opportunity_difference": fairlearn.equal_opportunity_difference(*about, **groups),
        "equalized_odds_difference": fairlearn.equalized_odds_difference(*about, **groups),
        "equalized_odds_difference_mean": fairlearn.equalized_odds_difference(*about, agg="mean", **groups),
        "equalized_odds_ratio": fairlearn.equalized_odds_ratio(*about, **groups),
        "false_positive_rate_difference": fairlearn.MetricFrame(
            metrics=fairlearn.false_positive_rate, y_true=about[0], y_pred=about[1], **groups
        ).difference(),
    }


def cells(table, feature):
    """{group: (TP, FP, FN, TN)}, counted by scikit-learn."""
    found = {}
    for group, people in table.groupby(feature):
        tn, fp, fn, tp = confusion_matrix(people["actual"], people["predicted"], labels=[0, 1]).ravel().tolist()
        found[group] = (tp, fp, fn, tn)
    return found


def fractions(tp, fp, fn, tn):
    """(numerator, denominator) of each rate where everybody has an outcome; the positive class is the favourable."""
    n = tp + fp + fn + tn
    return {
        "selection_rate": (tp + fp, n),
        "true_positive_rate": (tp, tp + fn),
        "false_positive_rate": (fp, fp + tn),
        "positive_predictive_value": (tp, tp + fp),
        "base_rate": (tp + fn, n),
        "label_coverage": (n, n),
    }


def wilson(numerator, denominator):
    return proportion_confint(numerator, denominator, 0.05, method="wilson")


def newcombe(one, other):
    return confint_proportions_2indep(*one, *other, compare="diff", method="newcomb", alpha=0.05)


def katz(one, other):
    return confint_proportions_2indep(*one, *other, compare="ratio", method="log", alpha=0.05)
