"""Holding back: as long as was asked, until a shard ends, and never for ever."""

from __future__ import annotations

import random

import pytest

from claude_batch_pandas.holding import SECONDS, Hold


@pytest.fixture
def hold() -> Hold:
    """Return a hold that never began."""
    return Hold(random.Random(1))  # noqa: S311 - dice, not a secret


def test_nothing_is_held_before_it_begins(hold: Hold) -> None:
    """The first shard goes at once."""
    assert not hold.is_on(0.0, 0)
    assert (hold.until, hold.why) == (0.0, "")


def test_what_was_asked_is_waited(hold: Hold) -> None:
    """Whatever ends meanwhile."""
    hold.begin(100.0, 3, 30.0)

    assert hold.is_on(129.0, 0)
    assert not hold.is_on(130.0, 3)
    assert hold.why == "the API asked to wait 30 s"


def test_a_full_queue_waits_for_one_of_ours_to_end(hold: Hold) -> None:
    """The refused shard may still count as open; only fewer others than then release it."""
    hold.begin(100.0, 2, None)

    assert hold.is_on(101.0, 3)
    assert hold.is_on(101.0, 2)
    assert (
        hold.why
        == "the API takes no more for now (its queue, or a rate); the next shard waits for one to end"
    )
    assert not hold.is_on(101.0, 1)
    assert not hold.is_on(101.0, 2)  # what is over is over


def test_a_queue_is_asked_again_after_a_while(hold: Hold) -> None:
    """Somebody else's batches may have ended."""
    hold.begin(100.0, 2, None)

    assert not hold.is_on(100.0 + SECONDS, 2)


def test_a_queue_full_of_others_is_asked_in_growing_steps(hold: Hold) -> None:
    """None of ours can end, so only time tells; a shard that goes out begins anew."""
    waits = []
    for _ in range(8):
        hold.begin(0.0, 0, None)
        waits.append(hold.until)
    hold.succeed()
    hold.begin(0.0, 0, None)

    assert waits[0] < waits[3] <= waits[7] <= SECONDS
    assert hold.until < waits[3]
