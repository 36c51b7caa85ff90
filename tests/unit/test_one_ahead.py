"""An iterator that is one item ahead of its user."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.bulk.ahead import one_ahead

WAIT_SECONDS = 20


@pytest.fixture
def maker():
    with ThreadPoolExecutor(2) as executor:
        yield executor


def test_items_come_in_order_and_all_of_them(maker):
    assert list(one_ahead((number for number in range(50)), maker)) == list(range(50))
    assert list(one_ahead((number for number in ()), maker)) == []


def test_the_next_item_is_made_while_one_is_used_and_no_further_one(maker):
    made = [threading.Event() for _ in range(4)]

    def items():
        for number, event in enumerate(made):
            event.set()
            yield number

    ahead = one_ahead(items(), maker)
    assert next(ahead) == 0
    assert made[1].wait(WAIT_SECONDS)
    assert not made[2].wait(0.05)
    assert next(ahead) == 1
    assert made[2].wait(WAIT_SECONDS)
    ahead.close()


def test_items_are_made_in_another_thread(maker):
    (thread,) = one_ahead((threading.get_ident() for _ in range(1)), maker)
    assert thread != threading.get_ident()


def test_what_is_raised_comes_after_the_items_before_it(maker):
    def items():
        yield "good"
        raise KeyError("bad")

    ahead = one_ahead(items(), maker)
    assert next(ahead) == "good"
    with pytest.raises(KeyError, match="bad"):
        next(ahead)
    with pytest.raises(StopIteration):
        next(ahead)


def test_who_stops_early_waits_for_nothing_and_closes_the_items(maker):
    asked, answer, closed = threading.Event(), threading.Event(), threading.Event()

    def items():
        try:
            yield "first"
            asked.set()
            answer.wait(WAIT_SECONDS)
            yield "second"
        finally:
            closed.set()

    ahead = one_ahead(items(), maker)
    assert next(ahead) == "first"
    assert asked.wait(WAIT_SECONDS)
    ahead.close()
    assert not closed.is_set()
    answer.set()
    assert closed.wait(WAIT_SECONDS)
