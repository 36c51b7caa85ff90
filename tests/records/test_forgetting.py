"""Forgetting: what is past its retention goes, and who asks to be forgotten cannot be found any more."""

import time

from auditlog import DAY, MALE, MODEL, AuditLog
from sqlalchemy import func, select

from service.records.append import Append
from service.records.attributions import DailyAttribution, SaveAttributions
from service.records.counts import cell_counts
from service.records.database import prepare
from service.records.forget import PRUNED_TOGETHER, Erase, Prune
from service.records.tables import attributions, predictions


def test_predictions_past_their_retention_are_deleted(log, manifests):
    """By age, whatever their model; younger ones stay."""
    prepare(log.engine, [manifests[0].model_copy(update={"name": "other"})])
    now = time.time()
    log.append("old", at=now - 3 * DAY)
    log.append("young", at=now - DAY)
    other = log.row("old", at=now - 3 * DAY)
    log.do(Append([("other", *other[1:])], callers_ids=True))
    assert log.do(Prune(now - 2 * DAY)) == 2
    assert log.do(Prune(now - 2 * DAY)) == 0
    assert log.stored().keys() == {"young"}


def test_what_is_past_its_retention_is_deleted_in_parts(log):
    """Fewer than a full part means that none is left."""
    now, rows = time.time(), PRUNED_TOGETHER + 500
    log.append(*(f"{number:04}" for number in range(rows)), at=now - 3 * DAY)
    log.append("young")
    assert [log.do(Prune(now - 2 * DAY)) for _ in range(3)] == [PRUNED_TOGETHER, 500, 0]
    assert log.stored().keys() == {"young"}


def test_attributions_of_days_past_their_retention_are_deleted(log):
    """A day goes when its last second is past."""
    now = 1_700_000_000.0 // DAY * DAY
    rows = [DailyAttribution(log.package, int(now - age * DAY), MALE, 1, 0.5, [0.5] * 5) for age in range(5)]
    log.do(SaveAttributions("replica", rows))
    log.do(Prune(now - 2 * DAY))
    with log.engine.connect() as connection:
        days = connection.execute(select(attributions.c.day)).scalars().all()
    assert sorted((now - day) / DAY for day in days) == [0, 1, 2, 3]


def erased_log(log):
    """Eleven predictions a tenth apart, every other one with an outcome; three of them are erased."""
    at = 1_700_000_123.456
    for number in range(11):
        predicted = "fraud" if number >= 5 else "legitimate"
        log.append(f"p{number}", score=number / 10, at=at, predicted=predicted, features='{"amount":7734501}')
    log.join(*((f"p{number}", "fraud") for number in range(0, 11, 2)), now=at + 1000.789)
    assert log.do(Erase(MODEL, ["p1", "p2", "p10", "nobody"])) == 3
    return log


def test_nobody_finds_an_erased_prediction(log):
    """Not by its id, score, time or outcome's time; features, explanation and probabilities are gone."""
    rows = erased_log(log).stored()
    assert not {"p1", "p2", "p10"} & rows.keys()
    erased = [row for id_, row in rows.items() if id_.startswith("erased:")]
    assert len(erased) == 3
    for row in erased:
        assert (row.features, row.explanation, row.probabilities) == (None, None, None)
        assert row.predicted_at == 1_699_999_200.0
        assert row.outcome_at in (None, 1_699_999_200.0)
    assert sorted(row.score for row in erased) == [0.1, 0.2, 1.0]
    assert rows["p3"].features == '{"amount":7734501}'


def test_an_erased_score_keeps_two_decimals(log):
    """Rounded down, so that it stays on its side of the threshold and of every bin."""
    log.append("a", score=0.4999987)
    log.do(Erase(MODEL, ["a"]))
    [row] = log.stored().values()
    assert row.score == 0.49


def test_erased_predictions_count_as_before(log):
    """By group, decision, outcome and bin of the score."""

    def counts():
        cells = cell_counts(log.engine, MODEL, [log.package], since=0, until=time.time())
        return sorted((cell.groups, cell.predicted, str(cell.actual), cell.bin, cell.n) for cell in cells)

    at = 1_700_000_000.0
    ids = [f"{number}" for number in range(101)]
    for number, id_ in enumerate(ids):
        log.append(id_, score=number / 100, at=at, groups=MALE)
    log.join(*((id_, "fraud") for id_ in ids[::3]))
    before = counts()
    assert sum(n for *_, n in before) == 101
    assert log.do(Erase(MODEL, ids[::2])) == 51
    assert counts() == before


def test_outcomes_and_erasures_of_an_erased_id_find_nobody(log):
    """It is as unknown as an id that never was."""
    log.append("a", "b")
    log.do(Erase(MODEL, ["a"]))
    assert log.do(Erase(MODEL, ["a"])) == 0
    assert log.join(("a", "fraud")).counts["unknown"] == 1
    with log.engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(predictions)).scalar() == 2


def test_unknown_ids_erase_nothing(log):
    """Also those of another model."""
    log.append("a")
    before = log.stored()
    assert log.do(Erase(MODEL, ["b"])) == 0
    assert log.do(Erase("other", ["a"])) == 0
    assert log.stored() == before


def test_what_was_erased_is_overwritten_on_the_disk(tmp_path, manifests):
    """SQLite frees pages without clearing them, unless told to: not after the log is written back."""
    with AuditLog.opened(f"sqlite:///{tmp_path}/records.db", manifests) as log:
        log.append("quetzalcoatl", features='{"amount":7734501}')
        log.do(Erase(MODEL, ["quetzalcoatl"]))
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"erased:" in content
    assert b"quetzalcoatl" not in content
    assert b"7734501" not in content
