"""What a run came to: its results and its dollars, gathered for the closing line and the report."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from claude_batch_pandas import money, report
from claude_batch_pandas.answers import Answers
from claude_batch_pandas.causes import Cause, cause_of
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.records import LOST, RowStatus, RunRecord, Twin
from claude_batch_pandas.results import Result


def closing_line(record: RunRecord, engine: Engine, is_rerun: bool) -> tuple[str, Answers]:
    """Return the line that ends a run, and the answers of its rows, which were read for it.

    Parameters
    ----------
    record : RunRecord
    engine : Engine
    is_rerun : bool
        Whether the run had ended before this call, which therefore cost nothing.
    """
    reader = engine.reader()
    answers = reader.of_requests(record)
    rows = reader.of_rows(record, answers)
    elapsed = (record.ended_at or record.created_at) - record.created_at
    line = report.closing_line(
        record,
        [result.status for result in rows.results],
        money.bill(_sent_by(answers, record)),
        elapsed,
        is_rerun=is_rerun,
        unpaid=_unpaid(rows.results),
        lost=sum(shard.shape == LOST for shard in engine.store.shards(record.id)),
        twice=_twice(engine.store.twins(record.id)),
    )
    return line, rows


def make_report(record: RunRecord, engine: Engine) -> report.Report:
    """Return counts by status, the distinct errors, tokens and dollars of a run."""
    reader = engine.reader()
    answers = reader.of_requests(record)
    rows = reader.of_rows(record, answers).results
    twice = _twice(engine.store.twins(record.id))
    return report.make_report(record, rows, _sent_by(answers, record), twice)


def _sent_by(answers: Answers, record: RunRecord) -> list[Result]:
    """Return the results of the requests that a run sent itself, of every attempt."""
    if not record.sources:
        return [*answers.results, *answers.replaced]
    both = zip(answers.results, answers.origins, strict=True)
    own = [result for result, origin in both if origin.run_id == record.id]
    return [*own, *answers.replaced]


def _unpaid(results: Sequence[Result]) -> list[str]:
    """Return the errors of rows that failed for credit or a spend limit."""
    return [
        result.error or ""
        for result in results
        if result.status is RowStatus.ERRORED and cause_of(result) is Cause.UNPAID
    ]


def _twice(twins: Sequence[Twin]) -> money.Bill | None:
    """Return what batches cost that were accepted though they had been given up."""
    found = [twin for twin in twins if twin.batch_id is not None]
    if not found:
        return None
    dollars = sum((twin.dollars for twin in found), Decimal(0))
    return money.Bill(dollars, sum(twin.unpriced for twin in found))
