"""`Reloading` with a loader of the test's own: what happens while a package is read."""

import asyncio
import threading

import pytest
import toy
from structlog.testing import capture_logs

from service.errors import NotReady, RecordsUnavailable
from service.reloading import Reloading
from service.runtime.repository import Repository, Runtime, load_package

SECONDS = 10


class Reading:
    """A loader that waits in its thread until the test lets it go on, and what was told of it."""

    def __init__(self):
        self.repository = Repository()
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.threads, self.exchanged, self.refused, self.trouble = set(), [], [], []

    def load(self, folder):
        self.threads.add(threading.current_thread())
        self.begun.set()
        assert self.go_on.wait(SECONDS)
        return load_package(folder, Runtime())

    async def admit(self, model):
        if self.trouble:
            raise self.trouble.pop()

    def reloading(self, models):
        return Reloading(
            lambda: self.repository,
            models,
            load=self.load,
            admit=self.admit,
            exchanged=lambda old, new: self.exchanged.append((old and old.key, new and new.key)),
            refused=lambda name, error: self.refused.append((name, str(error))),
        )


@pytest.fixture
def reading():
    reading = Reading()
    yield reading
    reading.go_on.set()


async def begun(reading):
    while not reading.begun.is_set():
        await asyncio.sleep(0.001)


def test_the_event_loop_goes_on_while_a_package_is_read(tmp_path, reading) -> None:
    """In another thread; the index says so, and the exchange comes at the end."""
    toy.write_toy(tmp_path)

    async def live():
        reloading = reading.reloading(tmp_path)
        loading = asyncio.create_task(reloading.load("toy"))
        await begun(reading)
        assert reloading.index() == [("toy", "1", "LOADING", "")]
        assert list(reading.repository) == []
        reading.go_on.set()
        await loading
        assert reloading.index() == [("toy", "1", "READY", "")]
        await reloading.close()

    asyncio.run(live())
    assert threading.main_thread() not in reading.threads
    assert reading.exchanged == [(None, "toy/1")]


def test_a_package_is_read_to_its_end_and_forgotten_at_the_shutdown(tmp_path, reading) -> None:
    """Whoever waits for it, or asks later, hears that the service is shutting down."""
    toy.write_toy(tmp_path)

    async def live():
        reloading = reading.reloading(tmp_path)
        loading = asyncio.create_task(reloading.load("toy"))
        await begun(reading)
        await reloading.close()
        reading.go_on.set()
        with pytest.raises(NotReady, match="shutting down"):
            await loading
        for late in (reloading.load("toy"), reloading.unload("toy")):
            with pytest.raises(NotReady, match="shutting down"):
                await late
        reloading.begin_load_all()

    asyncio.run(live())
    assert reading.exchanged == []
    assert list(reading.repository) == []


def test_a_package_that_the_records_cannot_note_waits(tmp_path, reading) -> None:
    """It is not the package's fault: it is tried again although its files are the same."""
    toy.write_toy(tmp_path)
    reading.go_on.set()
    reading.trouble.append(RecordsUnavailable("records: the database does not answer"))

    async def live():
        reloading = reading.reloading(tmp_path)
        reloading.poll(0.01)
        while not reading.exchanged:
            await asyncio.sleep(0.01)
        await reloading.close()

    asyncio.run(asyncio.wait_for(live(), SECONDS))
    assert reading.refused == [("toy", "records: the database does not answer")]
    assert reading.exchanged == [(None, "toy/1")]
    assert reading.repository.reasons() == {}


def test_who_asks_hears_that_the_records_cannot_note_it(tmp_path, reading) -> None:
    """503, as it makes sense to ask again."""
    toy.write_toy(tmp_path)
    reading.go_on.set()
    reading.trouble.append(RecordsUnavailable("records: the database does not answer"))

    async def live():
        reloading = reading.reloading(tmp_path)
        with pytest.raises(NotReady, match="toy/1: records: the database does not answer"):
            await reloading.load("toy")
        await reloading.load("toy")
        await reloading.close()

    asyncio.run(live())
    assert [model.key for model in reading.repository] == ["toy/1"]


def test_an_unload_waits_for_a_load(tmp_path, reading) -> None:
    """And has the last word."""
    toy.write_toy(tmp_path)

    async def live():
        reloading = reading.reloading(tmp_path)
        loading = asyncio.create_task(reloading.load("toy"))
        await begun(reading)
        unloading = asyncio.create_task(reloading.unload("toy"))
        await asyncio.sleep(0.01)
        assert not unloading.done()
        reading.go_on.set()
        await asyncio.gather(loading, unloading)
        assert reloading.index() == [("toy", "1", "UNAVAILABLE", "unloaded")]
        await reloading.close()

    asyncio.run(live())
    assert reading.exchanged == [(None, "toy/1"), ("toy/1", None)]


async def reload_all(reloading):
    """What SIGHUP does, to its end."""
    reloading.begin_load_all()
    await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})


def test_a_folder_that_is_empty_is_no_reason_to_let_everything_go(tmp_path, reading) -> None:
    """On SIGHUP as for polling: more often a volume that is not mounted."""
    models = tmp_path / "models"
    toy.write_toy(models)
    reading.go_on.set()

    async def live():
        reloading = reading.reloading(models)
        await reloading.load("toy")
        models.rename(tmp_path / "aside")
        models.mkdir()
        await reload_all(reloading)
        await reloading.close()

    with capture_logs() as logs:
        asyncio.run(live())
    assert [model.key for model in reading.repository] == ["toy/1"]
    assert [line["reason"] for line in logs if line["event"] == "repository not looked at"] == [
        f"{models}: empty all of a sudden; what is loaded is kept"
    ]


def test_what_nobody_expected_while_all_are_loaded_is_in_the_log(tmp_path, reading) -> None:
    """Its kind only, as it may quote values; the next load is as good as any."""
    toy.write_toy(tmp_path)
    reading.go_on.set()
    reading.trouble.append(RuntimeError("a value"))

    async def live():
        reloading = reading.reloading(tmp_path)
        await reload_all(reloading)
        assert list(reading.repository) == []
        await reloading.load("toy")
        await reloading.close()

    with capture_logs() as logs:
        asyncio.run(live())
    assert [line["error"] for line in logs if line["event"] == "repository not looked at"] == ["RuntimeError"]
    assert [model.key for model in reading.repository] == ["toy/1"]
