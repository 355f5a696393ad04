"""The server's copy of a run, deleted once ours is known to be whole."""

from __future__ import annotations

from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import APIError, InputError
from claude_batch_pandas.patience import patiently
from claude_batch_pandas.records import RunRecord, RunState, Shard, ShardState
from claude_batch_pandas.scopes import check_origin
from claude_batch_pandas.spool import file_sha256

GONE = 404


def delete_batches(record: RunRecord, engine: Engine) -> None:
    """Delete the batches of a run from the server.

    Raises
    ------
    InputError
        When a result of them is not on this disk, or they were not sent from here.
    APIError, LedgerError
    """
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
    for shard in shards:
        _refuse_incomplete(shard, engine)
    twins = [twin for twin in engine.store.twins(record.id) if twin.settled]
    check_origin(record, engine)
    for batch_id in [*(shard.batch_id for shard in shards), *(twin.batch_id for twin in twins)]:
        if batch_id is not None:
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


def _delete(batch_id: str, engine: Engine) -> None:
    try:
        patiently(engine, lambda: engine.client.delete(batch_id), {GONE})
    except APIError as error:
        if error.status != GONE:  # somebody deleted it before
            raise
