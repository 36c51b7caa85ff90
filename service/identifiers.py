"""Identifiers of requests and predictions: ULIDs, which sort by time and carry nothing else.

Written here because a request of n rows needs n of them on the hot path, and the library's cost ten times as much
(the format: https://github.com/ulid/spec).
"""

import os
import time
from collections.abc import Iterator

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
TIME_DIGITS, RANDOM_DIGITS = 10, 16
# A random byte -> a digit. 256 is a multiple of 32, so every digit is equally likely.
_DIGIT_OF_BYTE = bytes(ord(ALPHABET[byte % 32]) for byte in range(256))


def ulids(count: int) -> list[str]:
    """`count` ULIDs of this millisecond, ascending, 26 characters of Crockford's base 32, 80 random bits each."""
    prefix = _prefix(time.time_ns() // 1_000_000)
    made = [prefix + next(_tails) for _ in range(count)]
    made.sort()
    return made


def _prefix(milliseconds: int) -> str:
    """The time part, kept for as long as the millisecond lasts."""
    if _last_prefix[0] != milliseconds:
        digits = (ALPHABET[milliseconds >> shift & 31] for shift in range(5 * TIME_DIGITS - 5, -1, -5))
        _last_prefix[:] = milliseconds, "".join(digits)
    return _last_prefix[1]  # type: ignore[return-value]


def _draw() -> Iterator[str]:
    """Random parts; the randomness is fetched for 400 at a time, as a system call costs microseconds."""
    while True:
        pool = os.urandom(400 * RANDOM_DIGITS).translate(_DIGIT_OF_BYTE).decode()
        for start in range(0, len(pool), RANDOM_DIGITS):
            yield pool[start : start + RANDOM_DIGITS]


_last_prefix: list[int | str] = [-1, ""]
_tails = _draw()
