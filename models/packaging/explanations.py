"""Gives a brought model its explainer, and says in the card what that is worth."""

import numpy as np

from models.card import paragraph
from models.explainer.card import card
from models.explainer.compile import Compiled, compile_explainer
from models.packaging.findings import Findings
from models.progress import progress
from models.task import FloatMatrix
from service.errors import PackageError
from service.manifest import ExplainerInfo, Feature

# Herding and calibration learn nothing from more.
MOST_ROWS = 20_000
SEED = 0
NONE = "**Answers of this model cannot be explained.** Why stands among the warnings above."
WHOSE_ROWS = (
    "Below, training rows are every other row of the given data, from which the background was chosen, and held-out "
    "rows are the rest of them."
)


def compile_explanations(model: bytes, features: list[Feature], X: FloatMatrix, findings: Findings) -> Compiled | None:
    """The explainer of `model`, whose background comes from one half of the rows `X` `(n, d)`, measured on the other.

    None, with a warning that says why, for a model that cannot be explained: it can be served all the same.
    """
    rows = X[np.unique(np.linspace(0, len(X) - 1, MOST_ROWS).round().astype(int))]
    # A single row is both.
    population, held_out = rows[::2], rows[1::2] if len(rows) > 1 else rows
    try:
        with progress(transient=True) as bar:
            bar.add_task("compiling the explainer", total=None)
            compiled = compile_explainer(model, features, population=population, held_out=held_out, seed=SEED)
    except PackageError as error:
        findings.warn(f"Answers cannot be explained: {error}")
        return None
    findings.understand("explanations", f"{compiled.algorithm}, background of {len(compiled.background.rows)} rows")
    return compiled


def explanation_card(info: ExplainerInfo | None, features: list[Feature]) -> str:
    """Paragraphs of the card about explanations, or that there are none."""
    return NONE if info is None else f"{paragraph(WHOSE_ROWS)}\n\n{card(info, features).strip()}"
