"""Words about a run: the closing line, the report, the preview."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from claude_batch_pandas.money import Bill
from claude_batch_pandas.records import RowStatus, RunRecord, Scope
from claude_batch_pandas.report import Preview, closing_line, make_report, tell_statuses
from claude_batch_pandas.results import Result
from tests.strategies import read_one, succeeded, usage

RECORD = RunRecord(
    id="20261120-intent-x7k2",
    name="intent",
    key="k",
    scope=Scope("https://api.example", "org", "ws"),
    nonce="0" * 16,
    model="claude-haiku-5-5",
    output="intent",
    rows=4,
    requests=3,
    created_at=1_000.0,
)
GOOD = read_one(
    succeeded(
        "hi",
        usage=usage(
            input_tokens=1_000_000,
            output_tokens=7,
            cache_read_input_tokens=11,
            cache_creation_input_tokens=13,
            output_tokens_details={"thinking_tokens": 5},
        ),
    )
)
BAD = Result(RowStatus.ERRORED, error="overloaded_error: Overloaded")


def test_closing_line_is_the_documented_one() -> None:
    """The line that ends every run: rows by status, dollars, time, run."""
    statuses = {RowStatus.ERRORED: 4, RowStatus.REFUSED: 6, RowStatus.SUCCEEDED: 990}
    line = closing_line(RECORD, statuses, Bill(Decimal("0.12"), 0), 840.0)

    assert line == "990 succeeded, 6 refused, 4 errored; $0.12; 14 min; run 20261120-intent-x7k2"


def test_a_rerun_does_not_look_paid_again() -> None:
    """The dollars of a run that had ended before were spent then, and the line says so."""
    line = closing_line(RECORD, {RowStatus.SUCCEEDED: 1}, Bill(Decimal(1), 0), 5.0, is_rerun=True)

    assert line.endswith("; $1.00; 5 s; run 20261120-intent-x7k2 (ended before; nothing was sent)")


@given(st.lists(st.sampled_from(list(RowStatus))))
@settings(deadline=None, max_examples=50)
def test_statuses_are_counted_once_each(statuses: list[RowStatus]) -> None:
    """Every row is counted under its status, and no status is told that no row has."""
    told = tell_statuses(Counter(statuses))
    parts = [part.split(" ") for part in told.split(", ")]

    assert {name: int(count) for count, name in parts} == (
        {str(status): statuses.count(status) for status in statuses} or {"rows": 0}
    )


def test_large_counts_have_separators() -> None:
    """A million reads as 1,000,000."""
    assert tell_statuses({RowStatus.SKIPPED: 1_234}) == "1,234 skipped"


def test_report_counts_rows_and_own_tokens() -> None:
    """Rows are counted by status and error, tokens and dollars over the run's own requests."""
    report = make_report(RECORD, [BAD, GOOD, GOOD, BAD], [GOOD, BAD])

    assert report.run_id == RECORD.id
    assert report.statuses == {"succeeded": 2, "errored": 2}
    assert report.errors == {"overloaded_error: Overloaded": (2, 0)}
    assert report.stop_reasons == {"end_turn": 2}
    assert report.tokens["input_tokens"] == 1_000_000
    assert report.tokens["output_tokens"] == 7
    assert report.tokens["thinking_tokens"] == 5
    assert report.tokens["cache_read_input_tokens"] == 11
    assert report.bill.unpriced == 0


def test_report_tells_every_kind_of_paid_token() -> None:
    """Tokens written to a cache are paid, so the report tells them as well."""
    report = make_report(RECORD, [GOOD], [GOOD])

    assert 13 in report.tokens.values()


def test_most_frequent_error_comes_first() -> None:
    """Errors are told by how many rows have them, with the first row's position."""
    rare = Result(RowStatus.EXPIRED, error="expired")
    report = make_report(RECORD, [rare, GOOD, BAD, BAD], [])

    assert list(report.errors.items()) == [
        ("overloaded_error: Overloaded", (2, 2)),
        ("expired", (1, 0)),
    ]


def test_report_reads_as_a_page() -> None:
    """Printing a report shows its numbers and why rows failed."""
    report = make_report(RECORD, [GOOD, BAD], [GOOD])
    lines = str(report).splitlines()

    assert repr(report) == str(report)
    assert lines[0] == "run 20261120-intent-x7k2"
    assert "          1 succeeded" in lines
    assert "  1,000,000 input_tokens" in lines
    assert "  cost: $0.25" in lines
    assert lines[-1] == "          1 x overloaded_error: Overloaded (first at position 1)"


def test_report_shows_at_most_ten_errors() -> None:
    """A long list of errors is cut; all of them stay in the report."""
    rows = [Result(RowStatus.ERRORED, error=f"error {i}") for i in range(30)]
    report = make_report(RECORD, rows, [])

    assert len(report.errors) == 30
    assert str(report).count("first at position") == 10


def test_report_without_errors_has_no_such_part() -> None:
    """Nothing is said of errors when there are none."""
    assert "why rows" not in str(make_report(RECORD, [GOOD], [GOOD]))


def test_preview_shows_the_requests() -> None:
    """A preview shows the first requests as they would go out, and what would not."""
    preview = Preview([{"model": "m", "messages": "é {x}"}], 1_200, ["row 1: skipped"])

    assert len(preview) == 1
    assert repr(preview).startswith("The first request of 1,200 rows; nothing was sent.\n")
    assert '"messages": "é {x}"' in repr(preview)
    assert repr(preview).endswith("row 1: skipped")
