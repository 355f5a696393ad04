"""What there is: the runs of this ledger, its damage, and the batches on the server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from claude_batch_pandas import chunked, deadlines, frames, session, verifying
from claude_batch_pandas.collecting import COUNTED
from claude_batch_pandas.datafiles import read_chunks
from claude_batch_pandas.indexes import names_of
from claude_batch_pandas.joining import saved_index
from claude_batch_pandas.raws import raw_lines
from claude_batch_pandas.records import RunRecord, RunState, Shard
from claude_batch_pandas.session import build_engine, ledger_home
from claude_batch_pandas.store import Store
from claude_batch_pandas.tracebacks import warn

if TYPE_CHECKING:
    import anthropic
    import pandas as pd

    from claude_batch_pandas.handles import Run

LISTED = {
    "id": "text",
    "name": "text",
    "state": "text",
    "rows": "count",
    "shards": "count",
    "created": "time",
    "expires": "time",
}
BATCHES = {
    "batch": "text",
    "state": "text",
    "requests": "count",
    **dict.fromkeys(COUNTED, "count"),
    "created": "time",
    "run": "text",
}


def runs() -> pd.DataFrame:
    """Return every run in this ledger, newest first.

    Returns
    -------
    pandas.DataFrame
        ``id``, ``name``, ``state``, ``rows``, ``shards``, ``created`` and ``expires`` (UTC; the
        latter missing when nothing is open).
    """
    store = Store(ledger_home())
    rows = []
    for record in store.runs():
        shards = store.shards(record.id)
        warn_of_deadline(record, shards)
        ends = [shard.expires_at for shard in shards if shard.is_open and shard.expires_at]
        rows.append(
            {
                "id": record.id,
                "name": record.name,
                "state": str(record.state),
                "rows": record.rows,
                "shards": len(shards),
                "created": record.created_at,
                "expires": min(ends, default=None),
            }
        )
    return frames.table(rows, LISTED)


def batches(limit: int | None = None, *, client: anthropic.Anthropic | None = None) -> pd.DataFrame:
    """Return the batches of the key's workspace on the server, newest first.

    Parameters
    ----------
    limit : int, optional
        How many at most. Default: all that the server keeps.
    client : anthropic.Anthropic, optional

    Returns
    -------
    pandas.DataFrame
        ``batch``, ``state``, ``requests`` and those that ``succeeded``, ``errored``, were
        ``canceled`` or ``expired`` (Int64), ``created`` (UTC), and ``run`` (of this ledger, missing
        for batches that were made elsewhere).

    Raises
    ------
    CredentialsError, APIError
    """
    engine = build_engine(client)
    found = list(islice(engine.client.history(0.0), limit))
    rows = [
        {
            "batch": batch.id,
            "state": batch.processing_status,
            "requests": batch.counts.total,
            **{name: getattr(batch.counts, name) for name in COUNTED},
            "created": batch.created_at,
            "run": engine.store.owner(batch.id),
        }
        for batch in found
    ]
    return frames.table(rows, BATCHES)


def tables(run: Run, source: Path | None, statuses: Counter[str]) -> Iterator[pd.DataFrame]:
    """Yield the answers of a run as they are here, as frames one below the other.

    Parameters
    ----------
    run : Run
    source : Path, optional
        A file of rows, beside which the answers stand. Default: the index that was sent.
    statuses : Counter of str
        How many rows have which; filled while frames are taken.

    Raises
    ------
    InputError, LedgerError
        When the run's answers are gone, or it cannot be joined to the rows.
    ChangedFrameError
        After the last frame, when no row asks what the run did.
    """
    if run.progress.state is RunState.PURGED:
        yield run.columns()
        return
    engine = build_engine(None)
    record = engine.store.run(run.id)
    *_, status, _ = engine.reader().output(record).columns
    rows = chunked.rows_at_once(record, engine)
    if source is None:
        found = chunked.answered(record, engine, rows)
    else:
        found = chunked.joined(record, engine, read_chunks(source, rows))
    for table in found:
        statuses.update(table[status].tolist())
        yield table


def result_lines(run_id: str) -> tuple[Iterator[bytes], int]:
    r"""Return the results of a run that are here as the API gave them, and how many there will be.

    JSON lines with their ``\n``. Where the rows have custom_ids of their own, as those of a file of
    requests, there is a line for each of them, under that.

    Raises
    ------
    RunNotFoundError
    """
    engine = build_engine(None)
    record = engine.store.run(run_id)
    if record.attached or record.state is RunState.PURGED:
        return raw_lines(record, engine), record.requests
    names = names_of(saved_index(record, engine))
    rows = engine.reader().map(record.id).rows
    if names is None or len(names) != len(rows):  # with votes, a row has several
        return raw_lines(record, engine), record.requests
    return raw_lines(record, engine, names), int((rows >= 0).sum())


def verify() -> pd.DataFrame:
    """Check every file of this ledger against its hash; nothing is changed.

    Returns
    -------
    pandas.DataFrame
        What is damaged or missing: ``run``, ``file`` and ``problem`` (string). Empty when all is
        well.
    """
    problems = [problem._asdict() for problem in verifying.verify(ledger_home())]
    return frames.table(problems, dict.fromkeys(verifying.Problem._fields, "text"))


def warn_of_deadline(record: RunRecord, shards: Sequence[Shard]) -> None:
    """Warn of results that the API will delete soon; by this machine's clock, nobody is asked."""
    if words := deadlines.warning(record.id, shards, session.clock.now()):
        warn(words)
