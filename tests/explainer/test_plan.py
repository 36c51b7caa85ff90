"""The stratified plan by itself: balance, nesting, conditioning and local accuracy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.explainer.plan import MAX_CONDITION, MAX_PLAYERS, estimate, make_plan
from service.errors import PackageError

PLAYERS = [8, 11, 12, 30, 47, MAX_PLAYERS]


def coalitions(masks):
    """Every pair of `masks` by one name, whichever member stands for it."""
    return [frozenset({mask.tobytes(), (~mask).tobytes()}) for mask in masks]


@pytest.mark.parametrize("d", PLAYERS)
def test_the_doubled_plan_begins_with_the_plan(d):
    """Same coalitions in its first half, same shuffles, twice the rows."""
    plan, doubled = (make_plan(d, 6, 5 * d, seed=1, doubled=twice) for twice in (False, True))
    assert set(coalitions(doubled.masks[0])) == set(coalitions(plan.masks.reshape(-1, d)))
    assert np.array_equal(plan.places, doubled.places)
    assert doubled.n_evals == 2 * plan.n_evals


@pytest.mark.parametrize("d", [11, 12, 30, MAX_PLAYERS])
def test_no_coalition_is_asked_twice(d):
    """Not even as a complement."""
    masks = make_plan(d, 2, 5 * d, seed=1, doubled=True).masks.reshape(-1, d)
    assert len(set(coalitions(masks))) == len(masks)


@pytest.mark.parametrize("d", [12, 30, MAX_PLAYERS])
def test_players_are_about_equally_often_in_a_half(d):
    """Within each size, memberships differ by at most one in each of the drawn rounds."""
    plan = make_plan(d, 2, 5 * d, seed=1)
    for half in plan.masks:
        sizes = half.sum(1)
        for size in np.unique(sizes):
            assert np.ptp(half[sizes == size].sum(0)) <= 2


@pytest.mark.parametrize("d", PLAYERS)
def test_designs_are_well_conditioned(d):
    """Far below the gate."""
    assert make_plan(d, 2, 5 * d, seed=1).condition() < MAX_CONDITION / 100


def test_too_few_coalitions_are_topped_up_until_the_fit_is_determined():
    """Ten pairs cannot tell 75 unknowns apart."""
    plan = make_plan(30, 2, 10, seed=1)
    assert plan.condition() < MAX_CONDITION
    assert plan.masks.shape[1] > 10


@pytest.mark.parametrize("d", [7, MAX_PLAYERS + 1])
def test_numbers_of_players_that_no_plan_serves_are_refused(d):
    """Fewer are enumerated, more need grouping."""
    with pytest.raises(PackageError, match=f"8 to {MAX_PLAYERS} players, not {d}"):
        make_plan(d, 2, 5 * d, seed=1)


def test_the_digest_changes_with_the_seed_and_only_with_what_matters():
    """Same arguments, same digest."""
    digests = [make_plan(12, b, 60, seed).digest() for b, seed in ((5, 1), (5, 1), (5, 2), (6, 1))]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@settings(max_examples=25, deadline=None)
@given(st.integers(8, 16), st.integers(0, 2**32 - 1))
def test_values_add_up_for_any_game(d, seed):
    """Whatever the game: even one of random answers."""
    rng = np.random.default_rng(seed)
    answers = {}

    def margin(X):
        return np.array([answers.setdefault(row.tobytes(), rng.normal(size=2)) for row in X])

    background, x = rng.normal(size=(3, d)).astype(np.float32), rng.normal(size=d).astype(np.float32)
    values, _ = estimate(margin, background, make_plan(d, 3, 5 * d, seed=seed), x)
    assert values.sum(0) == pytest.approx(margin(x[None])[0] - margin(background).mean(0), abs=1e-9)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_values_are_linear_in_the_game(seed):
    """phi(2f - 3g) = 2 phi(f) - 3 phi(g)."""
    rng = np.random.default_rng(seed)
    d = 12
    W, V = rng.normal(size=(2, d, 4))
    background, x = rng.normal(size=(3, d)).astype(np.float32), rng.normal(size=d).astype(np.float32)
    plan = make_plan(d, 3, 5 * d, seed=1)

    def f(X):
        return np.tanh(X.astype(np.float64) @ W)

    def g(X):
        return np.cos(X.astype(np.float64) @ V)

    of_f, of_g, of_both = (estimate(game, background, plan, x)[0] for game in (f, g, lambda X: 2 * f(X) - 3 * g(X)))
    assert of_both == pytest.approx(2 * of_f - 3 * of_g, abs=1e-12)
