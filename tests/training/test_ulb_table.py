"""The loader of the public ULB table, on a small file of the same form."""

import json

import numpy as np
import pytest

from models.transaction import ulb
from models.transaction.train import train
from service.errors import PackageError
from service.manifest import read_manifest, verify_digests

HEADER = ",".join(f'"{name}"' for name in ulb.HEADER)


@pytest.fixture
def table():
    """2,000 payments of two days; fraud shows in V14 and V4. Out of order, to be sorted by Time."""
    rng = np.random.default_rng(3)
    n = 2000
    fraud = (rng.random(n) < 0.05).astype(int)
    components = rng.normal(size=(n, 28))
    components[:, 13] -= 3 * fraud
    components[:, 3] += 2 * fraud
    time = rng.integers(0, 172_792, n)
    return np.column_stack([time, components, rng.lognormal(3, 1, n).round(2), fraud])


def write(path, table, *, header=HEADER, quote_class=True):
    """`table` as the published file writes it."""
    mark = '"' if quote_class else ""
    lines = [",".join([*(f"{value:g}" for value in row[:-1]), f"{mark}{int(row[-1])}{mark}"]) for row in table]
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def test_a_package_is_trained_from_the_table(table, tmp_path):
    """End to end: 30 features, no sensitive ones, a card of its own, and a graph that passed the gate."""
    folder = train(tmp_path / "repository", write(tmp_path / "creditcard.csv", table)).folder
    manifest = read_manifest(folder)
    contents = verify_digests(folder, manifest)
    assert manifest.feature_names == ["hour", *(f"V{i}" for i in range(1, 29)), "amount"]
    assert manifest.sensitive_features == []
    assert "No disparity could be measured" in contents["card.md"].decode()
    evaluation = json.loads(contents["evaluation.json"])
    assert evaluation["model"]["auroc"]["value"] > 0.9
    assert evaluation["groups"] == {}


def test_the_split_is_by_time(table, tmp_path):
    """The last held-out payment is the last of the table, the first training one its first."""
    splits = ulb.load_splits(write(tmp_path / "creditcard.csv", table, quote_class=False))
    assert [len(part) for part in (splits.training, splits.validation, splits.held_out)] == [1200, 400, 400]
    ordered = table[np.argsort(table[:, 0], kind="stable")]
    rows = np.concatenate([splits.training.X, splits.validation.X, splits.held_out.X])
    np.testing.assert_allclose(rows[:, -1], ordered[:, -2], rtol=1e-5)
    np.testing.assert_array_equal(rows[:, 0], np.floor(ordered[:, 0] / 3600) % 24)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda text: text.replace('"V7"', '"V77"'), "the first line must name"),
        (lambda text: text.replace("\n", "\nabc,", 2), "every value must be a number"),
        (lambda text: text.replace(',"0"\n', ',"2"\n', 1), "the last 0 or 1"),
        (lambda text: text.replace(',"1"\n', ',"0"\n'), "needs both classes"),
    ],
    ids=["a column", "a word", "a class", "no fraud"],
)
def test_another_table_is_refused(table, tmp_path, spoil, expected):
    """The message names the file and what is expected, and shows no value."""
    path = write(tmp_path / "creditcard.csv", table)
    path.write_text(spoil(path.read_text()))
    with pytest.raises(PackageError, match=expected) as caught:
        ulb.load_splits(path)
    assert str(caught.value).startswith("creditcard.csv: ")
