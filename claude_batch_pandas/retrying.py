"""Rows that failed -> shards that ask them again, in whichever runs sent them first."""

from __future__ import annotations

from claude_batch_pandas import locks, resending
from claude_batch_pandas.answers import needs_retry
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.records import Shard
from claude_batch_pandas.sharding import LARGEST_DEFAULT


def retry(run_id: str, engine: Engine) -> bool:
    """Plan what errored, expired or was canceled once more; return whether there was any.

    Raises
    ------
    InputError
        When one of the runs that hold its answers cannot be asked.
    LedgerError
        When the request bodies are gone from this disk.
    """
    store = engine.store
    # Under the planner's lock, so that two kernels never send the same rows again at once.
    with locks.held(store.home / locks.PLANNING):
        again = _failed(run_id, engine)
        for other in (run_id, *again):
            resending.check_retry(store.run(other))
        made: list[Shard] = []
        for other, ordinals in again.items():
            shards = store.shards(other)
            made += resending.retry_shards(
                engine.spool, store.run(other), shards, ordinals, LARGEST_DEFAULT
            )
        store.add_shards(made)  # all or none
        if again:
            store.reopen(run_id)
    return bool(again)


def _failed(run_id: str, engine: Engine) -> dict[str, list[int]]:
    """Return the ordinals to ask again, by the run that sent them."""
    record, reader = engine.store.run(run_id), engine.reader()
    runs = (record.id, *record.sources)
    references = reader.map(record.id).references.tolist()
    results = reader.of_requests(record).results
    again: dict[str, list[int]] = {}
    for (source, ordinal), result in zip(references, results, strict=True):
        if needs_retry(result):
            again.setdefault(runs[source], []).append(ordinal)
    return again
