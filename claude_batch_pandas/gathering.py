"""The results of a run as columns: of each request its latest attempt's, of each row its request's.

It says what `answers` says, without an object per row. What is rare is left to that: rows that are
asked several times, batches that others sent, and turns that went on.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from claude_batch_pandas import catalog, copies, money
from claude_batch_pandas.answers import (
    PROCESSING,
    UNKNOWN,
    WITHDRAWN,
    Reader,
    purged,
    sent_by,
)
from claude_batch_pandas.causes import ANSWERED
from claude_batch_pandas.collecting import read
from claude_batch_pandas.columns import CODES, NOTHING, Columns, Part, Places, Stock
from claude_batch_pandas.exceptions import LedgerError
from claude_batch_pandas.money import Bill
from claude_batch_pandas.outputs import Output
from claude_batch_pandas.records import RowStatus, RunRecord, Shard, ShardState
from claude_batch_pandas.rendered import Reason
from claude_batch_pandas.results import PAUSED_TURN, Result

Parts = MutableMapping[tuple[str, int, str | None], Part]  # by run, shard and hash of the results

# Of what came back, an answer that does not fit its schema is an answer all the same.
HAS_ANSWER = [CODES[status] for status in (*ANSWERED, RowStatus.INVALID)]


class Gathered(NamedTuple):
    """The results of a run.

    Attributes
    ----------
    rows : Columns
    bill : Bill
        Of the requests that the run sent itself, every attempt.
    """

    rows: Columns
    bill: Bill


class _Found(NamedTuple):
    """Where the results of a run's requests stand in a pile, and what the run paid for its own."""

    places: Places
    bill: Bill


@dataclass(slots=True)
class _Pile:
    """Stocks on top of each other, under which lie results that stand in no file.

    A place of one of those is negative until all is piled up.
    """

    output: Output
    stocks: list[Stock] = field(default_factory=list)
    size: int = 0
    others: list[Result] = field(default_factory=list)
    paused: list[int] = field(default_factory=list)  # places of turns that were not finished

    def add(self, stock: Stock) -> Places:
        """Put a stock on top; return the places of its results."""
        places = np.arange(self.size, self.size + len(stock.codes))
        others = stock.others.items()
        self.paused += [self.size + i for i, one in others if one.stop_reason == PAUSED_TURN]
        self.stocks.append(stock)
        self.size += len(stock.codes)
        return places

    def place(self, result: Result) -> int:
        """Return the place of a result that stands in no file."""
        self.others.append(result)
        return -len(self.others)

    def columns(self, places: Places) -> Columns:
        """Return the results at some places."""
        whole = Stock.join([*self.stocks, Stock.of(self.output, self.others)])
        return Columns(whole, np.where(places < 0, self.size - places - 1, places))

    def have_answers(self, places: Places) -> npt.NDArray[np.bool_]:
        """Tell of some places whether an answer stands there."""
        codes = np.concatenate([stock.codes for stock in self.stocks])
        is_answer: npt.NDArray[np.bool_] = np.isin(codes[np.maximum(places, 0)], HAS_ANSWER)
        return is_answer & (places >= 0)

    def has_paused(self, places: Places) -> bool:
        """Tell whether a turn that was not finished stands at one of some places."""
        return bool(np.isin(places, self.paused).any())


@dataclass(slots=True)
class Gatherer:
    """Gathers the results of runs.

    Parameters
    ----------
    reader : Reader
    parts : mutable mapping
        Results that this process has read, and still holds.
    """

    reader: Reader
    parts: Parts

    def rows(self, record: RunRecord) -> Gathered:
        """Return one result per row of a run, in order.

        Raises
        ------
        LedgerError
            When a file is not what was verified.
        """
        pile = _Pile(self.reader.output(record))
        requests = self._of_requests(record, pile)
        if requests is None:
            answers = self.reader.of_requests(record)
            results = self.reader.of_rows(record, answers).results
            return Gathered(Columns.of(pile.output, results), money.bill(sent_by(answers, record)))
        never = [pile.place(result) for result in self.reader.never_sent(record)]
        # A row that is never sent has the negative number of its reason, which counts from the end.
        told = np.concatenate([requests.places, np.array(never[::-1], np.int64)])
        return Gathered(pile.columns(told[self.reader.map(record.id).rows]), requests.bill)

    def matching(self, record: RunRecord, asked: Sequence[int | Reason]) -> Columns | None:
        """Return the results of some unique requests of a run, or why a row has none.

        None where that needs a look at each: see `Reader.of_requests`.
        """
        pile = _Pile(self.reader.output(record))
        requests = self._of_requests(record, pile)
        if requests is None:
            return None
        reasons = {
            one: Result(one.status, error=one.why) for one in asked if isinstance(one, Reason)
        }
        places = {reason: pile.place(result) for reason, result in reasons.items()}
        known = requests.places.tolist()
        told = [places[one] if isinstance(one, Reason) else known[one] for one in asked]
        return pile.columns(np.array(told, np.int64))

    def part(self, record: RunRecord, shard: Shard, output: Output) -> Part:
        """Return the results of a collected shard, one per request.

        Raises
        ------
        LedgerError
            When its file is not what was verified.
        """
        known = self.parts.get((shard.run_id, shard.number, shard.results_sha256))
        if known is not None and known.output == output:
            return known
        part = None
        path = self.reader.checked(shard)
        if shard.complete and not record.attached:
            part = self._copied(shard, output) or self._read(path, record, shard, output)
        if part is None:
            found = self.reader.of_collected(record, shard)
            part = Part.of(output, {i: output.read(result) for i, result in found.items()})
        return part

    def _read(self, path: Path, record: RunRecord, shard: Shard, output: Output) -> Part | None:
        lines = read(path, output)
        places = lines.places(self.reader.ids(record, shard))
        return None if places is None else lines.part(places)

    def _copied(self, shard: Shard, output: Output) -> Part | None:
        assert shard.results_sha256 is not None, "a collected shard has results"
        path = self.reader.spool.copy(shard.run_id, shard.number)
        return copies.load(path, output, shard.results_sha256)

    def _of_requests(self, record: RunRecord, pile: _Pile) -> _Found | None:
        """Return where the result of each unique request stands, wherever it was sent.

        None where a row is several requests, or they were not sent from here, or a turn went on.
        """
        is_usual = not record.attached and pile.output.votes == 1
        own = self._own(record, pile) if is_usual else None
        if own is None or not record.sources:
            return own
        references = self.reader.map(record.id).references
        places = np.zeros(len(references), np.int64)
        is_own = references[:, 0] == catalog.OWN
        places[is_own] = own.places[references[is_own, 1]]
        for source, run_id in enumerate(record.sources, start=1):
            at = (references[:, 0] == source).nonzero()[0]
            borrowed = self._borrowed(run_id, references[at, 1], pile)
            if borrowed is None:
                return None
            places[at] = borrowed
        return own._replace(places=places)

    def _borrowed(self, run_id: str, ordinals: Places, pile: _Pile) -> Places | None:
        """Return where the results of some of another run's requests stand."""
        if not self.reader.is_purged(run_id):
            try:
                found = self._own(self.reader.store.run(run_id), pile)
            except LedgerError:
                if not self.reader.is_purged(run_id):  # meanwhile
                    raise
            else:
                return None if found is None else found.places[ordinals]
        return np.full(len(ordinals), pile.place(purged(run_id)))

    def _own(self, record: RunRecord, pile: _Pile) -> _Found | None:
        """Return the same of the requests that a run sent itself, by ordinal.

        None when a turn went on: the text of such an answer is in two places.
        """
        unknown = pile.place(UNKNOWN)
        places = np.full(len(self.reader.map(record.id).own), unknown)
        bill = NOTHING
        for shard in self.reader.store.shards(record.id):
            folder = self.reader.spool.folder(record.id)
            ordinals = np.array(catalog.load_ordinals(folder, shard.number), np.int64)
            if shard.state is not ShardState.COLLECTED:
                is_withdrawn = shard.state is ShardState.WITHDRAWN
                if is_withdrawn:  # an earlier attempt's result stands when this one was never sent
                    ordinals = ordinals[places[ordinals] == unknown]
                places[ordinals] = pile.place(WITHDRAWN if is_withdrawn else PROCESSING)
                continue
            part = self.part(record, shard, pile.output)
            bill = bill.plus(part.stock.bill)
            before, now = places[part.ordinals], pile.add(part.stock)
            if np.any(before != unknown):
                if pile.has_paused(before):
                    return None
                # An answer is never displaced by what is none.
                now = np.where(pile.have_answers(before) & ~pile.have_answers(now), before, now)
            places[part.ordinals] = now
        return _Found(places, bill)
