"""What the three data sets promise: coding, splits, ranges, and the simulator's known disparities."""

from itertools import pairwise

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes

from models.diagnosis import data as diagnosis
from models.graph import run
from models.progression import data as progression
from models.reference import bin_counts, equal_count_edges
from models.task import Rows
from models.transaction import data as transaction
from models.transaction.simulator import AGE_BANDS, DAYS, REGIONS, Payments, simulate
from service.monitor.fairness import Rate


@pytest.fixture(scope="module")
def simulated():
    """Customers and payments of the committed seed."""
    return simulate(transaction.SEED)


def test_known_malignant_masses_score_high(repository):
    """The first row of the data, a published malignant case, and most others; benign ones score low."""
    X, target = load_breast_cancer(return_X_y=True)
    _, probability = run((repository / "diagnosis" / "1" / "model.onnx").read_bytes(), X.astype(np.float32))
    assert X[0, 0] == 17.99
    assert probability[0, 1] > 0.95
    assert np.median(probability[target == 0, 1]) > 0.95
    assert np.median(probability[target == 1, 1]) < 0.05


def test_malignant_is_the_positive_class():
    """scikit-learn codes malignant 0: 212 masses; here they are 1."""
    splits = diagnosis.load_splits()
    assert sum(int(rows.y.sum()) for rows in (splits.training, splits.validation, splits.held_out)) == 212
    assert diagnosis.DECLARATION.classes == ("benign", "malignant")


def test_diagnosis_features_are_named_as_scikit_learn_orders_them():
    """The 30 names are scikit-learn's, in snake case."""
    names = [name.replace(" ", "_") for name in load_breast_cancer().feature_names]
    assert diagnosis.DECLARATION.feature_names == names


@pytest.mark.parametrize("data", [diagnosis, progression, transaction], ids=["diagnosis", "progression", "transaction"])
def test_possible_ranges_hold_every_row_with_room(data, transaction_splits):
    """Declared by hand, never observed: all rows lie inside, and the bounds are not the rows' own extremes."""
    splits = transaction_splits if data is transaction else data.load_splits()
    X = np.concatenate([splits.training.X, splits.unseen.X])
    for column, feature in zip(X.T, data.DECLARATION.features, strict=True):
        if feature.kind in ("numeric", "integer"):
            assert feature.minimum <= np.nanmin(column)
            assert np.nanmax(column) <= feature.maximum
            if feature.maximum not in (1, 23):
                assert np.nanmax(column) < feature.maximum / 1.4
        assert feature.nullable or not np.isnan(column).any()


def test_stratified_splits_share_no_row():
    """Every row is in exactly one split, and the share of positives is the same."""
    splits = progression.load_splits()
    parts = (splits.training, splits.validation, splits.held_out)
    rows = np.concatenate([part.X for part in parts])
    assert len(rows) == len(np.unique(rows, axis=0)) == 442
    assert [part.y.mean() for part in parts] == pytest.approx([0.5, 0.5, 0.5], abs=0.01)


def test_progression_groups_follow_the_features():
    """`sex` is the source's own code, `age_band` the band of the age that the model sees."""
    rows = progression.load_splits().training
    assert {*rows.groups["sex"]} == {"1", "2"}
    assert np.array_equal(rows.groups["sex"] == "2", rows.X[:, progression.SEX] == 1)
    assert {*rows.groups["age_band"][rows.X[:, progression.AGE] < 40]} == {"18-39"}
    assert {*rows.groups["age_band"][rows.X[:, progression.AGE] >= 60]} == {"60+"}
    assert load_diabetes(scaled=False).data[:, 0].min() >= 18


def test_the_ablation_stands_in_the_card(repository):
    """AUROC and gaps with and without age and sex, each with an interval, and the number of rows."""
    card = (repository / "progression" / "1" / "card.md").read_text()
    for line in ("AUROC, as served", "AUROC, without age and sex", "AUROC, served minus without"):
        assert f"| {line} | " in card
    for feature in ("sex", "age_band"):
        for gap in ("demographic_parity_difference", "equalized_odds_difference"):
            assert f"| {gap} by {feature}, as served | " in card
            assert f"| {gap} by {feature}, without age and sex | " in card
    assert "same 132 held-out rows" in " ".join(card.split())


def test_payments_are_split_by_customer_and_by_time(simulated):
    """No customer is in two splits; each split ends at least a reporting delay before the next one starts."""
    customers, payments = simulated
    masks = transaction.split_masks(payments, len(customers.age))
    people = [set(payments.customer[mask]) for mask in masks]
    assert not people[0] & people[1]
    assert not people[0] & people[2]
    assert not people[1] & people[2]
    for earlier, later in pairwise(masks):
        gap = payments.time_days[later].min() - payments.time_days[earlier].max()
        assert gap >= transaction.REPORTING_DELAY_DAYS


def test_a_customers_split_says_nothing_about_their_group(transaction_splits):
    """Age bands and regions have about the same shares in every split."""
    for name, groups in (("age_band", AGE_BANDS), ("region", REGIONS)):
        for group in groups:
            shares = [
                (rows.groups[name] == group).mean()
                for rows in (transaction_splits.training, transaction_splits.validation, transaction_splits.held_out)
            ]
            assert max(shares) - min(shares) < 0.05


def test_the_same_seed_simulates_the_same_payments(simulated):
    """And another seed others."""
    again = simulate(transaction.SEED)[1]
    assert all(np.array_equal(getattr(again, name), column) for name, column in vars(simulated[1]).items())
    assert len(simulate(1)[1]) != len(again)
    assert np.all(np.diff(again.time_days) >= 0)
    assert again.time_days.max() < DAYS


def test_the_injected_risks_are_visible_in_all_payments(simulated):
    """Fraud is more frequent for 50+ and on the coast; the Wilson intervals do not touch the reference's."""
    customers, payments = simulated
    age, region = customers.age[payments.customer], customers.region[payments.customer]
    for values, exposed, reference in ((age, 2, 1), (region, 1, 0)):
        rates = [
            Rate(int(payments.fraud[values == group].sum()), int((values == group).sum())).interval()
            for group in (exposed, reference)
        ]
        assert rates[0][0] > rates[1][1]


def test_the_injected_behaviour_shows_as_false_positives(repository):
    """In the package's evaluation, for 18-29 and border, with intervals that do not touch the reference's."""
    from models.__main__ import load

    _, evaluation, _ = load(repository / "transaction" / "1")
    for feature, exposed, reference in (("age_band", "18-29", "30-49"), ("region", "border", "centre")):
        higher, lower = (
            evaluation.groups[feature][group]
            .cells.rates(positive_is_favourable=False)["false_positive_rate"]
            .interval()
            for group in (exposed, reference)
        )
        assert higher[0] > lower[1]


def test_windows_look_back_only():
    """Four payments by hand: the row itself and later ones never count, and a fraud counts from its report on."""
    payments = Payments(
        time_days=np.array([0.5, 1.0, 8.2, 9.0]),
        customer=np.array([0, 0, 0, 1]),
        terminal=np.array([0, 0, 0, 0]),
        category=np.zeros(4, int),
        entry_mode=np.zeros(4, int),
        cross_border=np.zeros(4, int),
        amount=np.array([10.0, 30.0, 50.0, 70.0]),
        fraud=np.array([1, 0, 0, 0]),
    )
    X = transaction.to_matrix(payments)
    column = {name: X[:, i] for i, name in enumerate(transaction.DECLARATION.feature_names)}
    np.testing.assert_array_equal(column["customer_count_1d"], [0, 1, 0, 0])
    np.testing.assert_array_equal(column["customer_count_30d"], [0, 1, 2, 0])
    np.testing.assert_array_equal(column["customer_mean_amount_30d"], [np.nan, 10, 20, np.nan])
    np.testing.assert_array_equal(column["terminal_count_7d"], [0, 1, 0, 1])
    # On day 8.2 the week that ended on day 1.2 holds the fraud of day 0.5 and the honest payment of day 1.0.
    np.testing.assert_array_equal(column["terminal_fraud_share_7d"], [np.nan, np.nan, 0.5, 0.5])
    np.testing.assert_allclose(column["days_since_last_payment"], [np.nan, 0.5, 7.2, np.nan], rtol=1e-6)


def test_rows_carry_their_groups_along():
    """Taking rows takes their labels and groups."""
    rows = Rows(np.eye(3, dtype=np.float32), np.array([0, 1, 1]), {"g": np.array(["a", "b", "c"])})
    taken = rows.take(np.array([2, 0]))
    assert taken.groups["g"].tolist() == ["c", "a"]
    assert taken.y.tolist() == [1, 0]


def test_bins_are_half_open_with_an_underflow_and_an_overflow():
    """An edge belongs to the bin above it; the last edge to the overflow."""
    edges = np.array([0.0, 1.0, 2.0])
    assert bin_counts(np.array([-0.1, 0.0, 0.9, 1.0, 1.9, 2.0]), edges).tolist() == [1, 2, 2, 1]


def test_a_mostly_zero_feature_keeps_its_zeros_apart():
    """90 zeros fill one bin, ten other values another; nothing of the reference is in underflow or overflow."""
    values = np.array([0.0] * 90 + list(range(1, 11)), np.float32)
    assert bin_counts(values, equal_count_edges(values)).tolist() == [0, 90, 10, 0]


@pytest.mark.parametrize("n", [1, 7, 1000])
def test_bins_hold_about_a_tenth_each(n):
    """At most ten bins, each with at least a tenth of the rows; a constant column has one."""
    values = np.random.default_rng(0).normal(size=n).astype(np.float32)
    counts = bin_counts(values, equal_count_edges(values))
    assert counts[0] == counts[-1] == 0
    assert len(counts) - 2 <= 10
    assert counts[1:-1].min() >= n / 10
    assert bin_counts(np.full(n, 3.0), equal_count_edges(np.full(n, 3.0))).tolist() == [0, n, 0]
