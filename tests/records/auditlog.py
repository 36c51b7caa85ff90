"""The audit log as one replica of the service has it, on an event loop of its own, for synchronous tests."""

import asyncio
import time
from contextlib import contextmanager

from sqlalchemy import select

from service.records.append import Append
from service.records.database import package_key
from service.records.outcomes import Join, Outcome
from service.records.records import Records
from service.records.tables import predictions

MODEL = "toy"
FEMALE, MALE = '{"sex":"female","age_band":"18-29"}', '{"sex":"male","age_band":"30-49"}'
DAY = 86_400
PATIENCE_SECONDS = 30


class AuditLog:
    """Records whose work is done at once."""

    def __init__(self, runner, records, package):
        self.records = records
        self.package = package
        self._runner = runner

    @classmethod
    @contextmanager
    def opened(cls, url, manifests, *, audit="before_response", sync="normal", max_rows=20_000):
        """An AuditLog of packages with `manifests`, the last of which decides."""
        with asyncio.Runner() as runner:
            records = Records(url, sync=sync, audit=audit, max_rows=max_rows)

            async def open_():
                records.open(manifests)

            try:
                runner.run(open_())
                yield cls(runner, records, package_key(manifests[-1]))
            finally:
                runner.run(records.close(PATIENCE_SECONDS))

    @property
    def engine(self):
        return self.records.engine

    def do(self, work):
        """The result of `work`; raises what it raises."""
        [result] = self.together(work)
        if isinstance(result, Exception):
            raise result
        return result

    def together(self, *works):
        """The results, or the exceptions, of works that are submitted in the same turn of the event loop."""

        async def submit():
            jobs = [self.records.submit(work) for work in works]
            deadline = time.monotonic() + PATIENCE_SECONDS
            return await asyncio.gather(*(job.answer(deadline) for job in jobs), return_exceptions=True)

        return self._runner.run(submit())

    def row(self, id_, *, predicted="fraud", score=0.75, at=None, groups=FEMALE, package=None, features=None):
        """One prediction as the recorder hands it on."""
        at = time.time() if at is None else at
        return (MODEL, id_, package or self.package, at, predicted, score, groups, None, features, None)

    def appending(self, *ids, callers_ids=True, **same):
        """Work that records predictions which differ in their id only."""
        return Append([self.row(id_, **same) for id_ in ids], callers_ids=callers_ids)

    def append(self, *ids, **same):
        return self.do(self.appending(*ids, **same))

    def joining(self, *outcomes, now=None, horizon_days=90):
        """Work that joins `(id, label)` or `(id, label, correction)`."""
        now = time.time() if now is None else now
        return Join(MODEL, [Outcome(*outcome) for outcome in outcomes], now=now, not_before=now - horizon_days * DAY)

    def join(self, *outcomes, **arguments):
        return self.do(self.joining(*outcomes, **arguments))

    def stored(self):
        """Every prediction in the database, by its id."""
        with self.engine.connect() as connection:
            return {row.id: row for row in connection.execute(select(predictions))}
