"""Enumeration against the definition, against shap and against shapiq."""

from itertools import combinations
from math import factorial

import games
import numpy as np
import pytest
from oracles import need

from models.explainer.calibrate import explain_rows
from models.explainer.exact import coalitions, enumerate_values, shapley_matrix
from models.explainer.sampled import add_enumeration
from models.explainer.served import load_served, run_single_threaded
from models.progression.data import load_splits


def wild(X):
    """A margin of two outputs with interactions of every order."""
    X = X.astype(np.float64)
    return np.stack([np.sin(X.sum(1)) + X.prod(1), np.exp(X @ np.linspace(-0.5, 0.5, X.shape[1]))], 1)


def by_definition(margin, background, x):
    """Formula (2), player by player and coalition by coalition."""
    d = len(x)

    def v(members):
        rows = background.copy()
        rows[:, list(members)] = x[list(members)]
        return margin(rows).mean(0)

    values = np.zeros((d, margin(x[None]).shape[1]))
    for player in range(d):
        others = [i for i in range(d) if i != player]
        for size in range(d):
            weight = factorial(size) * factorial(d - size - 1) / factorial(d)
            for members in combinations(others, size):
                values[player] += weight * (v((*members, player)) - v(members))
    return values


@pytest.mark.parametrize("d", [1, 2, 3, 6])
def test_enumeration_equals_the_definition(d):
    """To 1e-9 in float64, for both outputs."""
    rng = np.random.default_rng(d)
    background, x = rng.normal(size=(7, d)).astype(np.float32), rng.normal(size=d).astype(np.float32)
    assert enumerate_values(wild, background, x) == pytest.approx(by_definition(wild, background, x), abs=1e-9)


def test_every_coalition_or_its_complement_is_listed_once():
    """None but the pair of everyone and no one is left out."""
    masks = coalitions(6)
    both = {mask.tobytes() for mask in np.concatenate([masks, ~masks])}
    assert len(both) == 2**6 - 2
    assert shapley_matrix(masks).sum(0) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize(("d", "outputs"), [(2, 1), (6, 3), (10, 1)])
def test_the_compiled_graph_equals_enumeration_by_the_served_model(d, outputs, split):
    """To 1e-5 in float32, whether the first layer is split or every row is built."""
    rng = np.random.default_rng(d)
    X = rng.normal(size=(40, d)).astype(np.float32)
    served = load_served(games.network(d, outputs), X)
    session = run_single_threaded(add_enumeration(served, X[:20], split=split).finish({}).SerializeToString())
    explained = explain_rows(session, X[20:24])
    expected = np.stack([enumerate_values(served.margin, X[:20], x) for x in X[20:24]])
    assert explained.values == pytest.approx(expected, abs=1e-5)
    assert explained.residual.max() <= 1e-5


def test_the_compiled_graph_equals_shap(packages):
    """shap's ExactExplainer around the same session and background, to 1e-5."""
    shap = need("shap")
    model = packages["progression"]
    splits = load_splits()
    background, rows = splits.training.X[:50], splits.held_out.X[:3]
    served = load_served(model, splits.training.X)
    session = run_single_threaded(add_enumeration(served, background).finish({}).SerializeToString())
    oracle = shap.explainers.ExactExplainer(
        lambda X: served.margin(X)[:, 0], shap.maskers.Independent(background, max_samples=len(background))
    )
    expected = oracle(rows, silent=True)
    explained = explain_rows(session, rows)
    assert explained.values[:, :, 0] == pytest.approx(expected.values, abs=1e-5)
    assert explained.base_values[0] == pytest.approx(expected.base_values[0], abs=1e-5)


def test_enumeration_equals_shapiq():
    """shapiq's ExactComputer on the same value function, to 1e-9 in float64."""
    shapiq = need("shapiq")
    rng = np.random.default_rng(0)
    background, x = rng.normal(size=(5, 8)).astype(np.float32), rng.normal(size=8).astype(np.float32)

    def game(masks):
        return np.array([wild(np.where(mask, x, background))[:, 0].mean() for mask in masks])

    computed = shapiq.ExactComputer(game, n_players=8)("SV", 1)
    expected = [computed[(player,)] for player in range(8)]
    assert enumerate_values(wild, background, x)[:, 0] == pytest.approx(expected, abs=1e-9)
