"""Whether every file of the ledger is still what was written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from claude_batch_pandas import catalog, resending
from claude_batch_pandas.exceptions import LedgerError
from claude_batch_pandas.records import RunRecord, RunState, Shard, ShardState
from claude_batch_pandas.spool import Spool, file_sha256, read_sealed
from claude_batch_pandas.store import Store

SMALL = ("recipe.json", "reasons.json", "index.parquet", "outlook.json")
PATTERNS = ("*.npy", "*.ids.json", "*.columns", *SMALL)


class Problem(NamedTuple):
    """A file that is not what was written."""

    run: str  # its id; empty for what belongs to no run
    file: str
    problem: str


def verify(home: Path) -> Iterator[Problem]:
    """Yield what is damaged or missing in a ledger.

    Parameters
    ----------
    home : Path
        The ledger's folder.
    """
    try:
        store, spool = Store(home), Spool(home)
        store.check()
        runs = store.runs()
    except LedgerError as error:
        yield Problem("", "ledger.sqlite3", str(error))
        return
    for record in runs:
        if record.state is RunState.PURGED:
            continue
        folder = spool.folder(record.id)
        if not folder.is_dir():
            yield Problem(record.id, folder.name, "the folder is gone")
            continue
        shards = store.shards(record.id)
        needed = {folder / name for name in (*catalog.FILES, catalog.RECIPE)}
        needed |= {catalog.ordinals_path(folder, shard.number) for shard in shards}
        for path in sorted(needed | {file for kind in PATTERNS for file in folder.glob(kind)}):
            yield from _check(record.id, path, is_whole=_is_sealed(path))
        for shard in shards:
            yield from _of_shard(spool, record, shard)


def _is_sealed(path: Path) -> bool:
    try:
        read_sealed(path)
    except LedgerError:
        return False
    return True


def _of_shard(spool: Spool, record: RunRecord, shard: Shard) -> Iterator[Problem]:
    """Yield what is wrong with the requests and results of a shard."""
    is_unsent = shard.state in {ShardState.PLANNED, ShardState.SUBMITTING}
    if not record.attached and (is_unsent or record.keep_requests):
        is_whole = resending.is_whole(spool, record, shard)
        yield from _check(record.id, spool.body(record.id, shard.number), is_whole=is_whole)
    if shard.state is ShardState.COLLECTED:
        path = spool.results(record.id, shard.number)
        is_whole = path.exists() and file_sha256(path) == shard.results_sha256
        yield from _check(record.id, path, is_whole=is_whole)


def _check(run_id: str, path: Path, *, is_whole: bool) -> Iterator[Problem]:
    if not path.exists():
        yield Problem(run_id, path.name, "it is gone")
    elif not is_whole:
        yield Problem(run_id, path.name, "it was changed: its hash differs")
