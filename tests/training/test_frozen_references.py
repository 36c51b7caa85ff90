"""What the committed references froze is what the rows, the models and their explainers say."""

import importlib
import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest

from models.explainer.calibrate import explain_rows
from models.explainer.served import run_single_threaded
from models.graph import run
from models.reference import MOST_EXPLAINED, bin_counts
from models.task import Splits
from service.manifest import Manifest, read_manifest, verify_digests
from service.monitor.performance import expected_rates

MODELS = ("diagnosis", "progression", "transaction")


@dataclass(frozen=True)
class Frozen:
    """A committed package and the rows that it was made from."""

    manifest: Manifest
    contents: dict
    splits: Splits

    @cached_property
    def reference(self):
        return json.loads(self.contents["reference.json"])

    @cached_property
    def score(self):
        """The probability of the positive class for the unseen rows."""
        probability = run(self.contents["model.onnx"], self.splits.unseen.X)[1]
        return probability[:, self.manifest.positive_index].astype(np.float64)

    @property
    def positive(self):
        return self.splits.unseen.y == 1

    def masks(self):
        """(calibrator, rows that it was fitted to) of all rows and of the groups."""
        pooled, groups = (self.reference["calibrators"][name] for name in ("pooled", "groups"))
        yield pooled, np.ones(len(self.score), np.bool_)
        for name, by_group in groups.items():
            for group, calibrator in by_group.items():
                yield calibrator, self.splits.unseen.groups[name] == group


@pytest.fixture(scope="module", params=MODELS)
def frozen(request, repository):
    """Each committed package with its rows."""
    folder = repository / request.param / "1"
    manifest = read_manifest(folder)
    splits = (
        request.getfixturevalue("transaction_splits")
        if request.param == "transaction"
        else importlib.import_module(f"models.{request.param}.data").load_splits()
    )
    return Frozen(manifest, verify_digests(folder, manifest), splits)


def curve(calibrator, score):
    return np.interp(score, calibrator["scores"], calibrator["probabilities"])


def test_the_rows_are_those_of_the_package(frozen):
    """The simulation and the data sets give the same bytes here."""
    assert frozen.splits.fingerprint() == frozen.reference["data_fingerprint"]
    assert len(frozen.score) == frozen.reference["n"]


def test_scores_are_counted_in_their_bins(frozen):
    """Of the validation and held-out rows; a score at an edge may be rounded to the other side elsewhere."""
    (entry,) = frozen.reference["scores"]
    found = bin_counts(frozen.score, np.array(entry["edges"]))
    np.testing.assert_allclose(found[1:-1], entry["counts"]["bins"], atol=2)


def test_features_are_counted_in_their_bins(frozen):
    """Each value where the contract of the edges says; missing ones apart."""
    for number, entry in enumerate(frozen.reference["features"]):
        column = frozen.splits.unseen.X[:, number]
        present = column[~np.isnan(column)]
        assert entry["counts"]["missing"] == len(column) - len(present)
        if "edges" in entry:
            low, high = np.array(entry["edges"][:-1]), np.array(entry["edges"][1:])
            counts = ((present[:, None] >= low) & (present[:, None] < high)).sum(axis=0)
        else:
            counts = [(present == value).sum() for value in range(len(entry["categories"]))]
        assert entry["counts"]["bins"] == list(counts)


def test_scores_of_groups_add_up_to_those_of_all(frozen):
    """Of each sensitive feature that the data knows, with rows and positives."""
    reference = frozen.reference
    assert reference["groups"].keys() <= {feature.name for feature in frozen.manifest.sensitive_features}
    for name, groups in reference["groups"].items():
        total = np.sum([group["scores"]["bins"] for group in groups.values()], axis=0)
        assert total.tolist() == reference["scores"][0]["counts"]["bins"]
        assert sum(group["n"] for group in groups.values()) == reference["n"]
        assert sum(group["positives"] for group in groups.values()) == frozen.positive.sum()
        for group, entry in groups.items():
            mine = frozen.splits.unseen.groups[name] == group
            assert (entry["n"], entry["positives"]) == (mine.sum(), frozen.positive[mine].sum())
            assert sum(entry["scores"]["bins"]) == entry["n"]


def test_calibrators_rise_and_keep_the_base_rate(frozen):
    """Isotonic ones to rounding; the sigmoid's targets draw it a little to the middle."""
    for calibrator, mine in frozen.masks():
        assert (np.diff(calibrator["scores"]) > 0).all()
        assert (np.diff(calibrator["probabilities"]) >= 0).all()
        assert calibrator["n"] == mine.sum()
        assert (calibrator["method"] == "isotonic") == (mine.sum() >= 1000)
        mean, share = curve(calibrator, frozen.score[mine]).mean(), frozen.positive[mine].mean()
        assert mean == pytest.approx(share, abs=1e-5 if calibrator["method"] == "isotonic" else 0.02)


def test_groups_with_rows_enough_have_a_calibrator(frozen):
    """A hundred, twenty of either kind among them; the others are judged by all rows together."""
    expected = {
        (name, group)
        for name, groups in frozen.reference["groups"].items()
        for group, entry in groups.items()
        if entry["n"] >= 100 and min(entry["positives"], entry["n"] - entry["positives"]) >= 20
    }
    found = frozen.reference["calibrators"]["groups"]
    assert {(name, group) for name, groups in found.items() for group in groups} == expected


@pytest.mark.parametrize("part", ["validation", "held_out"])
def test_expected_rates_of_transactions_are_near_the_realised_ones(repository, transaction_splits, part):
    """Per group, on either half of the rows; realised rates lie within a somewhat wider interval."""
    folder = repository / "transaction" / "1"
    manifest = read_manifest(folder)
    contents = verify_digests(folder, manifest)
    calibrators = json.loads(contents["reference.json"])["calibrators"]["groups"]
    rows = getattr(transaction_splits, part)
    score = run(contents["model.onnx"], rows.X)[1][:, 1].astype(np.float64)
    called, positive = score >= manifest.threshold, rows.y == 1
    for name, groups in calibrators.items():
        for group, calibrator in groups.items():
            mine = rows.groups[name] == group
            p, predicted, actual = curve(calibrator, score[mine]), called[mine].astype(int), positive[mine]
            tables = (np.bincount(predicted, weights, 2).astype(float) for weights in (None, p, p * (1 - p)))
            found = expected_rates(*tables, positive=1, rounded=False)
            realised = {
                "true_positive_rate": predicted[actual].mean(),
                "false_positive_rate": predicted[~actual].mean(),
                "positive_predictive_value": actual[predicted == 1].mean(),
            }
            for rate, value in realised.items():
                half = (found[rate]["high"] - found[rate]["low"]) / 2
                assert value == pytest.approx(found[rate]["value"], abs=2 * half), (name, group, rate)
                assert value == pytest.approx(found[rate]["value"], abs=0.1), (name, group, rate)


def test_attribution_shares_are_of_the_whole(frozen):
    """In the manifest's order; each with the spread of its share."""
    entry = frozen.reference["attributions"]
    assert [part["name"] for part in entry["features"]] == frozen.manifest.feature_names
    assert sum(part["share"] for part in entry["features"]) == pytest.approx(1, abs=1e-7)
    assert entry["n"] == min(frozen.reference["n"], MOST_EXPLAINED)
    assert all(part["share"] == 0 or part["deviation"] > 0 for part in entry["features"])


@pytest.mark.parametrize("name", ["diagnosis", "progression"])
def test_the_deviation_of_a_share_is_what_a_bootstrap_finds(repository, name):
    """s / sqrt(n) is the standard error of a share from n rows drawn anew."""
    folder = repository / name / "1"
    contents = verify_digests(folder, read_manifest(folder))
    entry = json.loads(contents["reference.json"])["attributions"]
    X = importlib.import_module(f"models.{name}.data").load_splits().unseen.X
    explainer = run_single_threaded(contents["explainer.onnx"])
    size = np.abs(explain_rows(explainer, X).values[:, :, 0])
    share = np.array([part["share"] for part in entry["features"]])
    np.testing.assert_allclose(size.mean(axis=0) / size.mean(axis=0).sum(), share, atol=1e-4)
    dice = np.random.default_rng(4)
    draws = size[dice.integers(0, len(X), (2000, len(X)))].mean(axis=1)
    errors = (draws / draws.sum(axis=1, keepdims=True)).std(axis=0)
    deviation = np.array([part["deviation"] for part in entry["features"]])
    np.testing.assert_allclose(deviation / np.sqrt(len(X)), errors, rtol=0.1, atol=1e-6)
