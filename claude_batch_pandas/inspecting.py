"""Row by row: what was sent, what came back, and what it cost. Model text is shown as text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import islice
from typing import Any

from claude_batch_pandas import catalog, money
from claude_batch_pandas.answers import Answers
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.markup import NO_MATH, PRE, request_html, shown
from claude_batch_pandas.records import RunRecord, Shard, ShardState
from claude_batch_pandas.requests import params_of
from claude_batch_pandas.resending import requests_in
from claude_batch_pandas.results import Result
from claude_batch_pandas.words import visible

ALL = "all"
FIRST_ROWS = 5  # of the form that has no buttons
GONE = "The request is not on this disk."
NEVER = "Nothing was sent for this row."


@dataclass(slots=True)
class Inspection:
    """The rows of one run.

    Parameters
    ----------
    record : RunRecord
    engine : Engine
    labels : sequence of str
        What the index calls each row.
    """

    record: RunRecord
    engine: Engine
    labels: Sequence[str]
    _answers: Answers = field(init=False)
    _shards: dict[str, list[tuple[Shard, list[int]]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._answers = self.engine.reader().of_rows(self.record)

    def __len__(self) -> int:
        return len(self._answers.results)

    @property
    def statuses(self) -> list[str]:
        """The statuses that there are, each once."""
        return list(dict.fromkeys(str(result.status) for result in self._answers.results))

    def find(self, status: str = ALL, words: str = "") -> list[int]:
        """Return the positions of rows of a status whose answer or error holds some words."""
        wanted = words.casefold()
        return [
            i
            for i, result in enumerate(self._answers.results)
            if status in {ALL, str(result.status)} and wanted in _text_of(result).casefold()
        ]

    def html(self, position: int) -> str:
        """Return one row as HTML."""
        head, told, *parts = self._parts(position)
        request = self._request(position)
        sent = _line(request) if isinstance(request, str) else request_html(request)
        facts = f"<div><strong>{escape(head[1])}</strong></div><div>{escape(told[1])}</div>"
        answered = "".join(_pre(name, text) for name, text in parts)
        return f'<div class="cbp-row {NO_MATH}">{facts}{sent}{answered}</div>'

    def text(self, position: int) -> str:
        """Return one row as text."""
        head, told, *parts = self._parts(position)
        request = self._request(position)
        sent = request if isinstance(request, str) else shown(request)
        whole = [head, told, ("sent", sent), *parts]
        return "\n".join(f"{name}: {text}" for name, text in whole)

    def _parts(self, position: int) -> list[tuple[str, str]]:
        """Return what is told of a row: names and texts."""
        result = self._answers.results[position]
        label = visible(self.labels[position])
        parts = [
            ("row", f"{position} ({label}): {result.status}"),
            ("cost", _counts(result)),
        ]
        parts += [("answer", visible(result.text))] if result.text is not None else []
        parts += [("error", visible(result.error))] if result.error is not None else []
        return parts

    def first_html(self) -> str:
        """Return the first rows as HTML, for whatever shows no buttons."""
        rows = [self.html(i) for i in range(min(FIRST_ROWS, len(self)))]
        return f'<div class="cbp-rows">{_line(self._head)}{"".join(rows)}</div>'

    def first_text(self) -> str:
        """Return the first rows as text."""
        rows = [self.text(i) for i in range(min(FIRST_ROWS, len(self)))]
        return "\n\n".join([self._head, *rows])

    @property
    def _head(self) -> str:
        count = min(FIRST_ROWS, len(self))
        return f"The first {count} of {len(self):,} rows of run {self.record.id}."

    def _request(self, position: int) -> Any:
        """Return the request of a row as it was sent last, or why there is none."""
        origin = self._answers.origins[position]
        if origin.shard < 0 or self._was_withdrawn(origin.run_id, origin.shard):
            return NEVER
        line = self._line(position, origin.run_id, origin.shard)
        return GONE if line is None else json.loads(params_of(line))

    def _was_withdrawn(self, run_id: str, number: int) -> bool:
        return self.engine.store.shard(run_id, number).state is ShardState.WITHDRAWN

    def _line(self, position: int, run_id: str, number: int) -> bytes | None:
        spool, store = self.engine.spool, self.engine.store
        reader = self.engine.reader()
        request = int(reader.map(self.record.id).rows[position * self._votes()])
        ordinal = int(reader.map(self.record.id).references[request, 1])
        ordinals = catalog.load_ordinals(spool.folder(run_id), number)
        if ordinal not in ordinals or not spool.body(run_id, number).exists():
            return None
        lines = requests_in(spool, store.shard(run_id, number))
        return next(islice(lines, ordinals.index(ordinal), None), None)

    def _votes(self) -> int:
        return self.engine.reader().output(self.record).votes


def _text_of(result: Result) -> str:
    return f"{result.text or ''} {result.error or ''}"


def _counts(result: Result) -> str:
    usage, price = result.usage, money.cost(result)
    dollars = "an unknown price" if price is None else money.show(price)
    if usage is None:
        return dollars
    read = f"{usage.prompt_tokens:,} tokens read, {usage.output_tokens or 0:,} written"
    return f"{read}; {dollars}; {result.stop_reason or ''}"


def _pre(name: str, text: str) -> str:
    return f'<div>{escape(name)}</div><pre style="{PRE}">{escape(text)}</pre>'


def _line(text: str) -> str:
    return f"<p>{_safe(text)}</p>"


def _safe(text: str) -> str:
    return escape(visible(text))
