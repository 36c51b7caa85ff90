"""Drift counters: every row once, in its bins and in its groups, as a plain recount has it."""

import asyncio
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from declared import declared
from frozen import ATTRIBUTIONS, CALIBRATORS, GROUPS, PARTS, SCORES, frozen, frozen_manifest

from service.monitor.bins import feature_bins, score_bins
from service.monitor.counters import Counters, Explained
from service.monitor.drift_counters import DriftLayout
from service.monitor.monitor import FairnessMonitor, Inference
from service.monitor.slots import SLOT_SECONDS

SEXES = ["female", "male", "unknown", "declined", "other"]
AGES = ["18-29", "30-49", "50+", "unknown", "declined", "other"]
N = 400


@dataclass
class Rows:
    """n rows as the monitor sees them."""

    X: np.ndarray
    probability: np.ndarray
    groups: list
    predicted: np.ndarray

    def part(self, rows):
        return Rows(self.X[rows], self.probability[rows], [self.groups[row] for row in rows], self.predicted[rows])


def drawn(seed=0, n=N, K=2):
    """Rows with every kind of value, float32 scores from 0 to 1, and all groups, reserved ones too."""
    dice = np.random.default_rng(seed)
    X = np.stack(
        [
            np.where(dice.random(n) < 0.2, np.nan, dice.lognormal(3, 2, n)),
            dice.integers(-2, 30, n),
            dice.integers(0, 2, n),
            np.where(dice.random(n) < 0.2, np.nan, dice.integers(0, 4, n)),
        ],
        axis=1,
    ).astype(np.float32)
    score = dice.choice([0, 0.1, 0.25, 0.5, 0.8, 0.9, 1], n) if seed % 2 else dice.random(n)
    probability = np.zeros((n, K), np.float32)
    probability[:, 1] = score
    probability[:, 0] = 1 - probability[:, 1]
    groups = [
        {"sex": str(sex), "age_band": str(age)}
        for sex, age in zip(dice.choice([*SEXES, "martian"], n), dice.choice(AGES, n), strict=True)
    ]
    return Rows(X, probability, groups, dice.integers(0, K, n))


def counters(reference=None, manifest=None):
    return Counters(manifest or frozen_manifest(), reference or frozen())


def add(counters, rows):
    joint = np.array([counters.groups.of(row).number for row in rows.groups], np.int64)
    counters.drift.add(rows.X, rows.probability, joint, rows.predicted)


def view(counters, name):
    return counters.drift.layout.view(counters.drift.values, name)


def group_of(row, made):
    """The group of a row in a sensitive feature, in words."""
    return row[made.name] if row[made.name] in made.groups else "other"


def recounted(rows, made, weigh=lambda row, group: 1.0, key=None):
    """{(group, key of the row): sum of weights}."""
    found = Counter()
    for number, row in enumerate(rows.groups):
        group = group_of(row, made)
        found[group, key(number)] += weigh(number, group)
    return found


def as_dict(table, made):
    return {(made.groups[group], place): number for (group, place), number in np.ndenumerate(table) if number}


@pytest.fixture(params=[0, 1], ids=["any score", "scores at edges"])
def rows(request):
    return drawn(request.param)


@pytest.fixture
def counted(rows):
    """All rows, in portions of several sizes."""
    found = counters()
    for start, end in ((0, 1), (1, 50), (50, 50), (50, N)):
        add(found, rows.part(range(start, end)))
    return found


def test_features_and_scores_are_counted_row_by_row(counted, rows):
    """Each row in one bin of each feature, and of the score."""
    manifest, reference = frozen_manifest(), frozen()
    layout, values = counted.drift.layout, counted.drift.values
    for number, (feature, part) in enumerate(zip(manifest.features, reference.features, strict=True)):
        bins = feature_bins(feature, part)
        expected = np.bincount([bins.index(row[None, number])[0] for row in rows.X], minlength=len(bins))
        assert layout.of_feature(values, number).tolist() == expected.tolist()
        assert expected.sum() == N
    bins = score_bins(reference.scores[0])
    expected = np.bincount([bins.index(row[None, 1])[0] for row in rows.probability], minlength=len(bins))
    assert view(counted, "score yes").tolist() == expected.tolist()


def test_scores_are_counted_by_group(counted, rows):
    """Reserved groups have their own, and those of all groups add up to the score's."""
    bins = score_bins(frozen().scores[0])
    for _, made in counted.drift.layout.sets:
        table = view(counted, f"group score {made.name}")
        expected = recounted(rows, made, key=lambda row: int(bins.index(rows.probability[row, 1:])[0]))
        assert as_dict(table, made) == expected
        assert (table.sum(axis=0) == view(counted, "score yes")).all()
    assert {group for group, _ in expected} == set(AGES)


def test_calibrated_scores_are_those_of_the_group_or_of_all(counted, rows):
    """Women have a calibrator of their own; everybody else that of all rows; p and p (1 - p) by predicted class."""

    def calibrated(row, group):
        curve = CALIBRATORS["groups"].get(made.name, {}).get(group, CALIBRATORS["pooled"])
        return float(np.interp(float(rows.probability[row, 1]), curve["scores"], curve["probabilities"]))

    def variance(row, group):
        return calibrated(row, group) * (1 - calibrated(row, group))

    for _, made in counted.drift.layout.sets:
        of_row = {"key": lambda row: int(rows.predicted[row])}
        assert as_dict(view(counted, f"predictions {made.name}"), made) == recounted(rows, made, **of_row)
        for name, weigh in (("calibrated", calibrated), ("variance", variance)):
            found = as_dict(view(counted, f"{name} {made.name}"), made)
            assert found == pytest.approx(recounted(rows, made, weigh, **of_row), rel=1e-9)


def test_a_score_beside_a_step_of_the_last_group_is_on_the_right_side():
    """All curves lie on one axis: the offset of the last of 23 groups must not blur a step of one float32."""
    groups = tuple(f"g{number}" for number in range(20))
    low = float(np.float32(0.3))
    high = float(np.nextafter(np.float32(0.3), np.float32(1)))
    step = {"method": "isotonic", "n": 1000, "scores": [low, high], "probabilities": [0.1, 0.9]}
    reference = frozen(groups={}, calibrators={"pooled": step})
    found = counters(reference, frozen_manifest(("region", groups)))
    X, n = np.zeros((2, 4), np.float32), np.array([found.groups.of({"region": "g19"}).number] * 2)
    probability = np.array([[1 - low, low], [1 - high, high]], np.float32)
    found.drift.add(X, probability, n, np.array([0, 1]))
    assert view(found, "calibrated region")[19].tolist() == pytest.approx([0.1, 0.9], abs=1e-5)


@pytest.mark.parametrize("score", [0.0, 0.05, 0.95, 1.0])
def test_the_calibration_curve_is_constant_beyond_its_points(score):
    """Down to 0 and up to 1, for every group."""
    found = counters()
    groups = [{"sex": sex, "age_band": age} for sex in SEXES for age in AGES]
    n = len(groups)
    probability = np.full((n, 2), score, np.float32)
    add(found, Rows(np.zeros((n, 4), np.float32), probability, groups, np.ones(n, np.int64)))
    pooled = 0.05 if score < 0.5 else 0.95
    women = np.interp(score, [0, 0.8, 1], [0.1, 0.7, 0.8])
    expected = [women * len(AGES), *[pooled * len(AGES)] * 4]
    assert view(found, "calibrated sex")[:, 1].tolist() == pytest.approx(expected, rel=1e-5)
    assert view(found, "calibrated age_band")[:, 1].tolist() == pytest.approx([pooled * 5] * 6, rel=1e-5)


def test_explanations_are_added_up_without_their_signs():
    """With the number of rows; no explanation changes nothing."""
    found = counters()
    nobody = found.groups.nobody
    found.add_explained([])
    assert found.drift.values.sum() == 0
    found.add_explained([Explained(nobody, [1.0, -2.0, 0.5, 0.0], -0.5), Explained(nobody, [-1.0, 1.0, 0.0, 0.0], 0.0)])
    assert view(found, "magnitude").tolist() == [2.0, 3.0, 0.5, 0.0]
    assert view(found, "magnitude rows").tolist() == [2.0]


def test_no_number_ever_falls(rows):
    """A scraper would take that for a restart."""
    found = counters()
    before = found.drift.values.copy()
    for row in range(0, N, 7):
        add(found, rows.part(range(row, min(N, row + 7))))
        assert (found.drift.values >= before).all()
        before = found.drift.values.copy()


def test_a_copy_stays_as_it_is(rows):
    """While others are counted."""
    found = counters()
    add(found, rows.part(range(10)))
    made = found.copy()
    before = made.drift.values.copy()
    add(found, rows)
    found.add_explained([Explained(found.groups.nobody, [1.0] * 4, 4.0)])
    assert (made.drift.values == before).all()
    assert view(found, "score yes").sum() == N + 10


def test_slots_have_what_was_counted_in_them(rows, monkeypatch):
    """Predictions and explanations alike; the slots add up to the whole."""
    found, now = counters(), [1_000_000_200.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    add(found, rows.part(range(30)))
    now[0] += SLOT_SECONDS
    found.add_explained([Explained(found.groups.nobody, [1.0] * 4, 4.0)])
    changed = found.drift.slots.changed(found.drift.values)
    assert list(changed) == [1_000_000_200, 1_000_000_800]
    layout = found.drift.layout
    assert [layout.view(added, "score yes").sum() for added in changed.values()] == [30, 0]
    assert [layout.view(added, "magnitude rows").sum() for added in changed.values()] == [0, 1]
    assert (sum(changed.values()) == found.drift.values).all()


WHOLE = {"features", "score yes"} | {
    f"{what} {name}" for what in ("group score", "predictions", "calibrated", "variance") for name in GROUPS
}


def parts(layout):
    """The names of what is counted, from the outside."""
    found, names = set(), {"features", "magnitude", "magnitude rows", "score yes", "score no"}
    names |= {f"{what} {name}" for what in ("group score", "predictions", "calibrated", "variance") for name in GROUPS}
    for name in names:
        try:
            layout.view(np.zeros(layout.size), name)
        except KeyError:
            continue
        found.add(name)
    return found


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, WHOLE | {"magnitude", "magnitude rows"}),
        ({"attributions": None}, WHOLE),
        (
            {"calibrators": None, "attributions": None},
            {"features", "score yes", "group score sex", "group score age_band"},
        ),
        ({"scores": [], "groups": {}}, {"features", "magnitude", "magnitude rows"}),
        ({"scores": [], "groups": {}, "calibrators": None, "attributions": None}, {"features"}),
    ],
    ids=["everything", "no attributions", "no calibrators", "no scores", "features only"],
)
def test_only_what_the_reference_has_is_counted(changes, expected, rows):
    """Of a package of an older release, or of data without labels or groups."""
    found = counters(frozen(**changes))
    add(found, rows)
    found.add_explained([Explained(found.groups.nobody, [1.0] * 4, 4.0)])
    assert parts(found.drift.layout) == expected
    assert view(found, "features").sum() == 4 * N


def test_groups_without_reference_scores_are_counted_but_have_nothing_to_compare_with(rows):
    """Bins are those of the whole; reserved groups are no declared ones."""
    found = counters()
    add(found, rows)
    by_name = {made.name: found.drift.layout.group_bins(made) for _, made in found.drift.layout.sets}
    assert {name: list(groups) for name, groups in by_name.items()} == {
        "sex": ["female", "male"],
        "age_band": ["18-29", "50+"],
    }
    assert by_name["sex"]["female"].reference.tolist() == [0, 150, 150, 100, 0]
    older = {"sex": {group: {"n": part["n"]} for group, part in GROUPS["sex"].items()}}
    layout = counters(frozen(groups=older)).drift.layout
    assert [layout.group_bins(made) for _, made in layout.sets] == [{}, {}]


def test_a_model_without_sensitive_features_has_features_and_scores(rows):
    """And nothing by group."""
    manifest = declared(
        features=frozen_manifest().model_dump()["features"], explained=True, digests=frozen_manifest().digests
    )
    found = counters(frozen(groups={}, calibrators=CALIBRATORS | {"groups": {}}), manifest)
    found.drift.add(rows.X, rows.probability, np.zeros(N, np.int64), rows.predicted)
    assert found.drift.layout.sets == []
    assert (view(found, "features").sum(), view(found, "score yes").sum()) == (4 * N, N)


def test_intersections_are_not_counted_for_drift(rows):
    """They would be too many; rows of theirs are those of their parts."""
    manifest = frozen_manifest(intersections=[("sex", "age_band")])
    found = counters(manifest=manifest)
    add(found, rows)
    assert [made.name for _, made in found.drift.layout.sets] == ["sex", "age_band"]
    assert view(found, "group score sex").sum() == N


CLASSES = ("red", "green", "blue", "grey")


def test_each_of_four_classes_has_its_scores_and_groups_those_of_the_positive_one():
    """Columns are found by the label; predictions by group have a column for each class."""
    scores = [SCORES[0] | {"class": label} for label in ("grey", "green", "red")]
    manifest = frozen_manifest(classes=CLASSES, positive_class="green", favourable_outcome="blue")
    found = counters(frozen(scores=scores), manifest)
    rows = drawn(2, K=4)
    rows.probability[:] = np.random.default_rng(1).dirichlet([1] * 4, N)
    add(found, rows)
    for label in ("grey", "green", "red"):
        column = rows.probability[:, CLASSES.index(label)]
        expected = np.histogram(column, [-1, 0, 0.25, 0.5, 1.0000001, 9])[0]
        assert view(found, f"score {label}").tolist() == expected.tolist()
    assert (view(found, "group score sex").sum(axis=0) == view(found, "score green")).all()
    assert view(found, "predictions sex").sum(axis=0).tolist() == np.bincount(rows.predicted, minlength=4).tolist()


@pytest.mark.parametrize("positive", [None, "blue"])
def test_without_a_positive_class_or_its_scores_groups_are_not_compared(positive):
    """Nor are calibrators any use."""
    scores = [SCORES[0] | {"class": "green"}]
    manifest = frozen_manifest(classes=CLASSES, positive_class=positive, favourable_outcome="blue")
    found = counters(frozen(scores=scores, groups={}), manifest)
    add(found, drawn(K=4))
    assert parts(found.drift.layout) == {"features", "magnitude", "magnitude rows"}
    assert view(found, "score green").sum() == N


@pytest.mark.parametrize(("classes", "label"), [((0, 1), "1"), ((False, True), "True")])
def test_labels_that_are_no_text_are_written_as_text(classes, label):
    """In the name of the part."""
    manifest = frozen_manifest(classes=classes)
    layout = DriftLayout(manifest, frozen(scores=[SCORES[0] | {"class": classes[1]}]))
    assert (list(layout.scores), layout.positive) == ([label], label)
    assert layout.id == "0123456789ab"


# By way of the monitor


class Model:
    """Whatever is served."""


@dataclass
class Recording:
    """What becomes of records, as a test decides."""

    settled: bool = True
    failed: bool = False
    repeated: tuple[int, ...] = ()


def inference(counters, rows, recording=None, explanations=()):
    groups = [counters.groups.of(row) for row in rows.groups]
    score = rows.probability[:, 1].tolist()
    return Inference(
        counters,
        groups,
        rows.predicted.tolist(),
        score,
        explanations,
        recording,
        X=rows.X,
        probability=rows.probability,
    )


def watched():
    """A monitor, its counters of a model, and the model, which must live as long."""
    monitor, model = FairnessMonitor(), Model()
    return monitor, monitor.watch(model, frozen_manifest(), frozen()), model


def take(monitor, *inferences):
    async def scenario():
        for one in inferences:
            monitor.take(one)
        monitor.flush()
        monitor.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("repeated", [(), (1,), (0, 2), (0, 1, 2)])
def test_a_repeated_row_is_counted_once(repeated):
    """The others are, each with its own features, score and group."""
    monitor, found, _ = watched()
    rows, more = drawn().part(range(3)), drawn(7).part(range(5))
    take(monitor, inference(found, rows, Recording(repeated=repeated)), inference(found, more, Recording()))
    expected = counters()
    kept = [row for row in range(3) if row not in repeated]
    add(expected, rows.part(kept))
    add(expected, more)
    assert found.drift.values == pytest.approx(expected.drift.values)
    assert found.predictions.sum() == len(kept) + 5
    assert monitor.failures == 0


def test_rows_whose_records_failed_are_not_counted():
    """Nor those that are still being recorded."""
    monitor, found, _ = watched()
    rows = drawn().part(range(4))
    take(
        monitor,
        inference(found, rows, Recording(failed=True)),
        inference(found, rows, Recording(settled=False)),
        inference(found, rows.part([2])),
    )
    assert view(found, "score yes").sum() == found.predictions.sum() == 1


@pytest.mark.parametrize("broken", ["X", "probability"])
def test_a_failure_of_drift_is_counted_and_loses_no_prediction(broken):
    """Nothing is added to the counts for drift, all or nothing; the fairness counters have their rows."""
    monitor, found, _ = watched()
    rows = drawn().part(range(4))
    for part in (getattr(rows, broken)[:2], None):
        one = inference(found, rows)
        setattr(one, broken, part)
        take(monitor, one)
    assert (found.drift.values.sum(), found.predictions.sum(), monitor.failures) == (0, 8, 2)
    take(monitor, inference(found, rows))
    assert (view(found, "score yes").sum(), found.predictions.sum(), monitor.failures) == (4, 12, 2)


def test_predictions_that_cannot_be_counted_are_not_counted_for_drift_either():
    """And the failure shows."""
    monitor, found, _ = watched()
    one = inference(found, drawn().part(range(4)))
    one.scores = [0.5]
    take(monitor, one)
    assert (found.drift.values.sum(), found.predictions.sum(), monitor.failures) == (0, 0, 1)


def test_changed_slots_are_handed_out_until_they_are_saved(monkeypatch):
    """What was counted in between is handed out again, whole."""
    monkeypatch.setattr("time.time", lambda: 1_000_000_200.0)
    monitor, found, _ = watched()
    take(monitor, inference(found, drawn().part(range(4))))
    first = monitor.changed_slots(found.drift)
    take(monitor, inference(found, drawn().part(range(6))))
    assert [found.drift.layout.view(added, "score yes").sum() for added in first.values()] == [4]
    monitor.slots_saved(found.drift, first)
    second = monitor.changed_slots(found.drift)
    assert sum(found.drift.layout.view(added, "score yes").sum() for added in second.values()) == 10
    monitor.slots_saved(found.drift, second)
    assert monitor.changed_slots(found.drift) == {}


def test_a_document_by_hand_has_what_the_tests_expect():
    """The parts that the tests count with are those of a whole reference."""
    reference = frozen()
    reference.check(frozen_manifest())
    assert [part["name"] for part in PARTS] == [part["name"] for part in ATTRIBUTIONS["features"]]
    assert all(part.counts.n == reference.n for part in reference.features)
