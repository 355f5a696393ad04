"""The custom_ids of a shard as a table say what they say one by one."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from claude_batch_pandas.ids import Ids
from claude_batch_pandas.requests import MAX_ATTEMPTS, MAX_REQUESTS, custom_id

NONCE = "0123456789abcdef"

shards = st.dictionaries(
    st.integers(0, MAX_REQUESTS), st.binary(min_size=16, max_size=16), max_size=20
)


def ids_of(requests: dict[int, bytes], attempt: int = 1) -> Ids:
    """Return the custom_ids of requests by ordinal."""
    hashes = "".join(digest.hex()[:16] for digest in requests.values()).encode()
    return Ids(
        NONCE,
        attempt,
        [*requests],
        np.frombuffer(hashes, np.uint8).reshape(-1, 16),
    )


def spoil(names: list[str], dice: random.Random) -> list[str]:
    """Return names of which something is wrong."""
    i, name = dice.choice([*enumerate(names)])
    at = dice.randrange(len(name))
    other = {
        "missing": [],
        "twice": [name, name],
        "shorter": [name[:-1]],
        "longer": [name + "0"],
        "another letter": [f"{name[:at]}{dice.choice('!é0aZ-')}{name[at + 1 :]}"],
        "nothing": [""],
        "a NUL": [f"{name[:-1]}\0"],
    }
    spoiled = dice.choice([*other.values()])
    return [*names[:i], *spoiled, *names[i + 1 :]]


@given(shards, st.integers(1, MAX_ATTEMPTS))
def test_made_they_are_what_was_sent(requests: dict[int, bytes], attempt: int) -> None:
    made = {custom_id(NONCE, attempt, i, one).decode(): i for i, one in requests.items()}

    assert dict(ids_of(requests, attempt)) == made
    assert len(ids_of(requests, attempt)) == len(made)


@given(shards, st.integers(1, MAX_ATTEMPTS), st.integers())
def test_all_are_found_in_any_order(requests: dict[int, bytes], attempt: int, seed: int) -> None:
    ids = ids_of(requests, attempt)
    names = [*ids]
    random.Random(seed).shuffle(names)  # noqa: S311 - an order, no secret
    found = ids.find(names)

    assert found is not None
    assert found.tolist() == [ids[name] for name in names]


@given(shards.filter(bool), st.integers())
def test_nothing_else_is_found(requests: dict[int, bytes], seed: int) -> None:
    """Not one name less, more, twice, or that differs in a letter."""
    dice = random.Random(seed)  # noqa: S311 - faults, no secrets
    ids = ids_of(requests)
    names = spoil([*ids], dice)
    dice.shuffle(names)
    is_right = sorted(names) == sorted(ids)

    assert (ids.find(names) is not None) == is_right


def test_names_that_are_right_only_end_to_end_are_wrong() -> None:
    """The first is a letter short, which the second has too many."""
    ids = ids_of({0: b"a" * 16, 1: b"b" * 16})
    one, two = ids

    assert ids.find([one[:-1], one[-1] + two]) is None
