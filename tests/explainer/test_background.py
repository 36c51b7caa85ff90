"""Kernel herding: real rows, close to the population, also with categories and missing values."""

import numpy as np
import pytest

from models.explainer.background import herd
from service.manifest import Feature

NUMBERS = [Feature(name=f"x{i}", kind="numeric") for i in range(4)]


def population(n=300, seed=0):
    """Two clusters, one three times as large."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4))
    X[: n // 4] += 4
    return X.astype(np.float32)


def test_the_rows_are_different_rows_of_the_population():
    """Bit for bit."""
    X = population()
    rows = herd(X, NUMBERS, 50, seed=1).rows
    assert rows.dtype == np.float32
    found = {row.tobytes() for row in rows}
    assert len(found) == 50
    assert found <= {row.tobytes() for row in X}


def test_herded_rows_are_closer_to_the_population_than_random_ones():
    """By the maximum mean discrepancy; the whole population has none."""
    X = population()
    background = herd(X, NUMBERS, 50, seed=1)
    assert background.discrepancy < background.random_discrepancy / 2
    assert herd(X, NUMBERS, 300, seed=1).discrepancy == pytest.approx(0, abs=1e-7)


def test_clusters_are_represented_by_their_size():
    """A quarter of the rows from a quarter of the population."""
    rows = herd(population(), NUMBERS, 40, seed=1).rows
    assert 8 <= (rows.mean(1) > 2).sum() <= 12


def test_fewer_rows_are_the_first_of_more():
    """Herding is greedy."""
    X = population()
    assert np.array_equal(herd(X, NUMBERS, 20, seed=1).rows, herd(X, NUMBERS, 60, seed=1).rows[:20])


def test_the_id_is_that_of_the_bytes():
    """Same rows, same id; another row, another id."""
    first, again, other = (herd(population(seed=seed), NUMBERS, 20, seed=1) for seed in (0, 0, 1))
    assert first.id == again.id != other.id
    assert first.id.startswith("sha256:")


def test_a_large_population_is_sampled_and_few_rows_are_all_taken():
    """10,000 rows cost what 2,000 do; of three, three."""
    assert len(herd(population(10_000), NUMBERS, 50, seed=1).rows) == 50
    assert len(herd(population(300)[:3], NUMBERS, 50, seed=1).rows) == 3


def test_missing_values_categories_and_constants_do_not_break_it():
    """Missing values, categories and flags keep about their share."""
    rng = np.random.default_rng(0)
    X = population()
    X[:, 0] = rng.integers(0, 3, 300)
    X[:, 1] = rng.random(300) < 0.3
    X[rng.random(300) < 0.4, 2] = np.nan
    X[:, 3] = 7
    features = [
        Feature(name="kind", kind="categorical", categories=["a", "b", "c"]),
        Feature(name="flag", kind="binary"),
        Feature(name="sometimes", kind="numeric", nullable=True),
        Feature(name="constant", kind="numeric"),
    ]
    background = herd(X, features, 60, seed=1)
    assert np.isnan(background.rows[:, 2]).mean() == pytest.approx(np.isnan(X[:, 2]).mean(), abs=0.1)
    for category in range(3):
        share = (background.rows[:, 0] == category).mean()
        assert share == pytest.approx((X[:, 0] == category).mean(), abs=0.1)
    assert background.discrepancy < background.random_discrepancy


def test_a_column_without_any_value_is_passed_over():
    """Nothing to standardise."""
    X = population()
    X[:, 1] = np.nan
    assert len(herd(X, NUMBERS, 10, seed=1).rows) == 10
