"""Games whose values are known on paper, through the compiled graph."""

import games
import numpy as np
import pytest

from models.explainer.calibrate import explain_rows
from models.explainer.plan import make_plan
from models.explainer.sampled import add_enumeration, add_plan
from models.explainer.served import load_served, run_single_threaded

EVERY_GAME = [
    games.additive,
    games.quadratic,
    games.airport,
    games.symmetric,
    *(lambda d, size=size: games.unanimity(d, size) for size in (1, 2, 3, 5)),
]


def explain(builder, d):
    """Values `(d,)` of the row in which everyone is present."""
    session = run_single_threaded(builder.finish({}).SerializeToString())
    return explain_rows(session, np.ones((1, d), np.float32)).values[0, :, 0]


def everyone_and_no_one(model, d):
    """The model, and a background in which no one is present."""
    return load_served(model, np.eye(d, dtype=np.float32)), np.zeros((4, d), np.float32)


@pytest.mark.parametrize("game", EVERY_GAME)
@pytest.mark.parametrize("d", [5, 8, 10])
def test_enumeration_gives_the_values_of_every_known_game(game, d):
    """To 1e-6 in float32."""
    model, expected = game(d)
    served, background = everyone_and_no_one(model, d)
    assert explain(add_enumeration(served, background), d) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("doubled", [False, True])
@pytest.mark.parametrize("d", [8, 13, 30])
@pytest.mark.parametrize(
    "game",
    [
        games.additive,
        games.quadratic,
        games.symmetric,
        lambda d: games.unanimity(d, 1),
        lambda d: games.unanimity(d, 2),
    ],
)
def test_the_plan_is_exact_for_pairs_of_players_and_for_symmetric_games(game, d, doubled):
    """To 1e-6 in float32, whatever was sampled."""
    model, expected = game(d)
    served, background = everyone_and_no_one(model, d)
    plan = make_plan(d, len(background), 5 * d, seed=3, doubled=doubled)
    assert explain(add_plan(served, background, plan), d) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("game", [games.airport, lambda d: games.unanimity(d, 3), lambda d: games.unanimity(d, 5)])
def test_the_plan_estimates_higher_interactions_within_its_error_bars(game):
    """Within four standard errors, over 50 background rows."""
    d = 20
    model, expected = game(d)
    served = load_served(model, np.eye(d, dtype=np.float32))
    plan = make_plan(d, 50, 5 * d, seed=3)
    session = run_single_threaded(add_plan(served, np.zeros((50, d), np.float32), plan).finish({}).SerializeToString())
    explained = explain_rows(session, np.ones((1, d), np.float32))
    error = np.abs(explained.values[0, :, 0] - expected)
    assert np.all(error <= 4 * explained.error_std[0, :, 0] + 1e-6)
