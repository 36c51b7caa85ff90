"""ULIDs as https://github.com/ulid/spec describes them."""

import time

from service.identifiers import ALPHABET, ulids


def decode(ulid: str) -> int:
    number = 0
    for digit in ulid:
        number = number * 32 + ALPHABET.index(digit)
    return number


def test_ulid_carries_the_time_in_its_first_48_bits() -> None:
    """The time part decodes to this millisecond."""
    before = time.time_ns() // 1_000_000
    (ulid,) = ulids(1)
    assert len(ulid) == 26
    assert before <= decode(ulid) >> 80 <= time.time_ns() // 1_000_000


def test_ulids_of_one_request_ascend() -> None:
    """n identifiers are n different ones, in order as text and as numbers."""
    made = ulids(1000)
    assert made == sorted(set(made))
    assert sorted(made, key=decode) == made


def test_ulids_of_many_requests_differ() -> None:
    """The random part is drawn anew for each, from all 32 digits."""
    made = {ulid for _ in range(5000) for ulid in ulids(1)}
    assert len({ulid[10:] for ulid in made}) == 5000
    assert all({ulid[place] for ulid in made} == set(ALPHABET) for place in range(10, 26))
