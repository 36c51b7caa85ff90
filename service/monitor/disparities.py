"""How far the groups of one sensitive feature lie apart: fairlearn's metrics, with bounds, from rates."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from service.monitor.fairness import ELIGIBLE_DENOMINATOR, Gap, Rate, difference, ratio

Rates = Mapping[str, Mapping[str, Rate]]  # group -> name of the rate -> rate
# Of the bootstrap; the seed is fixed, so that the same counts give the same report.
REPLICATES = 2000
SEED = 7
TPR, FPR = "true_positive_rate", "false_positive_rate"


def disparities(rates: Rates) -> dict[str, dict[str, float] | None]:
    """Over all groups, and with `_eligible` over those whose denominator is at least 30; None where undefined."""
    made: dict[str, dict[str, float] | None] = {}
    for suffix, least in (("", 1), ("_eligible", ELIGIBLE_DENOMINATOR)):

        def of(name: str, least: int = least) -> dict[str, Rate]:
            return {group: of_group[name] for group, of_group in rates.items()}

        def apart(name: str, comparisons: int = 1, least: int = least) -> Gap | None:
            return difference(of(name), least_denominator=least, comparisons=comparisons)

        gaps = {
            "demographic_parity_difference": apart("selection_rate"),
            "demographic_parity_ratio": ratio(of("selection_rate"), least_denominator=least),
            "equal_opportunity_difference": apart(TPR),
            "false_positive_rate_difference": apart(FPR),
            "predictive_parity_difference": apart("positive_predictive_value"),
        }
        made |= {name + suffix: None if gap is None else _shown(gap) for name, gap in gaps.items()}
        made |= {
            name + suffix: odds for name, odds in _equalized_odds(rates, apart(TPR, 2), apart(FPR, 2), least).items()
        }
    return made


def _shown(gap: Gap) -> dict[str, float]:
    return {"value": gap.value, "low": gap.low, "high": gap.high}


def _equalized_odds(rates: Rates, tpr: Gap | None, fpr: Gap | None, least: int) -> dict[str, dict[str, float] | None]:
    """The larger of the TPR and FPR gaps, their mean, and the smaller of their ratios; undefined unless both are."""
    names = ("equalized_odds_difference", "equalized_odds_difference_mean", "equalized_odds_ratio")
    if tpr is None or fpr is None:
        return dict.fromkeys(names)
    bootstrap = _bootstrap(rates, least)
    larger = {"value": max(tpr.value, fpr.value), "low": max(tpr.low, fpr.low), "high": max(tpr.high, fpr.high)}
    ratios = [ratio({g: r[name] for g, r in rates.items()}, least_denominator=least) for name in (TPR, FPR)]
    defined = [found.value for found in ratios if found is not None]
    return {
        names[0]: larger | bootstrap,
        names[1]: {"value": (tpr.value + fpr.value) / 2},
        names[2]: {"value": min(defined)} if len(defined) == 2 else None,
    }


def _bootstrap(rates: Rates, least: int) -> dict[str, float]:
    """95 % percentile interval of the equalized odds difference: true and false positives drawn anew in each group.

    Resampling the counts is resampling the rows, as all rows of a cell are alike. Numbers of positives and negatives
    stay as they are. Like every bootstrap of a largest minus a smallest it lies too high where groups are small; the
    bounds `low` and `high` do not.
    """
    dice = np.random.default_rng(SEED)

    def drawn(name: str) -> NDArray[np.float64]:
        kept = [rate[name] for rate in rates.values() if rate[name].denominator >= least]
        shares = [dice.binomial(rate.denominator, rate.value or 0.0, REPLICATES) / rate.denominator for rate in kept]
        return np.ptp(np.array(shares), axis=0)  # type: ignore[no-any-return]

    low, high = np.quantile(np.maximum(drawn(TPR), drawn(FPR)), [0.025, 0.975])
    return {"bootstrap_low": float(low), "bootstrap_high": float(high)}
