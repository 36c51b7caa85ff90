"""Manifests without a package: what a model declares, as far as the monitor reads it."""

from service.manifest import Manifest

NO_DIGEST = "sha256:" + 64 * "0"
SEX = ("sex", ("female", "male"))
AGE_BAND = ("age_band", ("18-29", "30-49", "50+"))


def declared(*sensitive_features, intersections=(), classes=("no", "yes"), explained=False, **changes):
    """A Manifest of `sensitive_features`, (name, groups) whose last group is the reference group.

    Binary, "yes" positive and favourable, unless there are other classes; those have no roles but by `changes`.
    """
    roles = {"task": "multiclass", "link": "softmax"}
    if len(classes) == 2:
        roles = {"task": "binary", "link": "logit", "threshold": 0.5}
        roles |= {"positive_class": classes[1], "favourable_outcome": classes[1]}
    if explained:
        plan = {"algorithm": "linear", "plan_id": NO_DIGEST, "n_evals": 0}
        roles["explainer"] = plan | {"background_rows": 1, "background_id": NO_DIGEST}
    files = ["model.onnx", "golden.json", *(["explainer.onnx"] if explained else [])]
    about = {
        "name": "m",
        "version": "1",
        "created_at": "2026-11-22T00:00:00Z",
        "description": "Declared in a test.",
        "classes": list(classes),
        "features": [{"name": name, "kind": "numeric"} for name in ("x", "y")],
        "sensitive_features": [
            {"name": name, "groups": list(groups), "reference_group": groups[-1]} for name, groups in sensitive_features
        ],
        "intersections": [list(parts) for parts in intersections],
        "digests": dict.fromkeys(files, NO_DIGEST),
        "provenance": {"seed": 7, "data_fingerprint": "none"},
    }
    return Manifest.model_validate(about | roles | changes)
