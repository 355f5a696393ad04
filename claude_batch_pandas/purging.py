"""A run's prompts and answers, deleted: from this disk, and from the server once ours are whole."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from claude_batch_pandas import locks
from claude_batch_pandas.caps import Cap
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import NOT_FOUND, APIError, InputError, LedgerError
from claude_batch_pandas.patience import patiently
from claude_batch_pandas.records import RunRecord, RunState, Shard, ShardState, Twin
from claude_batch_pandas.reserving import Reserver
from claude_batch_pandas.scopes import check_origin
from claude_batch_pandas.spool import file_sha256

LONGEST_SECONDS = 2 * 86_400.0  # after which a batch has ended, whatever became of it


def purge(run_id: str, engine: Engine, *, server: bool) -> None:
    """Delete what is kept of a run.

    Raises
    ------
    InputError
        When something of it would be lost.
    APIError
        When the server refuses; what is on this disk stays.
    LedgerError
        When the disk refuses.
    """
    folder = engine.spool.folder(run_id)
    # So that nobody plans to ask any of it again meanwhile, or to take answers from it.
    with locks.held(engine.store.home / locks.PLANNING):
        record = engine.store.run(run_id)
        if folder.is_dir() and record.state not in {RunState.ENDED, RunState.PURGED}:
            msg = f"Run {run_id} is {record.state}; cancel it and collect it before purging it."
            raise InputError(msg)
        for twin in engine.store.twins(run_id) if folder.is_dir() else ():
            _refuse_open(twin, engine.clock.now())
        if server:
            _delete_batches(record, engine)
        if folder.is_dir():  # what it did cost is known only as long as its answers are here
            now = engine.clock.now()
            Reserver(engine).settle(run_id, Cap(None, now))
        engine.store.purge(run_id)
        _delete_folder(folder)


def _delete_folder(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        msg = (
            f"The folder {folder} could not be deleted whole ({error.strerror or error}), and what "
            "is left of it holds prompts or answers. Close what uses it, then purge again."
        )
        raise LedgerError(msg) from error


def _delete_batches(record: RunRecord, engine: Engine) -> None:
    if record.state is RunState.PURGED:
        msg = f"Run {record.id} was purged already, and its batches are not known any more."
        raise InputError(msg)
    if record.attached:
        msg = (
            f"The batch of run {record.id} was not sent from here, so it is not deleted here. "
            "Purge without server=True, or delete it in the Console."
        )
        raise InputError(msg)
    shards = [shard for shard in engine.store.shards(record.id) if shard.batch_id is not None]
    twins = [twin for twin in engine.store.twins(record.id) if twin.batch_id is not None]
    for shard in shards:
        _refuse_incomplete(shard, engine)
    sent: list[Shard | Twin] = [*shards, *twins]
    batch_ids = [batch.batch_id for batch in sent if batch.batch_id is not None]
    _refuse_fences(batch_ids, engine)
    check_origin(record, engine)
    for batch_id in batch_ids:
        _delete(batch_id, engine)


def _refuse_incomplete(shard: Shard, engine: Engine) -> None:
    """Refuse to delete what is not here: results that were never verified, or changed since."""
    path = engine.spool.results(shard.run_id, shard.number)
    is_kept = shard.state is ShardState.COLLECTED and shard.complete and path.exists()
    if not is_kept or file_sha256(path) != shard.results_sha256:
        msg = (
            f"Results of batch {shard.batch_id} of run {shard.run_id} are not whole on this disk, "
            "so the server's copy stays. Purge without server=True to delete only what is here."
        )
        raise InputError(msg)


def _refuse_open(twin: Twin, now: float) -> None:
    """Refuse to forget a batch that may still run, and be paid for."""
    may_run = now - (twin.intended_at or now) < LONGEST_SECONDS
    if twin.batch_id is not None and not twin.settled and may_run:
        msg = (
            f"Batch {twin.batch_id} of run {twin.run_id} was accepted though another took its "
            "place, and is being wound up. Wait for the run once more, then purge it."
        )
        raise InputError(msg)


def _refuse_fences(batch_ids: list[str], engine: Engine) -> None:
    """Refuse to delete what marks, in the server's list, where another submission is looked for."""
    needed = engine.store.fences()
    for batch_id in batch_ids:
        if batch_id in needed:
            msg = (
                f"Batch {batch_id} marks the place in the server's list where the submission of "
                f"run {needed[batch_id]} is being looked for. Purge when that has been found."
            )
            raise InputError(msg)


def _delete(batch_id: str, engine: Engine) -> None:
    try:
        patiently(engine, partial(engine.client.delete, batch_id), {NOT_FOUND})
    except APIError as error:
        if not error.is_missing:  # somebody deleted it before
            raise
