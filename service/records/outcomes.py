"""How predictions turned out: joining outcomes to their records, each exactly once, from any replica."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import select, update
from sqlalchemy.engine import Connection

from service.records.tables import parts, predictions

RESULTS = ("joined", "duplicate", "conflict", "unknown", "expired", "corrected")


class Outcome(NamedTuple):
    """The label of one prediction, as text; `correction` lets it replace another one."""

    id: str
    label: str
    correction: bool = False


class Joined(NamedTuple):
    """An outcome that was accepted, with what was recorded of its prediction. `before` is the label it replaced."""

    package: str
    predicted: str
    score: float
    groups: str
    predicted_at: float
    actual: str
    before: str | None


_RECORDED = ("package", "predicted", "score", "groups", "predicted_at")


class JoinResult(NamedTuple):
    """How many outcomes met which fate, by RESULTS, and those that count."""

    counts: dict[str, int]
    joined: list[Joined]


def lock(connection: Connection, joins: Sequence["Join"]) -> None:
    """Lock the rows of all `joins`, before the first of them is done.

    In the order of ids, so that replicas that are told the same at once wait for each other, not in a circle.
    """
    table = predictions.c
    for name in sorted({join.model_name for join in joins}):
        for ids in parts(sorted({o.id for join in joins if join.model_name == name for o in join.outcomes})):
            of_model = (table.model_name == name) & table.id.in_(ids)
            connection.execute(select(table.id).where(of_model).order_by(table.id).with_for_update())


class Join:
    """Work: join outcomes of one model. Outcomes of predictions older than `not_before` are expired."""

    may_be_given_up = True

    def __init__(self, model_name: str, outcomes: Sequence[Outcome], *, now: float, not_before: float) -> None:
        self.model_name = model_name
        self.outcomes = outcomes
        self.now = now
        self.not_before = not_before

    @property
    def rows(self) -> int:
        """Outcomes to join."""
        return len(self.outcomes)

    def run(self, connection: Connection) -> JoinResult:
        """Join them all; an id that stands in the request several times is met in that order."""
        result = JoinResult(dict.fromkeys(RESULTS, 0), [])
        left: Sequence[Outcome] = self.outcomes
        while left:
            first: dict[str, Outcome] = {}
            later = [outcome for outcome in left if first.setdefault(outcome.id, outcome) is not outcome]
            for ids in parts(sorted(first)):
                self._join_distinct(connection, {id_: first[id_] for id_ in ids}, result)
            left = later
        return result

    def _join_distinct(self, connection: Connection, outcomes: dict[str, Outcome], result: JoinResult) -> None:
        table = predictions.c
        ids = (table.model_name == self.model_name) & table.id.in_(list(outcomes))
        columns = table.id, *(table[name] for name in _RECORDED), table.actual
        # In the order of ids; see `lock`.
        locked = connection.execute(select(*columns).where(ids).order_by(table.id).with_for_update())
        before: dict[str, Any] = {row.id: row for row in locked}
        # Not those that another replica records meanwhile: they were not there, and are joined when sent again.
        known = {id_: outcome for id_, outcome in outcomes.items() if id_ in before}
        accepted = self._label(connection, known) | self._correct(connection, before, known)
        for id_, outcome in outcomes.items():
            row = before.get(id_)
            if row is None:
                result.counts["unknown"] += 1
                continue
            if id_ in accepted:
                result.counts["joined" if row.actual is None else "corrected"] += 1
                recorded = {name: getattr(row, name) for name in _RECORDED}
                result.joined.append(Joined(**recorded, actual=outcome.label, before=row.actual))
            elif row.actual == outcome.label:
                result.counts["duplicate"] += 1
            elif row.predicted_at < self.not_before:
                result.counts["expired"] += 1
            else:
                result.counts["conflict"] += 1

    def _label(self, connection: Connection, outcomes: dict[str, Outcome]) -> set[str]:
        """Ids that had no label and have one now: one statement a label tests and sets."""
        accepted: set[str] = set()
        for label in sorted({outcome.label for outcome in outcomes.values()}):
            ids = [id_ for id_, outcome in outcomes.items() if outcome.label == label]
            accepted |= self._set(connection, label, ids, corrections=False)
        return accepted

    def _correct(self, connection: Connection, before: dict[str, Any], outcomes: dict[str, Outcome]) -> set[str]:
        accepted: set[str] = set()
        corrections = [outcome for id_, outcome in outcomes.items() if outcome.correction and before[id_].actual]
        for label in sorted({outcome.label for outcome in corrections}):
            ids = [outcome.id for outcome in corrections if outcome.label == label]
            accepted |= self._set(connection, label, ids, corrections=True)
        return accepted

    def _set(self, connection: Connection, label: str, ids: list[str], *, corrections: bool) -> set[str]:
        table = predictions.c
        open_ = table.actual != label if corrections else table.actual.is_(None)
        statement = (
            update(predictions)
            .where(table.model_name == self.model_name, table.id.in_(ids), open_, table.predicted_at >= self.not_before)
            .values(actual=label, outcome_at=self.now)
            .returning(table.id)
        )
        return set(connection.execute(statement).scalars())
