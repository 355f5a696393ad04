"""Words about a run: the closing line, the report, the preview. Text only; escaping is the widget's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from claude_batch_pandas import money
from claude_batch_pandas.markup import facts_html, requests_html, shown
from claude_batch_pandas.progress import duration
from claude_batch_pandas.records import RowStatus, RunRecord
from claude_batch_pandas.results import Result
from claude_batch_pandas.words import visible

# The order in which statuses are told: what was wanted first, then what needs attention.
TOLD = tuple(RowStatus)
MOST_ERRORS = 10
TWICE = "Accepted twice, for the first answer came too late"
TOKENS = (
    "input_tokens",
    "output_tokens",
    "thinking_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "cache_read_input_tokens",
)
PROMPT = ("input_tokens", *TOKENS[3:])  # the kinds that are not output


def tell_statuses(counts: Mapping[RowStatus, int]) -> str:
    """Return ``990 succeeded, 6 refused, 4 errored``."""
    told = [f"{counts[status]:,} {status}" for status in TOLD if counts.get(status)]
    return ", ".join(told) or "0 rows"


def closing_line(
    record: RunRecord,
    statuses: Mapping[RowStatus, int],
    bill: money.Bill,
    elapsed: float,
    *,
    is_rerun: bool = False,
    unpaid: Sequence[str] = (),
    twice: money.Bill | None = None,
    lost: int = 0,
) -> str:
    """Return the line that ends every run.

    Parameters
    ----------
    record : RunRecord
    statuses : mapping of RowStatus to int
        Rows by status.
    bill : Bill
        Of the requests this run sent itself; reused answers were paid before.
    elapsed : float
        Seconds from the call to the last result.
    is_rerun : bool
        Whether it had ended before this call, which therefore cost nothing.
    unpaid : sequence of str
        The errors of rows that failed for credit or a spend limit, in the API's words.
    twice : Bill, optional
        Of batches that showed up late, after they had been sent again.
    lost : int
        Rows that were asked at once, whose answer was lost, and which were then asked in a batch.
    """
    line = f"{tell_statuses(statuses)}; {bill}; {duration(elapsed)}; run {record.id}"
    if is_rerun:
        line += " (ended before; nothing was sent)"
    if twice is not None:
        line += f". {TWICE}: {twice} more"
    if lost:
        rows = "1 row was" if lost == 1 else f"{lost} rows were"
        line += f". {rows} asked first, alone; the answer was lost, and may have been paid, too"
    if unpaid:
        line += (
            f". The API says of {len(unpaid):,} rows: {unpaid[0]!r}; then run.retry() sends them"
        )
    return line


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """What a run brought, in numbers; printing it shows a page of text."""

    run_id: str
    statuses: dict[str, int]  # rows by status
    errors: dict[str, tuple[int, int]]  # message -> (rows, position of the first)
    stop_reasons: dict[str, int]
    tokens: dict[str, int]  # of the run's own requests
    bill: money.Bill
    twice: money.Bill | None = None  # of batches that were accepted late, after a resend

    def __str__(self) -> str:
        lines = [f"run {self.run_id}"]
        lines += [f"  {count:>9,} {visible(name)}" for name, count in self._counts]
        lines += [f"  {line}" for line in self._sums]
        if self.errors:
            lines.append("  why rows have no full answer:")
            lines += [f"  {count:>9,} x {why}" for why, count in self._reasons]
        return "\n".join(lines)

    @property
    def _counts(self) -> list[tuple[str, int]]:
        stops = {f"stopped by {why}": count for why, count in self.stop_reasons.items()}
        return [item for item in (self.statuses | stops | self.tokens).items() if item[1]]

    @property
    def _sums(self) -> list[str]:
        share = _cached(self.tokens)
        so_far = " so far" if RowStatus.PROCESSING in self.statuses else ""
        return [
            *([f"cache: {share:.0%} of the prompts' tokens were read from it"] if share else []),
            f"cost{so_far}: {self.bill}",
            *([f"{TWICE}: {self.twice} more"] if self.twice is not None else []),
        ]

    @property
    def _reasons(self) -> list[tuple[str, int]]:
        told = [
            (f"{why} (first at position {first})", count)
            for why, (count, first) in self.errors.items()
        ]
        rest = told[MOST_ERRORS:]
        others = [(f"for {len(rest):,} other reasons", sum(count for _, count in rest))]
        return told[:MOST_ERRORS] + (others if rest else [])

    @property
    def _whole(self) -> money.Bill:
        """What was paid in all."""
        return self.bill if self.twice is None else self.bill.plus(self.twice)

    def facts(self) -> dict[str, Any]:
        """Return it as JSON can hold it; dollars are US dollars, None when a price is unknown.

        ``dollars`` is all that was paid; of that, ``accepted_twice`` for batches that were accepted
        though another had taken their place.
        """
        return {
            "statuses": {str(name): count for name, count in self.statuses.items()},
            "errors": {why: count for why, (count, _) in self.errors.items()},
            "tokens": self.tokens,
            "dollars": None if self._whole.unpriced else float(self._whole.dollars),
            "unpriced": self._whole.unpriced,
            "accepted_twice": None if self.twice is None else float(self.twice.dollars),
        }

    def _repr_html_(self) -> str:
        facts = [(name, f"{count:,}") for name, count in self._counts]
        reasons = [f"{count:,} x {why}" for why, count in self._reasons]
        return facts_html(f"run {self.run_id}", facts, [*self._sums, *reasons])

    def __repr__(self) -> str:
        return str(self)


def make_report(
    record: RunRecord,
    rows: Sequence[Result],
    own: Sequence[Result],
    twice: money.Bill | None = None,
) -> Report:
    """Return the report of a run.

    Parameters
    ----------
    record : RunRecord
    rows : sequence of Result
        One per row.
    own : sequence of Result
        One per request that the run sent itself, and per attempt.
    twice : Bill, optional
        Of batches that showed up late, after they had been sent again.
    """
    counts = Counter(result.status for result in rows)
    errors: dict[str, tuple[int, int]] = {}
    for position, result in enumerate(rows):
        if result.error is not None:
            times, first = errors.get(result.error, (0, position))
            errors[result.error] = (times + 1, first)
    used = [result.usage for result in own if result.usage is not None]
    return Report(
        record.id,
        {str(status): counts[status] for status in TOLD if counts[status]},
        dict(sorted(errors.items(), key=lambda item: -item[1][0])),
        dict(Counter(result.stop_reason for result in rows if result.stop_reason)),
        {kind: sum(getattr(usage, kind) or 0 for usage in used) for kind in TOKENS},
        money.bill(own),
        twice,
    )


class Preview:
    """The requests that would be sent; nothing was.

    Attributes
    ----------
    requests : list of dict
        ``params`` of the first requests, exactly as they would go out.
    rows : int
        Rows of the frame.
    notes : list of str
        Rows among the first that would not be sent, and why.
    """

    def __init__(self, requests: list[dict[str, Any]], rows: int, notes: list[str]) -> None:
        self.requests, self.rows, self.notes = requests, rows, notes

    @property
    def _head(self) -> str:
        first = "request" if len(self) == 1 else f"{len(self)} requests"
        return f"The first {first} of {self.rows:,} rows; nothing was sent."

    def __repr__(self) -> str:
        return "\n".join([self._head, *map(shown, self.requests), *map(visible, self.notes)])

    def _repr_html_(self) -> str:
        return requests_html(self._head, self.requests, self.notes)

    def __len__(self) -> int:
        return len(self.requests)


def _cached(tokens: Mapping[str, int]) -> float:
    """Return which share of the prompts' tokens a cache served."""
    read = tokens.get("cache_read_input_tokens", 0)
    whole = sum(tokens.get(kind, 0) for kind in PROMPT)
    return read / whole if whole else 0.0
