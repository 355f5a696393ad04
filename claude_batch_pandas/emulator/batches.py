"""One batch over time: what it is at an instant follows from the clock, nothing runs behind it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from random import Random
from typing import Any

import orjson

from claude_batch_pandas.emulator.answers import result
from claude_batch_pandas.emulator.caches import UNUSED, CacheUse
from claude_batch_pandas.emulator.checks import Frame
from claude_batch_pandas.emulator.clock import rfc3339
from claude_batch_pandas.emulator.media import Medium
from claude_batch_pandas.emulator.rules import Rule

PREFIX = "msgbatch_sim"
DAY = 86_400.0
EXPIRES_AFTER = DAY
ARCHIVED_AFTER = 29 * DAY
BLOCK = 1_000  # result lines per piece of a download

_RESULT_TYPES = {"errored": "errored", "expired": "expired", "canceled": "canceled"}


class SimulatedBatch:
    """A Message Batch of the emulator.

    Attributes
    ----------
    id : str
        The batch's id.
    custom_ids : list of str
        In the order of the requests.
    betas : tuple of str
        What the `anthropic-beta` header named.
    workspace : str
        The workspace that sees it.
    created_at : float
        Seconds since 1970, by the emulator's clock.
    deleted : bool
        Whether it was deleted through the API.
    """

    def __init__(  # noqa: PLR0913 - a record, by name only
        self,
        *,
        id: str,  # noqa: A002 - the API's own word
        frames: list[Frame],
        planned: dict[int, Rule],
        media: Mapping[str, Medium] | None = None,
        created_at: float,
        duration: float,
        workspace: str,
        betas: Sequence[str] = (),
        seed: int = 0,
        moving_counts: bool = False,
    ) -> None:
        self.id = id
        self.custom_ids = [frame.custom_id for frame in frames]
        self.betas = tuple(betas)
        self.workspace = workspace
        self.created_at = created_at
        self.deleted = False
        # What its requests used of the prompt cache, by position; the others used none.
        self.cached: dict[int, CacheUse] = {}
        # The files that its requests name, as they were found when it was created.
        self.media = dict(media or {})
        self._frames = frames
        self._planned = planned
        self._duration = duration + max((rule.delay for rule in planned.values()), default=0.0)
        self._seed = seed
        self._moving_counts = moving_counts
        self._canceled_at: float | None = None
        self._settled_at = math.inf  # when a cancel is through
        self._looked_at = False

    def __repr__(self) -> str:
        return f"<SimulatedBatch {self.id} of {self.total} requests>"

    @property
    def total(self) -> int:
        """Number of requests."""
        return len(self.custom_ids)

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The requests as they were sent, decoded anew at each call."""
        return [{"custom_id": f.custom_id, "params": f.decoded()} for f in self._frames]

    @property
    def expires_at(self) -> float:
        """When what is unfinished expires: 24 hours after the creation."""
        return self.created_at + EXPIRES_AFTER

    @property
    def ended_at(self) -> float:
        """When it ends, as far as is known now."""
        return min(self.created_at + self._duration, self.expires_at, self._settled_at)

    def has_ended(self, now: float) -> bool:
        """Whether processing is over."""
        return now >= self.ended_at

    def is_archived(self, now: float) -> bool:
        """Whether the results are gone."""
        return now >= self.created_at + ARCHIVED_AFTER

    def look(self) -> bool:
        """Note that it was asked for; whether that changed anything.

        A batch of no duration ends at the first look.
        """
        first = self._duration == 0 and not self._looked_at
        self._looked_at = True
        return first

    def cancel(self, now: float, settle: float) -> bool:
        """Cancel what has not been answered yet; False when it has ended already."""
        if self._canceled_at is not None:
            return not self.has_ended(now)
        unseen = self._duration == 0 and not self._looked_at
        if self.has_ended(now) and not unseen:
            return False
        self._canceled_at = now
        self._settled_at = now + settle
        return True

    def saved(self) -> dict[str, Any]:
        """Return what changes over a batch's life, to be written down."""
        return {
            "canceled_at": self._canceled_at,
            "settled_at": None if self._canceled_at is None else self._settled_at,
            "looked_at": self._looked_at,
            "deleted": self.deleted,
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from what `saved` returned."""
        self._canceled_at = saved["canceled_at"]
        self._settled_at = math.inf if saved["settled_at"] is None else saved["settled_at"]
        self._looked_at = saved["looked_at"]
        self.deleted = saved["deleted"]

    def describe(self, now: float, host_url: str, *, status: str | None = None) -> dict[str, Any]:
        """Return the MessageBatch object; `status` overrides what the clock says."""
        if status is None:
            running = "in_progress" if self._canceled_at is None else "canceling"
            status = "ended" if self.has_ended(now) else running
        ended = status == "ended"
        available = ended and not self.is_archived(now)
        archived_at = self.created_at + ARCHIVED_AFTER if self.is_archived(now) else None
        results = f"{host_url.rstrip('/')}/v1/messages/batches/{self.id}/results"
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": status,
            "request_counts": self._counts(now, ended=ended),
            "created_at": rfc3339(self.created_at),
            "expires_at": rfc3339(self.expires_at),
            "ended_at": rfc3339(self.ended_at if ended else None),
            "cancel_initiated_at": rfc3339(self._canceled_at),
            "archived_at": rfc3339(archived_at),
            "results_url": results if available else None,
        }

    def blocks(self) -> Iterator[bytes]:
        """Yield the results file of an ended batch in pieces of whole lines."""
        finished = self._finished(self.ended_at)
        left_over = {"type": self._left_over}
        stem = self.id.removeprefix(PREFIX)
        lines: list[bytes] = []
        for rank, position in enumerate(self.order):
            frame = self._frames[position]
            outcome = left_over
            if rank < finished:
                digest = f"{stem}{position:06x}"
                use = self.cached.get(position, UNUSED)
                rule = self._planned.get(position)
                outcome = result(frame.decoded(), rule, digest, use, self.media.get)
            line = {"custom_id": frame.custom_id, "result": outcome}
            lines.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
            if len(lines) == BLOCK:
                yield b"".join(lines)
                lines.clear()
        if lines:
            yield b"".join(lines)

    @cached_property
    def order(self) -> list[int]:
        """Positions in the order in which their answers come."""
        order = list(range(self.total))
        Random(f"{self._seed}/{self.id}").shuffle(order)  # noqa: S311 - a shuffle, not a secret
        return order

    @property
    def _left_over(self) -> str:
        """What becomes of requests that were not answered in time."""
        return "expired" if self._canceled_at is None else "canceled"

    def _finished(self, now: float) -> int:
        """Return how many requests were answered by then."""
        stopped = min(now, self.expires_at, self._canceled_at or math.inf)
        elapsed = stopped - self.created_at
        if self._duration == 0:
            return 0 if self._canceled_at is not None else self.total
        if self._canceled_at is None and now >= self.ended_at and self.ended_at < self.expires_at:
            return self.total  # whatever rounding makes of the division below
        return min(self.total, math.floor(self.total * max(0.0, elapsed) / self._duration))

    def _counts(self, now: float, *, ended: bool) -> dict[str, int]:
        """Tally the results; while it runs, all are processing, as the API says and does."""
        finished = self._finished(self.ended_at if ended else now)
        if not ended and not self._moving_counts:
            finished = 0
        counts = Counter(
            {"processing": 0, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
        )
        # All or none are the usual cases; only between them does the order matter.
        done = self.order[:finished] if 0 < finished < self.total else ()
        for position in done or (self._planned if finished else ()):
            if position not in self._planned:
                continue
            counts[_RESULT_TYPES.get(self._planned[position].outcome, "succeeded")] += 1
        counts["succeeded"] += finished - counts.total()
        counts[self._left_over if ended else "processing"] += self.total - finished
        return dict(counts)
