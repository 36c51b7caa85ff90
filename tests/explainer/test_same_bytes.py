"""The same row gives the same explanation: alone, in any company, in any order, from any thread."""

from concurrent.futures import ThreadPoolExecutor

import ensembles
import games
import numpy as np
import pytest

from models.explainer.compile import compile_explainer
from models.explainer.graph import OUTPUTS
from models.explainer.served import run_single_threaded
from service.manifest import Feature

MODELS = {
    "linear": (games.additive(12)[0], 12),
    "tree": (ensembles.sklearn_boosting()[0], 8),
    "enumeration": (games.network(9), 9),
    "stratified_wls": (games.network(14, hidden=4), 14),
}


@pytest.fixture(scope="module", params=MODELS)
def explained(request):
    """A session of each rung, 40 rows, and the served model."""
    model, d = MODELS[request.param]
    X = np.random.default_rng(0).normal(size=(160, d)).astype(np.float32)
    features = [Feature(name=f"x{i}", kind="numeric") for i in range(d)]
    result = compile_explainer(model, features, population=X[:120], held_out=X[120:], seed=1)
    assert result.algorithm == request.param
    return run_single_threaded(result.explainer.content), X[120:], model


def answer(session, row):
    """The bytes of the answer to one row, asked alone: the service's rule on a CPU."""
    return b"".join(array.tobytes() for array in session.run(OUTPUTS, {"X": row[None]}))


def test_a_row_asked_alone_always_has_the_same_bytes(explained):
    """Whatever was asked before, also between other rows."""
    session, rows, _ = explained
    first = [answer(session, row) for row in rows]
    order = np.random.default_rng(1).permutation(len(rows))
    again = {i: answer(session, rows[i]) for i in order}
    assert first == [again[i] for i in range(len(rows))]


def test_fx_is_the_served_margin_bit_for_bit(explained):
    """So that what is explained is what was predicted."""
    session, rows, model = explained
    served = run_single_threaded(model)
    for row in rows:
        assert (
            session.run(["fx"], {"X": row[None]})[0].tobytes() == served.run(["margin"], {"X": row[None]})[0].tobytes()
        )


def test_threads_that_share_a_session_get_the_serial_answers(explained):
    """Stateless: nothing leaks from one run to another."""
    session, rows, _ = explained
    serial = [answer(session, row) for row in rows]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda row: answer(session, row), [*rows, *rows])) == serial * 2


def test_a_batch_in_one_run_agrees_with_its_rows(explained):
    """To 1e-6 of the largest value: products of other shapes may round otherwise."""
    session, rows, _ = explained
    together = session.run(OUTPUTS, {"X": rows})
    alone = [session.run(OUTPUTS, {"X": row[None]}) for row in rows]
    for k in (0, 2, 3):
        each = np.concatenate([run[k] for run in alone])
        assert together[k] == pytest.approx(each, abs=1e-6 * max(1.0, float(np.abs(each).max())))
