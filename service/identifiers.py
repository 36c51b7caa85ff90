"""Identifiers of requests and predictions: ULIDs, which sort by time and carry nothing else.

Written here because a request of n rows needs n of them, and counting up from one random start (the ULID
specification's monotonic mode, https://github.com/ulid/spec) costs a tenth of n independent ones.
"""

import os
import time
from collections.abc import Iterator

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
RANDOM_BITS = 80
RANDOM_BYTES = RANDOM_BITS // 8
# All 1,024 pairs of digits: encoding two at a time halves the work.
_PAIRS = [first + second for first in ALPHABET for second in ALPHABET]


def ulids(count: int) -> list[str]:
    """`count` ULIDs of this millisecond, ascending, unique among themselves. 26 characters of Crockford's base 32."""
    # One bit of the random part stays 0, so that counting up never carries into the time.
    start = (time.time_ns() // 1_000_000 << RANDOM_BITS) | (next(_random_numbers) >> 1)
    return [_encode(start + offset) for offset in range(count)]


def _encode(number: int) -> str:
    return "".join([_PAIRS[number >> shift & 0x3FF] for shift in range(120, -1, -10)])


def _draw() -> Iterator[int]:
    """Random numbers of 80 bits from the operating system, fetched 400 at a time: a system call costs microseconds."""
    while True:
        pool = os.urandom(400 * RANDOM_BYTES)
        for start in range(0, len(pool), RANDOM_BYTES):
            yield int.from_bytes(pool[start : start + RANDOM_BYTES], "big")


_random_numbers = _draw()
