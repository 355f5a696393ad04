"""Requests -> shards: the limits of a batch are never passed."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.sharding import (
    BODY_HEAD,
    BODY_JOIN,
    BODY_TAIL,
    ENVELOPE,
    MAX_BATCH_BYTES,
    MAX_BATCH_REQUESTS,
    PLANNED_BYTES,
    check_shard_size,
    fits,
    totals,
)

sizes = st.one_of(
    st.integers(1, 300_000_000),
    st.integers(-3, 3).map(lambda off: MAX_BATCH_BYTES - ENVELOPE + off),
    st.integers(-3, 3).map(lambda off: PLANNED_BYTES - ENVELOPE + off),
    st.integers(50_000_000, 130_000_000),
)
shard_sizes = st.one_of(st.none(), st.integers(1, MAX_BATCH_REQUESTS))


def body_size(lines: list[int]) -> int:
    """Return the bytes of a body of lines of those sizes, counted from scratch."""
    return len(BODY_HEAD) + sum(lines) + len(BODY_JOIN) * (len(lines) - 1) + len(BODY_TAIL)


def pack(lines: list[int]) -> list[list[int]]:
    """Fill shards the way `fits` allows; a line that fits nowhere is left out."""
    shards: list[list[int]] = []
    for size in lines:
        so_far = body_size(shards[-1]) - len(BODY_TAIL) if shards else 0
        if shards and fits(so_far, size, is_first=False):
            shards[-1].append(size)
        elif fits(len(BODY_HEAD), size, is_first=True):
            shards.append([size])
    return shards


@given(st.lists(sizes, max_size=12))
@settings(deadline=None, max_examples=300)
def test_no_body_passes_the_limit(lines: list[int]) -> None:
    """No body has more than 256,000,000 bytes, and none of several requests is planned so large."""
    shards = pack(lines)

    assert all(body_size(shard) <= 256_000_000 for shard in shards)
    assert all(body_size(shard) <= 250_000_000 for shard in shards if len(shard) > 1)


@given(st.lists(sizes, max_size=12))
@settings(deadline=None, max_examples=300)
def test_only_impossible_requests_are_left_out(lines: list[int]) -> None:
    """Every request that could be a batch of its own is in a shard, once and in order."""
    packed = [size for shard in pack(lines) for size in shard]

    assert packed == [size for size in lines if body_size([size]) <= 256_000_000]


@given(st.integers(1, 240_000_000), st.integers(1, 240_000_000))
@settings(deadline=None, max_examples=200)
def test_room_is_not_wasted(first: int, second: int) -> None:
    """A second request is turned away only when the body would pass the planned size."""
    so_far = body_size([first]) - len(BODY_TAIL)

    assert fits(so_far, second, is_first=False) == (body_size([first, second]) <= 250_000_000)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=5))
@settings(deadline=None, max_examples=50)
def test_body_is_one_json_object(values: list[int]) -> None:
    """Head, joints and tail make the object that the API takes, one request a line."""
    lines = [json.dumps({"custom_id": str(value)}).encode() for value in values]
    body = BODY_HEAD + BODY_JOIN.join(lines) + BODY_TAIL

    assert json.loads(body) == {"requests": [json.loads(line) for line in lines]}
    assert body_size([len(line) for line in lines]) == len(body)
    assert len(body.split(b"\n")) == len(lines) + 2


@given(st.integers(0, 2_000_000), shard_sizes)
@settings(deadline=None, max_examples=300)
def test_totals_stay_within_their_bounds(rows: int, shard_size: int | None) -> None:
    """Every shard may have at least one request, and never more than was asked or the API takes."""
    limit = 10_000 if shard_size is None else shard_size
    found = list(islice(totals(rows, shard_size), 300))

    assert len(found) == 300
    assert all(1 <= total <= min(limit, 100_000) for total in found)


@given(st.integers(1, 200_000), st.integers(1, MAX_BATCH_REQUESTS))
@settings(deadline=None, max_examples=300)
def test_asked_size_takes_no_shard_more(rows: int, shard_size: int) -> None:
    """Totals that differ never cost a shard more than the size that was asked for."""
    shards = -(-rows // shard_size)
    left = rows
    for total in islice(totals(rows, shard_size), shards):
        left -= total

    assert left <= 0


@given(st.integers(0, 500_000))
@settings(deadline=None, max_examples=100)
def test_default_totals_of_neighbours_differ(rows: int) -> None:
    """By default the first fifty shards all differ in size, so that a lost batch is recognised."""
    found = list(islice(totals(rows), 50))

    assert len(set(found)) == 50


@pytest.mark.parametrize(
    ("rows", "first"), [(1, 500), (4_000, 500), (20_000, 2_010), (10**6, 10_000)]
)
def test_default_is_a_tenth_of_the_rows(rows: int, first: int) -> None:
    """The default is about rows / 10, between 500 and 10,000."""
    assert next(totals(rows)) == first


def test_exact_fit_is_kept() -> None:
    """A size that divides the rows is used as it is: 3 shards of 100, not 4."""
    assert list(islice(totals(300, 100), 3)) == [100, 100, 100]


@pytest.mark.parametrize("size", [0, -1, 100_001, 1.5, "100", True])
def test_impossible_shard_size_is_refused(size: Any) -> None:
    """No batch can have none, part of one, or more than 100,000 requests."""
    with pytest.raises(InputError, match=r"whole number from 1 to 100,000 requests, not"):
        check_shard_size(size)


@pytest.mark.parametrize("size", [None, 1, 100_000])
def test_possible_shard_size_is_kept(size: int | None) -> None:
    """Any other size is used as it is, None for the default."""
    assert check_shard_size(size) == size
