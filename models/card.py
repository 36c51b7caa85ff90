"""Writes card.md: a model in plain words, for those who answer for its use.

Each model keeps its own prose in `models/NAME/card.md`, with `$placeholders`; figures are filled in here, from the
evaluation, so that prose and figures cannot drift apart. An unknown placeholder is an error.
"""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from string import Template

from models.evaluate import REPLICATES, Confusion, Cost, Estimate, Evaluation, Quality
from models.task import Declaration, Rows, Splits
from service.monitor.fairness import ELIGIBLE_DENOMINATOR, Rate

WIDTH = 118
UNDEFINED = "undefined"
QUALITY = {
    "auroc": "AUROC",
    "average_precision": "Average precision",
    "brier": "Brier score (lower is better)",
    "calibration_error": "Calibration error (lower is better)",
    "cost_per_row": "Cost per row at the threshold",
}
GAPS = {
    "demographic_parity_difference": "Selection rate, largest minus smallest",
    "equal_opportunity_difference": "True positive rate, largest minus smallest",
    "false_positive_rate_difference": "False positive rate, largest minus smallest",
    "equalized_odds_difference": "Equalized odds (the larger of the two above)",
}
INTERVALS = (
    f"Intervals are 95 %: stratified bootstrap with {REPLICATES} replicates for rankings, Wilson for shares, and for "
    "gaps bounds that hold for all groups of a table at once. All of them take rows as independent of each other. "
    "`undefined` stands where there were too few rows to compute a figure."
)


def card(
    declaration: Declaration, splits: Splits, cost: Cost, evaluation: Evaluation, explainer: str, template: Path
) -> str:
    """The card as Markdown, from the prose in `template` and what `explainer` says of the explanations.

    KeyError names a placeholder that has no figure.
    """
    return Template(template.read_text(encoding="utf-8")).substitute(
        intervals=paragraph(INTERVALS),
        splits=split_table(declaration, splits),
        quality=quality_table(evaluation),
        verdict=verdict(evaluation),
        decision=decision(declaration, cost, evaluation),
        groups=group_tables(declaration, evaluation.groups, evaluation.gaps),
        ablation=ablation_table(evaluation),
        explainer=explainer.strip(),
        largest_margin=f"{evaluation.largest_margin:.2f}",
        provenance=paragraph(f"Data fingerprint (rows, labels and groups of all splits): `{splits.fingerprint()}`."),
        n=evaluation.n,
    )


def split_table(declaration: Declaration, splits: Splits) -> str:
    """Rows and positives per split."""
    parts: dict[str, Rows] = {
        "training (fits the weights)": splits.training,
        "validation (stops training, sets the threshold)": splits.validation,
        "held-out (every figure below)": splits.held_out,
    }
    return table(
        ["Split", "Rows", declaration.positive_class, "Share"],
        [[name, f"{len(rows)}", f"{rows.y.sum()}", percent(rows.y.mean())] for name, rows in parts.items()],
    )


def quality_table(evaluation: Evaluation) -> str:
    """The model beside its baseline, with intervals where there are some."""

    def shown(quality: Quality, name: str) -> str:
        value = getattr(quality, name)
        return estimate(value) if isinstance(value, Estimate) else f"{value:.4f}"

    rows = [[title, shown(evaluation.model, name), shown(evaluation.baseline, name)] for name, title in QUALITY.items()]
    return table(["Held-out rows", "This model", "Logistic regression"], rows)


def verdict(evaluation: Evaluation) -> str:
    """Says whether the model beats its baseline, ties or loses, for AUROC and for average precision."""
    sentences = []
    for name, gain in (("AUROC", evaluation.auroc_gain), ("average precision", evaluation.average_precision_gain)):
        if gain.value is None or gain.low is None or gain.high is None:
            sentences.append(f"For {name} nothing can be said: the held-out rows hold one class only.")
            continue
        if gain.low > 0:
            finding = "the model is better than the baseline"
        elif gain.high < 0:
            finding = "**the model loses to the baseline**"
        else:
            side = "ahead" if gain.value > 0 else "behind" if gain.value < 0 else "level"
            finding = f"the two cannot be told apart; the model is nominally {side}"
        sentences.append(f"For {name} {finding} (difference {estimate(gain, signed=True)}).")
    return paragraph(" ".join(sentences))


def decision(declaration: Declaration, cost: Cost, evaluation: Evaluation) -> str:
    """The threshold, its cost, and what the held-out rows got at it."""
    negative, positive = declaration.classes
    counts = evaluation.model.confusion
    model, baseline = evaluation.model, evaluation.baseline
    words = paragraph(
        f"A row is called `{positive}` when its probability is at least **{model.threshold:g}**, the threshold with "
        f"the least cost on the validation rows where {cost.stated}. On the held-out rows this model's decisions cost "
        f"{model.cost_per_row:.3g} {cost.unit} a row, the baseline's {baseline.cost_per_row:.3g} at its own threshold "
        f"{baseline.threshold:g}, chosen in the same way."
    )
    cells = counts.cells.rates(positive_is_favourable=False)
    rates = paragraph(
        f"Of the `{positive}` rows {rate(cells['true_positive_rate'])} are found; of the `{negative}` rows "
        f"{rate(cells['false_positive_rate'])} are called `{positive}` by mistake; of all rows called `{positive}` "
        f"{rate(cells['positive_predictive_value'])} are."
    )
    grid = table(
        ["Held-out rows", f"called {positive}", f"called {negative}"],
        [
            [f"are {positive}", f"{counts.true_positive}", f"{counts.false_negative}"],
            [f"are {negative}", f"{counts.false_positive}", f"{counts.true_negative}"],
        ],
    )
    return f"{words}\n\n{grid}\n\n{rates}"


def group_tables(
    declaration: Declaration, counted: Mapping[str, Mapping[str, Confusion]], gaps: Mapping[str, Mapping[str, Estimate]]
) -> str:
    """Rates per group with n and interval, then the gaps, for each sensitive feature and declared intersection."""
    favourable = declaration.favourable_outcome == declaration.positive_class
    references = {feature.name: feature.reference_group for feature in declaration.sensitive_features}
    sections = []
    for name, groups in counted.items():
        rows = []
        for group, counts in groups.items():
            rates = counts.cells.rates(positive_is_favourable=favourable)
            mark = " (reference)" if references.get(name) == group else ""
            rows.append([f"{group}{mark}", f"{counts.cells.n}", *(rate(value) for value in rates.values())])
        header = ["Group", "n", f"Called {declaration.favourable_outcome}", "True positive rate"]
        header += ["False positive rate", "Positive predictive value", f"Are {declaration.positive_class}"]
        gap_rows = [
            [title, estimate(gaps[name][key]), estimate(gaps[name][f"{key}_eligible"])] for key, title in GAPS.items()
        ]
        gap_header = ["Gap", "All groups", f"Groups with a denominator of {ELIGIBLE_DENOMINATOR} or more"]
        sections.append(f"### `{name}`\n\n{table(header, rows)}\n\n{table(gap_header, gap_rows)}")
    return "\n\n".join(sections)


def ablation_table(evaluation: Evaluation) -> str:
    """Each figure that an ablation measured, with its interval."""
    return table(["Held-out rows", "Value (95 % interval)"], [[k, estimate(v)] for k, v in evaluation.ablation.items()])


def estimate(figure: Estimate, *, signed: bool = False) -> str:
    """`0.981 (0.962 to 0.994)`, or `undefined`."""
    if figure.value is None or figure.low is None or figure.high is None:
        return UNDEFINED
    form = "+.4f" if signed else ".4f"
    return f"{figure.value:{form}} ({figure.low:{form}} to {figure.high:{form}})"


def rate(share: Rate) -> str:
    """`93.1 % (88.0 to 96.1)` with the Wilson interval, or `undefined` where nothing was counted."""
    value, interval = share.value, share.interval()
    if value is None or interval is None:
        return UNDEFINED
    low, high = interval
    return f"{100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def percent(share: float) -> str:
    """`1.3 %`."""
    return f"{100 * share:.1f} %"


def paragraph(text: str) -> str:
    """`text`, wrapped."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, the first column left-aligned, the others right-aligned."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
