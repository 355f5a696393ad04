"""Shards that go out again: the same requests under the custom_ids of another attempt."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from claude_batch_pandas import catalog, weights
from claude_batch_pandas.exceptions import InputError, LedgerError
from claude_batch_pandas.records import RunRecord, RunState, Shard
from claude_batch_pandas.requests import ID_HEAD, MAX_ATTEMPTS, with_attempt
from claude_batch_pandas.sharding import BODY_HEAD, BODY_JOIN, BODY_TAIL, fits
from claude_batch_pandas.spool import Body, Spool, Writing, file_sha256, read_lines
from claude_batch_pandas.store import Store
from claude_batch_pandas.weights import Scale

Edit = Callable[[bytes], bytes]


def checked_body(spool: Spool, shard: Shard) -> Body:
    """Return the body of a shard, after checking that it is still what was planned.

    Raises
    ------
    LedgerError
    """
    path = spool.body(shard.run_id, shard.number)
    body = Body(path)
    if body.size != shard.size or file_sha256(path) != shard.sha256:
        msg = (
            f"The request body {path} is not what was planned (its hash differs), so it is not "
            "sent. Restore the file, or run the cell again with reuse=False."
        )
        raise LedgerError(msg)
    return body


def only_line(spool: Spool, shard: Shard) -> bytes:
    """Return the request line of a shard that has one.

    Raises
    ------
    LedgerError
        When its body is not what was planned.
    """
    checked_body(spool, shard)
    (line,) = requests_in(spool, shard)
    return line


def is_whole(spool: Spool, record: RunRecord, shard: Shard) -> bool:
    """Tell whether the body of a shard holds the requests that were planned.

    A body that was written as the next attempt, just before its planner died, does too.
    """
    path = spool.body(shard.run_id, shard.number)
    if not path.exists():
        return False
    found = file_sha256(path)
    if found == shard.sha256:
        return True
    this, following = (
        _sha256_as(spool, record, shard, attempt) for attempt in (shard.attempt, shard.attempt + 1)
    )
    return found == following and this == shard.sha256


def _sha256_as(spool: Spool, record: RunRecord, shard: Shard, attempt: int) -> str:
    """Return the hash of a shard's body as another attempt."""
    whole = hashlib.sha256()
    for block in _body(
        with_attempt(line, record.nonce, attempt) for line in requests_in(spool, shard)
    ):
        whole.update(block)
    return whole.hexdigest()


def _refuse_changed(spool: Spool, record: RunRecord, shard: Shard) -> None:
    if not is_whole(spool, record, shard):
        msg = (
            f"The request body {spool.body(shard.run_id, shard.number)} is gone or is not what was "
            "planned, so it cannot be sent again. Restore the file, or run the cell with "
            "reuse=False to ask anew."
        )
        raise LedgerError(msg)


def replan(spool: Spool, store: Store, record: RunRecord, shard: Shard) -> None:
    """Plan a shard as its next attempt: nothing came of this one.

    The new attempt's custom_ids differ, so that a late twin of the old one can be told apart.
    """
    _refuse_changed(spool, record, shard)
    attempt = _next_attempt(shard.attempt)
    path = spool.body(shard.run_id, shard.number)
    # The old body stays until the new one is whole; the ledger says which hash is the true one.
    with Writing(path) as file:
        _write_body(
            file, (with_attempt(line, record.nonce, attempt) for line in requests_in(spool, shard))
        )
        store.mark_replanned(shard, file.keep())


def check_retry(record: RunRecord) -> None:
    """Refuse to ask again what is not on this disk, or to undo a cancel that is not through.

    Raises
    ------
    InputError
    """
    if record.attached:
        msg = (
            f"Run {record.id} is an attached batch, whose requests are not on this disk. Run the "
            "cell that asked them again: what has no answer is sent."
        )
        raise InputError(msg)
    if not record.keep_requests:
        msg = (
            f"Run {record.id} was made with keep_requests=False, so its requests are not on this "
            "disk. Ask the rows that failed anew: a frame of them alone, with reuse=False."
        )
        raise InputError(msg)
    if record.state is RunState.PURGED:
        msg = (
            f"Run {record.id}, which holds answers of this one, was purged. Run the cell again: "
            "it asks those anew, and its run can be retried."
        )
        raise InputError(msg)
    if record.cancel and record.state is not RunState.ENDED:
        msg = (
            f"Run {record.id} is being canceled; wait for its end, then retry: "
            f"claude_batch_pandas.run({record.id!r}).wait()"
        )
        raise InputError(msg)


def retry_shards(
    spool: Spool,
    record: RunRecord,
    shards: Sequence[Shard],
    ordinals: Iterable[int],
    quota: int,
    edits: Mapping[int, Edit] = MappingProxyType({}),
    latest: int = 0,
) -> list[Shard]:
    """Write new shards of a run that ask some of its requests again.

    Parameters
    ----------
    spool : Spool
    record : RunRecord
        Of the run that sent them first.
    shards : sequence of Shard
        All shards of that run.
    ordinals : iterable of int
        Which of its own requests.
    quota : int
        Requests a shard may have.
    edits : mapping of int to callable
        By ordinal, what makes of a request line the one that is asked this time.
    latest : int
        The latest attempt that any submission of the run was, one of a twin perhaps.

    Raises
    ------
    InputError
        When a limit is not more than it was.
    LedgerError
        When the request bodies are gone.
    """
    attempt = _next_attempt(max(latest, *(shard.attempt for shard in shards)))
    made: list[Shard] = []
    lines = latest_lines(spool, record, shards, frozenset(ordinals))
    for ordinal, edit in edits.items():
        lines[ordinal] = edit(lines[ordinal])
    pending: list[tuple[int, bytes]] = []
    size = len(BODY_HEAD)
    for ordinal, line in sorted(lines.items()):
        again = with_attempt(line, record.nonce, attempt)
        if pending and (len(pending) == quota or not fits(size, len(again), is_first=False)):
            made.append(
                _write_shard(spool, record, len(shards) + len(made), attempt, shards[0], pending)
            )
            pending, size = [], len(BODY_HEAD)
        pending.append((ordinal, again))
        size += len(again) + len(BODY_JOIN)
    if pending:
        made.append(
            _write_shard(spool, record, len(shards) + len(made), attempt, shards[0], pending)
        )
    return made


def _next_attempt(attempt: int) -> int:
    if attempt >= MAX_ATTEMPTS:
        msg = f"These requests were planned {attempt} times; run the cell with reuse=False instead."
        raise InputError(msg)
    return attempt + 1


def requests_in(spool: Spool, shard: Shard) -> Iterator[bytes]:
    """Yield the request lines of a body, without what joins them."""
    for line in read_lines(spool.body(shard.run_id, shard.number)):
        if line.startswith(ID_HEAD):
            yield line.removesuffix(b",")


def latest_lines(
    spool: Spool, record: RunRecord, shards: Sequence[Shard], wanted: frozenset[int]
) -> dict[int, bytes]:
    """Return some of a run's own requests by ordinal, as they were last planned.

    Raises
    ------
    LedgerError
        When the request bodies are gone.
    """
    lines: dict[int, bytes] = {}
    for shard in shards:
        folder = spool.folder(shard.run_id)
        ordinals = catalog.load_ordinals(folder, shard.number)
        if wanted.isdisjoint(ordinals):
            continue
        _refuse_changed(spool, record, shard)
        both = zip(ordinals, requests_in(spool, shard), strict=True)
        lines.update({ordinal: line for ordinal, line in both if ordinal in wanted})
    return lines


def _write_shard(
    spool: Spool,
    record: RunRecord,
    number: int,
    attempt: int,
    like: Shard,
    requests: Sequence[tuple[int, bytes]],
) -> Shard:
    catalog.save_ordinals(spool.folder(record.id), number, [ordinal for ordinal, _ in requests])
    scale = Scale({})  # of an edited request, the limits may differ
    scale.add([line for _, line in requests])
    with Writing(spool.body(record.id, number)) as file:
        _write_body(file, (line for _, line in requests))
        return Shard(
            run_id=record.id,
            number=number,
            attempt=attempt,
            total=len(requests),
            size=file.size,
            sha256=file.keep(),
            betas=like.betas,
            load=weights.dump(scale.loads),
        )


def _write_body(file: Writing, lines: Iterable[bytes]) -> None:
    for block in _body(lines):
        file.write(block)


def _body(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a body of some requests in blocks."""
    yield BODY_HEAD
    block: list[bytes] = []
    is_start = True
    for line in lines:
        block.append(line if is_start else BODY_JOIN + line)
        is_start = False
        if len(block) == 512:  # noqa: PLR2004 - a few hundred kilobytes at a time
            yield b"".join(block)
            block.clear()
    yield b"".join(block) + BODY_TAIL
