"""What the model card says about explanations: the method, the background, and how wrong the answers are."""

import textwrap
from collections.abc import Sequence

from service.manifest import ExplainerInfo, Feature

LINE_WIDTH = 118

METHODS = {
    "linear": "The margin is affine in the features, so the values are a closed form.",
    "tree": "The values are exact: every leaf of the trees is a lookup.",
    "enumeration": "The values are exact: every coalition of features is asked.",
    "stratified_wls": "The values are an estimate from a fixed plan of {n_evals:,} model rows, with standard errors.",
}
GAME = """
An explanation is the interventional SHAP values of the margin: what a feature adds when it takes the instance's value
and the others are drawn from {rows} training rows, chosen by kernel herding (maximum mean discrepancy to the training
rows {discrepancy:g}; as many random rows leave {random_discrepancy:g}). They add up to the margin minus its mean over
those rows. They tell what the model does, not what causes the outcome, and where features are correlated they also
ask the model about combinations that do not occur."""
EXACT = """
Checked on {rows} held-out rows against a second computation in float64: the largest difference was {error_max:.1e} of
the row's largest value."""
ESTIMATE = """
Measured on {rows} held-out rows against 16 times the plan: the largest error of a row was at most {error_p50} of its
largest value for half of the rows and at most {error_p95} for 95 % of them. {error_std_coverage} of the errors lay
within 1.96 standard errors. The {top_k} largest values were certified in {certified} of the rows; of those
{certified_wrong} named another set than the reference. With the doubled plan ({doubled_n_evals:,} model rows), which
answers where a caller's tolerance asks for more, the error was at most {doubled_error_p95} for 95 % of the rows."""
SHARES = ("error_p50", "error_p95", "error_std_coverage", "certified", "certified_wrong")


def card(info: ExplainerInfo, features: Sequence[Feature]) -> str:
    """Markdown paragraphs, without a heading."""
    figures = info.calibration
    method = METHODS[info.algorithm].format(n_evals=info.n_evals)
    if any(feature.categories for feature in features):
        method += " A categorical feature is one player, whatever its number of categories."
    game = GAME.format(**{**figures, "rows": info.background_rows})
    if info.doubled is None:
        measured = EXACT.format(**figures)
    else:
        shares = {name: _percent(figures[name]) for name in SHARES}
        doubled = {
            "doubled_n_evals": info.doubled.n_evals,
            "doubled_error_p95": _percent(figures["doubled"]["error_p95"]),
        }
        measured = ESTIMATE.format(**{**figures, **shares, **doubled})
    return "\n\n".join(textwrap.fill(text, LINE_WIDTH) for text in (method + game, measured)) + "\n"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
