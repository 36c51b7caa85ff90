"""A brought model is explained by the service, exactly where it can be; what cannot be explained is still served."""

import numpy as np
import pytest
from bringing import NUMBERS, N, bring, instances
from graphs import FLOAT, WEIGHTS, graph, single, stump
from inprocess import serving
from onnx import helper

from service.manifest import read_manifest


def explained(folder, rows):
    """Predictions and explanations of the first 100 rows."""
    with serving(folder.parents[1], device="cpu") as client:
        body = {"instances": instances(rows.columns, NUMBERS)[:100], "explain": True}
        reply = client.predict(body, model=folder.parent.name)
    assert reply.status_code == 200, reply.text
    return reply.json()["explanations"]


def test_a_linear_model_is_explained_in_closed_form(rows, tmp_path):
    """The value of a feature is its weight times its distance from the background's mean."""
    folder, _ = bring(tmp_path, single("Sigmoid"), rows.with_label(rows.y))
    mean = np.load(folder / "background.npy").astype(np.float64).mean(axis=0)
    values = np.array([entry["values"] for entry in explained(folder, rows)])[:, :, 0]
    np.testing.assert_allclose(values, WEIGHTS[:, 0] * (rows.X[:100] - mean), rtol=1e-4, atol=1e-5)


def test_an_explanation_is_about_the_positive_class(rows, tmp_path):
    """With the first class as the positive one, every value changes its sign."""
    for name, positive in (("one", "1"), ("zero", "0")):
        (tmp_path / name).mkdir()
        bring(tmp_path / name, stump(-1.5, 2.0, "LOGISTIC"), rows.with_label(rows.y), positive=positive)
    one, zero = (
        np.array([entry["values"] for entry in explained(tmp_path / name / "repository" / "credit" / "1", rows)])
        for name in ("one", "zero")
    )
    assert np.abs(one).max() > 1
    np.testing.assert_allclose(one, -zero, atol=1e-6)


def wide(features):
    """A network that is neither linear nor a tree, with more features than an explainer can ask about."""
    nodes = [
        helper.make_node("Tanh", ["rows"], ["bent"]),
        helper.make_node("ReduceMean", ["bent", "axis"], ["score"], keepdims=1),
    ]
    inputs = {"rows": (FLOAT, ["n", features])}
    return graph(nodes, {"score": (FLOAT, ["n", 1])}, inputs=inputs, constants={"axis": np.array([1])})


def test_a_model_that_cannot_be_explained_is_packaged_with_a_warning(rows, tmp_path):
    """The warning says why, and so does the card."""
    dice = np.random.default_rng(0)
    columns = {f"x{i}": dice.normal(size=N) for i in range(70)} | {"y": rows.y}
    folder, findings = bring(tmp_path, wide(70), columns, sensitive=())
    assert read_manifest(folder).explainer is None
    assert any(text.startswith("Answers cannot be explained") for text in findings.warnings)
    assert "cannot be explained" in (folder / "card.md").read_text()


@pytest.mark.parametrize("rows_kept", [1, 2, 9])
def test_few_rows_are_enough_for_a_package_with_a_warning(rows, tmp_path, rows_kept):
    """Nothing but the explanation is refused for that; that little can be known is said."""
    columns = {name: cells[:rows_kept] for name, cells in rows.with_label(rows.y).items() if name != "y"}
    folder, findings = bring(tmp_path, single("Sigmoid"), columns, label=None, classes=("no", "yes"))
    assert any("are few" in text for text in findings.warnings)
    unexplained = any("cannot be explained" in text for text in findings.warnings)
    assert (read_manifest(folder).explainer is None) == unexplained
