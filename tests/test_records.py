"""The nouns: their words are the API's, and what they derive is right."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_batch_pandas.records import (
    Counts,
    Progress,
    RowStatus,
    RunState,
    Shard,
    ShardState,
)

SHARD = Shard(run_id="r", number=0, attempt=1, total=10, size=1, sha256="")


def test_row_statuses_are_the_documented_words() -> None:
    """The words of the status column, the API's own among them, spelled its way."""
    assert [str(status) for status in RowStatus] == [
        "succeeded",
        "refused",
        "truncated",
        "invalid",
        "errored",
        "expired",
        "canceled",
        "skipped",
        "processing",
    ]


def test_run_states_are_the_documented_words() -> None:
    """The words a person reads for a run."""
    assert {str(state) for state in RunState} == {
        "preparing",
        "submitting",
        "checking",
        "in_progress",
        "canceling",
        "collecting",
        "paused",
        "ended",
        "purged",
    }


@given(st.tuples(*[st.integers(0, 100_000)] * 5))
@settings(deadline=None, max_examples=50)
def test_total_is_the_sum_of_the_counts(numbers: tuple[int, ...]) -> None:
    """Every request is in exactly one count."""
    names = ("processing", "succeeded", "errored", "canceled", "expired")

    assert Counts(**dict(zip(names, numbers, strict=True))).total == sum(numbers)


@pytest.mark.parametrize(
    ("state", "is_open", "is_settled"),
    [
        (ShardState.PLANNED, False, False),
        (ShardState.SUBMITTING, True, False),
        (ShardState.IN_PROGRESS, True, False),
        (ShardState.CANCELING, True, False),
        (ShardState.ENDED, False, False),
        (ShardState.COLLECTED, False, True),
        (ShardState.WITHDRAWN, False, True),
    ],
)
def test_shard_knows_whether_it_is_open_or_settled(
    state: ShardState, is_open: bool, is_settled: bool
) -> None:
    """A shard that may be at the API is open; one nothing will happen to is settled."""
    shard = replace(SHARD, state=state)

    assert (shard.is_open, shard.is_settled) == (is_open, is_settled)


@pytest.mark.parametrize("state", RunState)
def test_progress_is_over_when_nothing_moves(state: RunState) -> None:
    """Only an ended, paused or purged run no longer moves by itself."""
    progress = Progress(run_id="r", name="n", state=state, rows=1, requests=1, shards=1)

    assert progress.is_over == (state in {"ended", "paused", "purged"})


def test_records_cannot_be_changed() -> None:
    """What was handed out stays as it was."""
    with pytest.raises(FrozenInstanceError, match="total"):
        SHARD.total = 5  # type: ignore[misc]
