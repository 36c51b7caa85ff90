"""Options and answers of explanations: what a caller may ask, and an attribution as JSON.

Field names are shap's own, so that `shap.Explanation(values=..., base_values=..., data=..., feature_names=...)` works
on an answer. Knows no session and no queue.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from service.api import codec
from service.manifest import ExplainerInfo, Manifest
from service.runtime.explainer import Attribution

Floats = NDArray[np.float32]

DEFAULT_TOP_K = 4
# The adverse-action practice of naming up to four principal reasons (12 CFR 1002.9, comment 9(b)(2)-1).
MOST_REASONS = 4

When = Literal["always", "positive", "negative"]


@dataclass(frozen=True, slots=True)
class ExplainOptions:
    """What a caller asked: None where the caller did not say."""

    top_k: int | None = None
    tolerance: float | None = None
    deadline_ms: float | None = None
    when: When = "always"

    def wants(self, label: object, manifest: Manifest) -> bool:
        """Whether a row with this predicted `label` is to be explained."""
        return self.when == "always" or (label == manifest.positive_class) == (self.when == "positive")

    def satisfied_by(self, attribution: Attribution, output: int) -> bool:
        """Whether `attribution` is precise enough for what was asked; without a wish it always is."""
        precise = self.tolerance is None or attribution.within(self.tolerance)
        return precise and (self.top_k is None or attribution.certain_top(output, self.top_k)[1])


def explained_output(manifest: Manifest, label: object) -> int:
    """The column that ranks features: the only one of a binary model, else that of the predicted label."""
    return 0 if manifest.task == "binary" else manifest.classes.index(label)  # type: ignore[arg-type]


def not_explained(status: Literal["skipped", "failed"], reason: str) -> dict[str, Any]:
    """The entry of a row without values."""
    return {"status": status, "reason": reason}


def encode(
    manifest: Manifest,
    info: ExplainerInfo,
    row: Floats,
    attribution: Attribution,
    *,
    output: int,
    options: ExplainOptions,
) -> dict[str, Any]:
    """`attribution` of `row` `(d,)` as DESIGN section 3 has it; `info` is that of the plan which made it."""
    k = min(options.top_k or DEFAULT_TOP_K, len(manifest.features))
    top, certified = attribution.certain_top(output, k)
    names = manifest.feature_names
    data = codec.posted(manifest.features, row)
    return {
        "values": attribution.values.tolist(),
        "base_values": attribution.base_values.tolist(),
        "data": data,
        "feature_names": names,
        "output_names": output_names(manifest),
        "error_std": attribution.error_std.tolist(),
        "fx": attribution.fx.tolist(),
        "additivity_residual": attribution.additivity_residual,
        "status": _status(info, attribution, options, output),
        "algorithm": info.algorithm,
        "output_space": "margin",
        "n_evals": info.n_evals,
        "top_k": {"k": k, "features": [names[index] for index in top], "certified": certified},
        "reasons": reasons(manifest, attribution, data),
        "plan_id": info.plan_id,
        "background": {"rows": info.background_rows, "id": info.background_id},
    }


def _status(info: ExplainerInfo, attribution: Attribution, options: ExplainOptions, output: int) -> str:
    if not options.satisfied_by(attribution, output):
        return "tie"
    return "exact" if info.exact else "estimate"


def output_names(manifest: Manifest) -> list[str]:
    """One name per explained margin."""
    labels = [manifest.positive_class] if manifest.task == "binary" else manifest.classes
    return [f"{label}_margin" for label in labels]


def reasons(manifest: Manifest, attribution: Attribution, data: Sequence[Any]) -> list[dict[str, Any]] | None:
    """Up to four features that push toward the adverse decision, strongest first; None if no outcome is favourable.

    `certified` says that sampling error can neither turn the feature's sign nor swap it with the next one.
    """
    push = adverse_push(manifest, attribution.values)
    if push is None:
        return None
    column = 0 if manifest.task == "binary" else manifest.classes.index(manifest.favourable_outcome)  # type: ignore[arg-type]
    error = attribution.error_std[:, column].astype(np.float64)
    order = np.argsort(-push, kind="stable").tolist()
    named = [index for index in order[:MOST_REASONS] if push[index] > 0]
    made = []
    for place, index in enumerate(named):
        margin = push[index] if place + 1 >= len(order) else push[index] - max(push[order[place + 1]], 0.0)
        other = 0.0 if place + 1 >= len(order) else error[order[place + 1]]
        certified = margin > 2.0 * float(np.hypot(error[index], other)) and push[index] > 2.0 * error[index]
        feature = manifest.features[index]
        made.append(
            {
                "feature": feature.name,
                "value": float(push[index]),
                "certified": bool(certified),
                "text": feature.reason_text(data[index]),
            }
        )
    return made


def adverse_push(manifest: Manifest, values: Floats) -> NDArray[np.float64] | None:
    """`values` `(d, C)` -> how far each feature moves the margin away from the favourable outcome, `(d,)`."""
    if manifest.favourable_outcome is None:
        return None
    if manifest.task == "binary":
        sign = -1.0 if manifest.favourable_outcome == manifest.positive_class else 1.0
        return sign * values[:, 0].astype(np.float64)
    return -values[:, manifest.classes.index(manifest.favourable_outcome)].astype(np.float64)
