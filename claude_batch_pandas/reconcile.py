"""Was a submission accepted? Adopt its batch, wait, or send it again.

A POST whose answer is lost leaves a shard whose fate is unknown. Sending it again blindly pays
twice; so the server's list is asked for batches newer than the fence (the newest batch before the
POST) with the same number of requests. One that has ended is recognised by the custom_ids in its
results; one that still runs is waited for, never canceled: it may be a colleague's. Only when
nothing showed up for `settle_seconds` is the shard sent again, as another attempt. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import Enum
from typing import NamedTuple

from claude_batch_pandas.records import Batch, Shard

FENCE_MARGIN = 3600.0  # seconds; how far the server's clocks are trusted when the fence is gone
SPARE_SECONDS = 600.0
SLOWEST_UPLOAD = 50_000.0  # bytes per second


class Next(Enum):
    """What to do about a submission whose fate is unknown."""

    INSPECT = "inspect"  # candidates have ended: look at the custom_ids in their results
    WATCH = "watch"  # a candidate still runs: wait for it
    WAIT = "wait"  # nothing yet, and too early to conclude
    ASK = "ask"  # a candidate's results are gone for good: a person has to decide
    RESEND = "resend"  # nothing came: it was not created


class Decision(NamedTuple):
    """What to do, and with which batches."""

    next: Next
    batches: Sequence[Batch] = ()


def longest_post(size: int) -> float:
    """Return the seconds from the look for a fence to the last byte of a body of that many bytes.

    Whoever takes longer, because the lid was closed in between, say, never sends the last byte: so
    that after a crash it is known by when a POST had ended.
    """
    return SPARE_SECONDS + size / SLOWEST_UPLOAD


def candidates(
    shard: Shard, listed: Sequence[Batch], owned: Collection[str], *, has_fence: bool
) -> list[Batch]:
    """Return the batches that the shard may have become.

    Parameters
    ----------
    shard : Shard
    listed : sequence of Batch
        Newer than the fence when `has_fence`, else the newest there are.
    owned : collection of str
        Batch ids that are known to be something else.
    """
    earliest = float("-inf") if has_fence else (shard.intended_at or 0.0) - FENCE_MARGIN
    return [
        batch
        for batch in listed
        if batch.counts.total == shard.total
        and batch.id not in owned
        and batch.created_at >= earliest
    ]


def decide(found: Sequence[Batch], waited: float, settle_seconds: float) -> Decision:
    """Decide what to do next.

    Parameters
    ----------
    found : sequence of Batch
        The candidates that were not ruled out.
    waited : float
        Seconds since the submission may have been sent.
    settle_seconds : float
        How long a created batch may take to show up in the list.
    """
    told = [batch for batch in found if not batch.archived]
    ended = [batch for batch in told if batch.processing_status == "ended"]
    if ended:
        return Decision(Next.INSPECT, ended)
    if told:
        return Decision(Next.WATCH, told)
    if found:
        return Decision(Next.ASK, found)
    return Decision(Next.RESEND if waited >= settle_seconds else Next.WAIT)
