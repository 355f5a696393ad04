"""Requests without a full answer -> shards that ask them again, in whichever runs sent them first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from claude_batch_pandas import locks, resending
from claude_batch_pandas.answers import Origin
from claude_batch_pandas.causes import Cause, cause_of
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.histories import contents_of
from claude_batch_pandas.records import RunRecord, RunState, Shard, ShardState
from claude_batch_pandas.requests import with_max_tokens, with_turn
from claude_batch_pandas.results import Result
from claude_batch_pandas.sharding import LARGEST_DEFAULT

BY_A_PERSON = frozenset({Cause.PASSING, Cause.UNPAID, Cause.FAILED})
HOW = {
    Cause.CANCELED: "canceled=True",
    Cause.TRUNCATED: "truncated=True, max_tokens=...",
    Cause.UNREADABLE: "missing=True",
    Cause.INVALID: "invalid=True",
    Cause.UNFINISHED: "resume_turns() instead",
}

Wanted = Callable[[Result, Origin], bool]
EditsOf = Callable[[str, Mapping[int, Cause]], Mapping[int, resending.Edit]]


def causes_of(
    max_tokens: Any, *, canceled: bool, truncated: bool, missing: bool, invalid: bool
) -> frozenset[Cause]:
    """Return what a person wants to be asked again.

    Raises
    ------
    InputError
        When `max_tokens` cannot be, or is there without a need.
    """
    is_count = isinstance(max_tokens, int) and not isinstance(max_tokens, bool) and max_tokens >= 1
    if truncated and not is_count:
        msg = f"truncated=True needs max_tokens=, a whole number of at least 1, not {max_tokens!r}."
        raise InputError(msg)
    if max_tokens is not None and not truncated:
        msg = "max_tokens= is for truncated=True; other rows are sent again as they were."
        raise InputError(msg)
    chosen = {
        Cause.CANCELED: canceled,
        Cause.TRUNCATED: truncated,
        Cause.UNREADABLE: missing,
        Cause.INVALID: invalid,
    }
    return BY_A_PERSON | {cause for cause, is_chosen in chosen.items() if is_chosen}


def left_over(seen: Mapping[Cause, int]) -> str:
    """Say how to ask for what `retry` left alone; empty when there is nothing."""
    left = [f"{seen[cause]:,} {cause}: {how}" for cause, how in HOW.items() if seen[cause]]
    return f"Nothing was sent again. Ask for what is left ({'; '.join(left)})." if left else ""


def retry(
    run_id: str, engine: Engine, causes: Collection[Cause], max_tokens: int | None = None
) -> Counter[Cause]:
    """Plan the requests that have no full answer for one of some causes once more.

    Parameters
    ----------
    run_id : str
    engine : Engine
    causes : collection of Cause
    max_tokens : int, optional
        What a truncated answer may have this time.

    Returns
    -------
    Counter of Cause
        How many requests have no full answer, whether they are asked again or not.

    Raises
    ------
    InputError
        When one of the runs that hold its answers cannot be asked.
    LedgerError
        When the request bodies are gone from this disk.
    """
    seen: Counter[Cause] = Counter()

    def is_wanted(result: Result, _: Origin) -> bool:
        cause = cause_of(result)
        seen[cause] += 1
        return cause in causes

    # So that two kernels never send the same rows again at once.
    with locks.held(engine.store.home / locks.PLANNING):
        _ask_again(run_id, engine, is_wanted, partial(_with_limit, max_tokens))
    return seen


def _with_limit(
    max_tokens: int | None, _run_id: str, causes: Mapping[int, Cause]
) -> dict[int, resending.Edit]:
    """Return what gives truncated answers more tokens."""
    if max_tokens is None:
        return {}
    edit = partial(with_max_tokens, limit=max_tokens)
    return {i: edit for i, cause in causes.items() if cause is Cause.TRUNCATED}


def resume_turns(run_id: str, engine: Engine) -> int:
    """Plan requests whose turn the model paused once more, each with what it said so far.

    Returns
    -------
    int
        How many there are.

    Raises
    ------
    InputError
        When one of the runs that hold its answers cannot be asked.
    LedgerError
        When the request bodies are gone from this disk.
    """
    seen: list[Result] = []

    def is_paused(result: Result, _: Origin) -> bool:
        if cause_of(result) is Cause.UNFINISHED:
            seen.append(result)
        return cause_of(result) is Cause.UNFINISHED

    def turns(other: str, causes: Mapping[int, Cause]) -> dict[int, resending.Edit]:
        contents = contents_of(engine, other, causes)
        return {i: partial(with_turn, content=content) for i, content in contents.items()}

    with locks.held(engine.store.home / locks.PLANNING):
        _ask_again(run_id, engine, is_paused, turns)
    return len(seen)


def retry_passing(record: RunRecord, engine: Engine) -> bool | None:
    """Plan what failed for a cause that passes by itself once more; tell whether there was any.

    Only requests that the run sent itself, each at most `max_attempts` times in all, and none of
    a run that is being canceled. None while somebody else plans: whoever plans may be waiting for
    this very run, so it is not waited for.
    """
    shards = engine.store.shards(record.id)
    if not will_retry(record, shards) or not _has_passing(record, engine, shards):
        return False
    lock = locks.Lock(engine.store.home / locks.PLANNING)
    if not lock.acquire():
        return None
    try:
        return _retry_passing(engine.store.run(record.id), engine)
    finally:
        lock.release()


def _retry_passing(record: RunRecord, engine: Engine) -> bool:
    if not will_retry(record, engine.store.shards(record.id)):
        return False  # canceled in the meantime

    def is_wanted(result: Result, origin: Origin) -> bool:
        is_early = origin.run_id == record.id and origin.attempts < record.max_attempts
        return is_early and cause_of(result) is Cause.PASSING

    return _ask_again(record.id, engine, is_wanted, by_itself=True)


def _has_passing(record: RunRecord, engine: Engine, shards: Sequence[Shard]) -> bool:
    """Tell whether a request of some shards failed for a cause that passes by itself."""
    gatherer = engine.gatherer()
    output = gatherer.reader.output(record)
    return any(
        cause_of(result) is Cause.PASSING
        for shard in shards
        if shard.state is ShardState.COLLECTED
        if shard.counts is None or will_retry(record, [shard])
        for result in gatherer.part(record, shard, output).stock.others.values()
    )


def will_retry(record: RunRecord, shards: Iterable[Shard]) -> bool:
    """Tell whether requests of some shards may yet go out again by themselves.

    By what the API counted: no result is read for it.
    """
    is_over = record.cancel or record.state is RunState.ENDED
    if is_over or record.attached or not record.keep_requests:
        return False
    counts = [shard.counts for shard in shards]
    return any(told is not None and told.errored + told.expired for told in counts)


def _ask_again(
    run_id: str,
    engine: Engine,
    is_wanted: Wanted,
    edits_of: EditsOf = lambda *_: {},
    *,
    by_itself: bool = False,
) -> bool:
    """Plan what is wanted; the caller holds the planner's lock, so nobody else does, too."""
    store = engine.store
    again = _find(run_id, engine, is_wanted)
    for other in (run_id, *again):
        resending.check_retry(store.run(other))
    made: list[Shard] = []
    for other, causes in again.items():
        edits = edits_of(other, causes)
        shards = store.shards(other)
        latest = max((twin.attempt for twin in store.twins(other)), default=0)
        made += resending.retry_shards(
            engine.spool, store.run(other), shards, causes, LARGEST_DEFAULT, edits, latest
        )
    if not store.add_shards(made, by_itself=by_itself):  # all or none
        for other in () if by_itself else again:
            resending.check_retry(store.run(other))  # says which is being canceled
        return False
    if again and not by_itself:
        store.reopen(run_id)
    return bool(again)


def _find(run_id: str, engine: Engine, is_wanted: Wanted) -> dict[str, dict[int, Cause]]:
    """Return the ordinals to ask again and why, by the run that sent them."""
    record, reader = engine.store.run(run_id), engine.reader()
    runs = (record.id, *record.sources)
    references = reader.map(record.id).references.tolist()
    results, origins, _ = reader.of_requests(record)
    again: dict[str, dict[int, Cause]] = {}
    for (source, ordinal), result, origin in zip(references, results, origins, strict=True):
        if is_wanted(result, origin):
            again.setdefault(runs[source], {})[ordinal] = cause_of(result)
    return again
