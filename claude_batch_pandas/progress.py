"""Honest progress: what moves, handed to hooks as one frozen record.

`request_counts` stay frozen until a batch ends, so a bar per request would sit at 0 and jump. What
moves is shards ended and results downloaded; shown with the time that went by and the time left.
Drawing happens in the thread that waits, at most twice a second, only on change, and an error
while drawing never reaches the run.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TextIO

from claude_batch_pandas.clock import Clock
from claude_batch_pandas.records import (
    Counts,
    Progress,
    RunRecord,
    RunState,
    Shard,
    ShardState,
)

SECONDS_BETWEEN_UPDATES = 0.5

log = logging.getLogger(__name__)


class Hook(Protocol):
    """Shows progress somewhere; a callable with one argument is enough."""

    def __call__(self, progress: Progress, /) -> None:
        """Show where the run is."""


def state_of(record: RunRecord, shards: Sequence[Shard]) -> RunState:
    """Return the state of a run from those of its shards; the most telling one wins."""
    states = {shard.state for shard in shards}
    if states <= {ShardState.COLLECTED, ShardState.WITHDRAWN}:
        return record.state
    if any(shard.state is ShardState.SUBMITTING and not shard.live for shard in shards):
        return RunState.CHECKING
    if record.cancel:
        return RunState.CANCELING
    if states & {ShardState.PLANNED, ShardState.SUBMITTING}:
        return RunState.SUBMITTING
    if ShardState.ENDED in states:
        return RunState.COLLECTING
    return RunState.IN_PROGRESS


def measure(record: RunRecord, shards: Sequence[Shard], now: float, note: str = "") -> Progress:
    """Return the progress of a run.

    Parameters
    ----------
    record : RunRecord
    shards : sequence of Shard
        Its own and those it takes answers from.
    now : float
        Seconds since 1970.
    note : str
        What is being waited for.
    """
    over = {RunState.ENDED, RunState.PAUSED, RunState.PURGED}
    sent = [shard for shard in shards if shard.batch_id is not None]
    kept = [shard for shard in shards if shard.state is ShardState.COLLECTED]
    expires_at = _first_expiry(sent)
    return Progress(
        run_id=record.id,
        name=record.name,
        state=record.state if record.state in over else state_of(record, shards),
        rows=record.rows,
        requests=record.requests,
        shards=len(shards),
        submitted=len(sent),
        ended=sum(shard.state in {ShardState.ENDED, *_KEPT} for shard in shards),
        collected=sum(shard.is_settled for shard in shards),
        # A retried or borrowed shard may hold more than this run asks.
        downloaded=min(record.requests, sum(shard.total for shard in kept)),
        counts=_sum_counts(shards),
        elapsed=max(0.0, now - record.created_at),
        expires_in=None if expires_at is None else max(0.0, expires_at - now),
        note=note or (record.note if record.state in over else ""),
        measured_at=now,
    )


_KEPT = (ShardState.COLLECTED, ShardState.WITHDRAWN)


def _first_expiry(shards: Sequence[Shard]) -> float | None:
    ends = [shard.expires_at for shard in shards if shard.is_open and shard.expires_at is not None]
    return min(ends, default=None)


def _sum_counts(shards: Sequence[Shard]) -> Counts:
    reported = [shard.counts for shard in shards if shard.counts is not None]
    return Counts(
        **{name: sum(getattr(counts, name) for counts in reported) for name in Counts.__slots__}
    )


def describe(progress: Progress) -> str:
    """Return one line of text that says where a run is."""
    if progress.summary:
        return progress.summary
    parts = [f"run {progress.run_id}: {WORDS[progress.state]}"]
    if progress.shards:
        parts.append(f"{progress.ended} of {progress.shards} shards ended")
    if progress.downloaded:
        parts.append(f"{progress.downloaded:,} of {progress.requests:,} results here")
    parts.append(f"{duration(progress.elapsed)} so far")
    if progress.expires_in is not None:
        parts.append(f"expires in {duration(progress.expires_in)}")
    if progress.note:
        parts.append(progress.note)
    return "; ".join(parts)


WORDS = {
    RunState.PREPARING: "rendering rows",
    RunState.SUBMITTING: "sending",
    RunState.CHECKING: "checking whether a batch was accepted",
    RunState.IN_PROGRESS: "in progress at the API",
    RunState.CANCELING: "canceling",
    RunState.COLLECTING: "collecting results",
    RunState.PAUSED: "paused",
    RunState.ENDED: "ended",
    RunState.PURGED: "purged",
}


def duration(seconds: float) -> str:
    """Return a time span as people say it, such as ``14 min`` or ``3 h 05 min``."""
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004
        return f"{whole} s"
    minutes, hours = whole // 60 % 60, whole // 3600
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


class Throttle:
    """Hands progress on to a hook: at most twice a second, only on change, never an error.

    After an error, only the last progress is tried again.

    Parameters
    ----------
    hook : Hook
    clock : Clock
    """

    def __init__(self, hook: Hook, clock: Clock) -> None:
        self._hook, self._clock = hook, clock
        self._last: tuple[Any, ...] | None = None
        self._shown_at = float("-inf")
        self._is_broken = False

    def __call__(self, progress: Progress) -> None:
        """Show where the run is, if there is something new to show."""
        now = self._clock.monotonic()
        news = _what_moves(progress)
        is_urgent = bool(progress.summary) or progress.is_over
        if news == self._last or (self._is_broken and not is_urgent):
            return
        if not is_urgent and now - self._shown_at < SECONDS_BETWEEN_UPDATES:
            return
        self._last, self._shown_at = news, now
        try:
            self._hook(progress)
        except Exception:  # a broken display must never break a paid run
            if not self._is_broken:
                log.warning("Progress can no longer be shown; the run goes on.", exc_info=True)
            self._is_broken = True


class Watch:
    """What whoever waits for a run sees of it, and what is clicked meanwhile.

    Parameters
    ----------
    hook : Hook
        One with a method ``bind`` is told the run first; one with ``obey`` is asked between two
        drawings to do what was clicked.
    run : Run
    clock : Clock

    Attributes
    ----------
    progress : Progress
        Where the run was last seen.
    """

    def __init__(self, hook: Hook, run: Any, clock: Clock) -> None:
        bind = getattr(hook, "bind", None)
        if bind is not None:
            bind(run)
        self.progress: Progress = run.progress
        self._clock = clock
        self._obey: Callable[[float], None] | None = getattr(hook, "obey", None)
        self._show = Throttle(hook, clock)

    def __call__(self, progress: Progress) -> None:
        """Show where the run is."""
        self.progress = progress
        self._show(progress)
        if self._obey is not None:
            self._obey(self._clock.monotonic())

    def end(self, words: str) -> None:
        """Show the last of it: why nobody waits any more; of a pause, its note says that."""
        is_paused = self.progress.state in {RunState.PAUSED, RunState.PURGED}
        self._show(self.progress if is_paused else replace(self.progress, summary=words))


def _what_moves(progress: Progress) -> tuple[Any, ...]:
    """Return what makes one progress differ from the next; time alone moves once a second."""
    return (
        progress.state,
        progress.submitted,
        progress.ended,
        progress.collected,
        progress.downloaded,
        progress.counts,
        progress.note,
        progress.summary,
        int(progress.elapsed),
    )


class TerminalBar:
    """A tqdm bar over shards, on standard error."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._bar: Any = None

    def bind(self, run: Any) -> None:
        """Say what is sent."""
        _begin(run, self._stream)

    def __call__(self, progress: Progress) -> None:
        """Draw the bar."""
        from tqdm import tqdm

        if self._bar is None and not progress.summary:
            self._bar = tqdm(
                total=progress.shards,
                unit="shard",
                file=self._stream,
                desc=progress.run_id,
                leave=False,
                bar_format="{desc} |{bar}| {n_fmt}/{total_fmt} shards{postfix}",
            )
        if self._bar is not None:
            self._bar.total = progress.shards
            self._bar.n = progress.ended
            self._bar.set_postfix_str(_postfix(progress), refresh=True)
        if progress.summary or progress.is_over:
            if self._bar is not None:
                self._bar.close()
                self._bar = None
            print(progress.summary or describe(progress), file=self._stream)


def _postfix(progress: Progress) -> str:
    parts = [duration(progress.elapsed), WORDS[progress.state]]
    if progress.downloaded:
        parts.append(f"{progress.downloaded:,} of {progress.requests:,} results here")
    if progress.expires_in is not None:
        parts.append(f"expires in {duration(progress.expires_in)}")
    return ", ".join([*parts, *([progress.note] if progress.note else [])])


class Lines:
    """One line per change, for a log or a pipe, on standard error."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._last: tuple[Any, ...] | None = None

    def bind(self, run: Any) -> None:
        """Say what is sent."""
        _begin(run, self._stream)

    def __call__(self, progress: Progress) -> None:
        """Write a line when something but the time has moved."""
        news = _what_moves(progress)[:-1]
        if news != self._last:
            self._last = news
            print(describe(progress), file=self._stream, flush=True)


def _begin(run: Any, stream: TextIO) -> None:
    """Say what a run sends, and about what it costs; nothing when it sends nothing."""
    if words := run.headline():
        print(words, file=stream, flush=True)


def silent(progress: Progress) -> None:
    """Show nothing."""
