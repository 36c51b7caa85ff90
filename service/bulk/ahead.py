"""An iterator that is one item ahead: what is used and what is made next take a thread each."""

from collections.abc import Generator, Iterator
from concurrent.futures import Executor
from typing import TypeVar

Item = TypeVar("Item")


def one_ahead(items: Generator[Item], maker: Executor) -> Iterator[Item]:
    """`items`, each made in a thread of `maker` while the caller uses the one before it.

    What `items` raises is raised in its place. Where the caller stops early, `items` is closed once it has made what it
    is at; nobody waits for that.
    """
    coming = maker.submit(next, items, None)
    try:
        while (item := coming.result()) is not None:
            coming = maker.submit(next, items, None)
            yield item
    finally:
        coming.add_done_callback(lambda _: items.close())
        del coming  # what it raised leads back here
