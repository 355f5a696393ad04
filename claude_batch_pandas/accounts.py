"""What a run came to: its results and its dollars, gathered for the closing line and the report."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from claude_batch_pandas import estimates, money, report, weights
from claude_batch_pandas.answers import sent_by
from claude_batch_pandas.causes import Cause, cause_of
from claude_batch_pandas.columns import NO_CODES, NOTHING, Columns, count_statuses, placed
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.estimates import Estimate, Outlook, Rate
from claude_batch_pandas.exceptions import LedgerError
from claude_batch_pandas.planning import OUTLOOK
from claude_batch_pandas.records import LOST, RowStatus, RunRecord, Shard, ShardState
from claude_batch_pandas.results import Result
from claude_batch_pandas.spool import read_sealed


def closing_line(record: RunRecord, engine: Engine, is_rerun: bool) -> tuple[str, Columns]:
    """Return the line that ends a run, and the results of its rows, which were read for it.

    Parameters
    ----------
    record : RunRecord
    engine : Engine
    is_rerun : bool
        Whether the run had ended before this call, which therefore cost nothing.
    """
    rows, bill = engine.gatherer().rows(record)
    elapsed = (record.ended_at or record.created_at) - record.created_at
    line = report.closing_line(
        record,
        rows.statuses,
        bill,
        elapsed,
        is_rerun=is_rerun,
        unpaid=[result.error or "" for result in rows.failed(_is_unpaid)],
        lost=sum(shard.shape == LOST for shard in engine.store.shards(record.id)),
        twice=twice(record, engine),
    )
    return line, rows


def mark_of(record: RunRecord, engine: Engine) -> tuple[object, ...]:
    """Return what changes whenever the closing line, or the result of a row, may."""
    shards = [
        (shard.run_id, shard.number, shard.state, shard.results_sha256)
        for run_id in (record.id, *record.sources)
        for shard in engine.store.shards(run_id)
    ]
    states = [engine.store.run(run_id).state for run_id in record.sources]
    return record.ended_at, *shards, *states, *engine.store.twins(record.id)


def make_report(record: RunRecord, engine: Engine) -> report.Report:
    """Return counts by status, the distinct errors, tokens and dollars of a run."""
    reader = engine.reader()
    answers = reader.of_requests(record)
    rows = reader.of_rows(record, answers).results
    return report.make_report(record, rows, sent_by(answers, record), twice(record, engine))


class Tally:
    """What the requests of a running run came to so far; each shard is read once.

    Parameters
    ----------
    run_id : str
    engine : Engine
    """

    def __init__(self, run_id: str, engine: Engine) -> None:
        self._run_id, self._engine = run_id, engine
        self._seen: set[int] = set()
        self._codes = NO_CODES  # of each request's status; the latest attempt counts
        self._bill = NOTHING
        self._taking = threading.Lock()  # two cards may show one run

    def take(self) -> tuple[dict[str, int], money.Bill]:
        """Return requests by status and what they cost, of all shards that are here by now."""
        store = self._engine.store
        record = store.run(self._run_id)
        with self._taking:
            for shard in store.shards(self._run_id):
                if shard.state is ShardState.COLLECTED and shard.number not in self._seen:
                    self._add(record, shard)
                    self._seen.add(shard.number)
            counts, bill = count_statuses(self._codes), self._bill
        return {str(status): count for status, count in counts.items()}, bill

    def _add(self, record: RunRecord, shard: Shard) -> None:
        gatherer = self._engine.gatherer()
        part = gatherer.part(record, shard, gatherer.reader.output(record))
        self._codes = placed(self._codes, part)
        self._bill = self._bill.plus(part.stock.bill)


def own(record: RunRecord, engine: Engine) -> list[Result]:
    """Return the results of the requests that a run sent itself, of every attempt."""
    return sent_by(engine.reader().of_requests(record), record)


def twice(record: RunRecord, engine: Engine) -> money.Bill | None:
    """Return what batches of a run cost that were accepted though they had been given up."""
    found = [twin for twin in engine.store.twins(record.id) if twin.batch_id is not None]
    if not found:
        return None
    dollars = sum((twin.dollars for twin in found), Decimal(0))
    return money.Bill(dollars, sum(twin.unpriced for twin in found))


def timeline(record: RunRecord, engine: Engine) -> list[dict[str, Any]]:
    """Return when each shard was asked for, and when its results were here, in seconds since 1970."""
    shards = [
        (shard, engine.spool.results(shard.run_id, shard.number))
        for shard in engine.store.shards(record.id)
    ]
    return [
        {
            "shard": shard.number,
            "rows": shard.total,
            "began": shard.created_at or shard.intended_at or record.created_at,
            "here": path.stat().st_mtime,
        }
        for shard, path in shards
        if shard.state is ShardState.COLLECTED and path.exists()
    ]


def foreseen(record: RunRecord, engine: Engine) -> Estimate | None:
    """Return what was estimated of a run before it was sent; None when that is lost."""
    path = engine.spool.folder(record.id) / OUTLOOK
    try:
        outlook = estimates.load(read_sealed(path))
    except LedgerError:  # such as of a run of an older version; `verify` tells of damage
        return None
    return estimate_of(record, engine.store.shards(record.id), outlook)


def estimate_of(record: RunRecord, shards: Sequence[Shard], outlook: Outlook) -> Estimate:
    """Return what the first attempts of a run's requests would cost, by their bytes."""
    first = [shard for shard in shards[: outlook.shards] if shard.load]
    own = sum(shard.total for shard in first)
    return estimates.estimate(
        weights.together(weights.load(shard.load) for shard in first),
        Rate(),
        outlook,
        rows=record.rows,
        requests=record.requests,
        answered=record.requests - own,
        shards=sum(not shard.live for shard in first),
    )


def _is_unpaid(result: Result) -> bool:
    """Tell whether a request failed for credit or a spend limit."""
    return result.status is RowStatus.ERRORED and cause_of(result) is Cause.UNPAID
