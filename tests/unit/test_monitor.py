"""The monitor: counts later and in bulk, what is recorded and once, and never fails who it watches."""

import asyncio
import threading
import time
from dataclasses import dataclass

import pytest
from declared import SEX, declared

from service.monitor.counters import Explained, JoinedOutcome
from service.monitor.monitor import FLUSH_ROWS, FLUSH_SECONDS, FairnessMonitor, Inference, explained_rows

MANIFEST = declared(SEX, explained=True)


class Model:
    """Whatever is served."""


@dataclass
class Recording:
    """What becomes of records, as a test decides."""

    settled: bool = False
    failed: bool = False
    repeated: tuple[int, ...] = ()


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def monitor():
    return FairnessMonitor()


def inference(counters, *sexes, recording=None, explanations=()):
    """Rows of these groups, all predicted yes with 0.75."""
    groups = [counters.groups.of({"sex": sex}) for sex in sexes]
    return Inference(counters, groups, [1] * len(sexes), [0.75] * len(sexes), explanations, recording)


def counted(counters):
    """Predictions of women and men so far."""
    return counters.by_group(counters.predictions, 0).sum(axis=1)[:2].tolist()


def test_a_model_keeps_its_counters_as_long_as_it_lives(monitor, model):
    """A version that is loaded anew starts from 0."""
    assert monitor.watch(model, MANIFEST) is monitor.watch(model, MANIFEST)
    assert monitor.watch(Model(), MANIFEST) is not monitor.watch(model, MANIFEST)
    assert len(monitor._counters) == 1


def test_few_rows_wait_for_company(monitor, model):
    """And are counted by the timer."""
    counters = monitor.watch(model, MANIFEST)

    async def scenario():
        monitor.take(inference(counters, "female"))
        monitor.take(inference(counters, "male"))
        assert counted(counters) == [0, 0]
        await asyncio.sleep(1.2 * FLUSH_SECONDS)
        assert counted(counters) == [1, 1]
        monitor.take(inference(counters, "male"))
        await asyncio.sleep(1.2 * FLUSH_SECONDS)
        assert counted(counters) == [1, 2]

    asyncio.run(scenario())


def test_many_rows_are_counted_at_once(monitor, model):
    """As soon as there are enough of them."""
    counters = monitor.watch(model, MANIFEST)

    async def scenario():
        monitor.take(inference(counters, *["female"] * (FLUSH_ROWS - 1)))
        assert counted(counters) == [0, 0]
        monitor.take(inference(counters, "male"))
        assert counted(counters) == [FLUSH_ROWS - 1, 1]

    asyncio.run(scenario())


def test_a_scrape_counts_what_waits(monitor, model):
    """Also of several models at once, and of none."""
    other = Model()
    counters, others = monitor.watch(model, MANIFEST), monitor.watch(other, MANIFEST)

    async def scenario():
        monitor.flush()
        monitor.take(inference(counters, "female"))
        monitor.take(inference(others, "male"))
        monitor.take(inference(counters, "female"))
        monitor.flush()

    before = time.time()
    monitor.last_success_seconds = 0.0
    asyncio.run(scenario())
    assert (counted(counters), counted(others)) == ([2, 0], [0, 1])
    assert monitor.last_success_seconds >= before


def test_rows_count_when_their_records_are_committed(monitor, model):
    """Those that are not are looked at again; those that were given up never count."""
    counters = monitor.watch(model, MANIFEST)
    committed, pending, failed = Recording(settled=True), Recording(), Recording(settled=True, failed=True)

    async def scenario():
        for recording in (committed, pending, failed):
            monitor.take(inference(counters, "female", recording=recording))
        monitor.flush()
        assert counted(counters) == [1, 0]
        monitor.flush()
        pending.settled = True
        monitor.flush()
        monitor.flush()
        assert counted(counters) == [2, 0]

    asyncio.run(scenario())
    assert monitor.failures == 0


def test_what_is_still_being_recorded_is_looked_at_again_by_itself(monitor, model):
    """Without another request."""
    counters = monitor.watch(model, MANIFEST)
    recording = Recording()

    async def scenario():
        monitor.take(inference(counters, "female", recording=recording))
        await asyncio.sleep(1.2 * FLUSH_SECONDS)
        assert counted(counters) == [0, 0]
        recording.settled = True
        await asyncio.sleep(1.2 * FLUSH_SECONDS)

    asyncio.run(scenario())
    assert counted(counters) == [1, 0]


def test_a_retry_does_not_count_again(monitor, model):
    """Row by row: the second of three was recorded before; nor do its values count."""
    counters = monitor.watch(model, MANIFEST)
    explanations = [{"values": [[x], [0.5]], "fx": [x + 0.5]} for x in (1.0, 2.0, 4.0)]
    recording = Recording(settled=True, repeated=(1,))

    async def scenario():
        monitor.take(inference(counters, "female", "male", "female", recording=recording, explanations=explanations))
        monitor.take(inference(counters, "male", recording=Recording(settled=True, repeated=(0,))))
        monitor.flush()

    asyncio.run(scenario())
    assert counted(counters) == [2, 0]
    assert counters.attribution_sum.sum(axis=0).tolist() == [[5.0, 0.0], [1.0, 0.0]]
    assert counters.attribution_rows.sum() == 2


def test_a_failure_is_counted_and_raises_nothing(monitor, model):
    """Rows of a model with a defect are lost; those of the others count, and so do the next ones."""
    other = Model()
    counters, others = monitor.watch(model, MANIFEST), monitor.watch(other, MANIFEST)
    broken = inference(counters, "female")
    broken.scores = [0.5, 0.5]

    async def scenario():
        monitor.last_success_seconds = 0.0
        monitor.take(broken)
        monitor.take(inference(others, "male"))
        monitor.flush()
        monitor.flush()  # a scrape with nothing to count is no success
        assert (monitor.failures, monitor.last_success_seconds) == (1, 0.0)
        monitor.take(inference(counters, "male"))
        monitor.flush()

    asyncio.run(scenario())
    assert monitor.failures == 1
    assert monitor.last_success_seconds > 0
    assert (counted(counters), counted(others)) == ([0, 1], [0, 1])


def test_closing_counts_what_waits_and_leaves_no_timer(monitor, model):
    """What is not recorded by then is not."""
    counters = monitor.watch(model, MANIFEST)

    async def scenario():
        monitor.take(inference(counters, "female"))
        monitor.take(inference(counters, "female", recording=Recording()))
        monitor.close()
        assert monitor._timer.cancelled()

    asyncio.run(scenario())
    assert counted(counters) == [1, 0]


def test_explained_rows_are_those_with_values():
    """An entry that was skipped or failed has none."""
    counters = FairnessMonitor().watch(Model(), MANIFEST)
    women, men = (counters.groups.of({"sex": sex}) for sex in SEX[1])
    entries = [{"status": "skipped"}, {"values": [[0.25], [-1.0]], "fx": [-0.75]}]
    assert explained_rows(MANIFEST, [women, men], entries) == [Explained(men, [0.25, -1.0], -0.75)]
    assert explained_rows(declared(classes=("a", "b", "c")), [women, men], entries) == []


def test_outcomes_and_samples_are_counted_where_they_are_taken(monitor, model):
    """They do not come through the middleware."""
    counters = monitor.watch(model, MANIFEST)
    group = counters.groups.of({"sex": "female"})
    monitor.take_outcomes(counters, [JoinedOutcome(group, 1, 0, 0.75, 3.0)])
    monitor.take_explained(counters, [Explained(group, [1.0, 2.0], 3.0)])
    [snapshot] = monitor.snapshot([(model, MANIFEST)])
    assert (snapshot.outcomes.sum(), snapshot.attribution_rows.sum(), snapshot.delay_sum) == (1, 1, 3.0)


def test_a_snapshot_is_of_one_moment(monitor, model):
    """While another thread counts: each row is in all tables or in none."""
    counters = monitor.watch(model, MANIFEST)
    done = threading.Event()

    async def count():
        for number in range(300):
            sex = ("female", "male", "declined", "martian")[number % 4]
            monitor.take(inference(counters, *[sex] * 7))
            monitor.flush()

    def work():
        asyncio.run(count())
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    last = 0
    while not done.is_set():
        [snapshot] = monitor.snapshot([(model, MANIFEST)])
        n = snapshot.by_group(snapshot.predictions, 0).sum()
        assert n == snapshot.score_sum.sum() / 0.75
        assert n % 7 == 0
        assert n >= last
        last = n
    thread.join()
    assert counters.predictions.sum() == 2100


TODAY = int(time.time() // 86_400 * 86_400)
YESTERDAY = TODAY - 86_400


def explain_yesterday(counters, group):
    """One row, and one more of today."""
    counters.add_explained([Explained(group, [1.0, 2.0], 3.0)])
    [(_, total)] = counters.daily.items()
    counters.daily.clear()
    counters.daily[YESTERDAY, group.text] = total
    counters.add_explained([Explained(group, [0.5, 0.5], 1.0)])


def rows(changed):
    return {key: total.rows for key, total in changed.items()}


def test_sums_are_saved_once_they_have_grown(monitor, model):
    """And stay what they were when they were handed out."""
    counters = monitor.watch(model, MANIFEST)
    row = Explained(counters.groups.nobody, [1.0, 2.0], 3.0)
    monitor.take_explained(counters, [row])
    first = monitor.changed_attributions(counters)
    monitor.take_explained(counters, [row])
    assert [(total.rows, total.sums.tolist()) for total in first.values()] == [(1, [1.0, 2.0])]
    monitor.attributions_saved(counters, rows(first))
    second = monitor.changed_attributions(counters)
    assert list(rows(second).values()) == [2]
    monitor.attributions_saved(counters, rows(second))
    assert monitor.changed_attributions(counters) == {}


def test_past_days_go_when_they_are_saved(monitor, model):
    """Today's sums stay, to grow on."""
    counters = monitor.watch(model, MANIFEST)
    explain_yesterday(counters, counters.groups.nobody)
    monitor.attributions_saved(counters, rows(monitor.changed_attributions(counters)))
    assert YESTERDAY not in {day for day, _ in counters.daily}
    assert len(counters.daily) == 1


def test_two_that_save_at_once_do_not_trip_over_an_ended_day(monitor, model):
    """The second one finds that the first has let go of it."""
    counters = monitor.watch(model, MANIFEST)
    explain_yesterday(counters, counters.groups.nobody)
    saved = rows(monitor.changed_attributions(counters))
    monitor.attributions_saved(counters, saved)
    monitor.attributions_saved(counters, saved)
    assert len(counters.daily) == 1
