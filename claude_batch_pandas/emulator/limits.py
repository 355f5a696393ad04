"""What a tier allows: calls per minute, and requests in the processing queue."""

from __future__ import annotations

import heapq
import math
from typing import NamedTuple

from claude_batch_pandas.emulator.batches import SimulatedBatch
from claude_batch_pandas.emulator.errors import RefusedError
from claude_batch_pandas.exceptions import InputError

_MINUTE = 60.0
_ROUNDING = 1e-9


class Tier(NamedTuple):
    """The limits of a usage tier of the Message Batches API."""

    requests_per_minute: int | None  # over all batch endpoints
    queued_requests: int  # over all batches that are processing


TIERS = {
    "start": Tier(1_000, 200_000),
    "build": Tier(2_000, 300_000),
    "scale": Tier(4_000, 500_000),
}
NO_TIER = Tier(None, TIERS["start"].queued_requests)


def tier_of(name: str) -> Tier:
    """Return a tier by its name."""
    if name not in TIERS:
        message = f"No tier {name!r}. There are: {list(TIERS)}, and None for no limit per minute."
        raise InputError(message)
    return TIERS[name]


class Throttle:
    """A bucket of calls that fills up evenly: so many a minute, and as many at once.

    Parameters
    ----------
    per_minute : int or None
        None lets every call through.
    """

    def __init__(self, per_minute: int | None) -> None:
        self._per_minute = per_minute
        self._left = float(per_minute or 0)
        self._seen = -math.inf

    def admit(self, now: float) -> None:
        """Count a call, or refuse it with the seconds to wait."""
        if self._per_minute is None:
            return
        rate = self._per_minute / _MINUTE
        passed = max(0.0, now - self._seen)
        self._left = min(float(self._per_minute), self._left + passed * rate)
        self._seen = now
        if self._left < 1 - _ROUNDING:
            seconds = max(1, math.ceil((1 - self._left) / rate))
            raise RefusedError(
                429,
                "This request would exceed your organization's limit of "
                f"{self._per_minute} requests per minute for the Message Batches API. "
                "Please try again later.",
                headers={"retry-after": str(seconds)},
            )
        self._left -= 1


class Queue:
    """How many requests are processing, told without looking at every batch there ever was.

    Parameters
    ----------
    limit : int or None
        None takes any number.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._queued = 0
        self._running: dict[str, SimulatedBatch] = {}
        self._ends: list[tuple[float, str]] = []

    def check(self, total: int, now: float) -> None:
        """Refuse so many requests more when there is no room for them."""
        self._drop_ended(now)
        if self._limit is not None and self._queued + total > self._limit:
            raise RefusedError(
                429,
                f"This batch of {total} requests would exceed your organization's limit of "
                f"{self._limit} requests in the processing queue, which holds {self._queued}.",
            )

    def add(self, batch: SimulatedBatch) -> None:
        """Take a batch in."""
        self._running[batch.id] = batch
        self._queued += batch.total
        self.note_end(batch)

    def note_end(self, batch: SimulatedBatch) -> None:
        """Note when a batch ends; a cancel brings that forward."""
        heapq.heappush(self._ends, (batch.ended_at, batch.id))

    def _drop_ended(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            _, batch_id = heapq.heappop(self._ends)
            # A canceled batch is in the heap twice.
            if batch := self._running.pop(batch_id, None):
                self._queued -= batch.total
