"""Results as columns: a byte and a cell per request, and a whole `Result` only where one failed.

So a million answers take hardly more memory than their texts. Pure: what pandas makes of the
columns is `frames`' business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import reduce
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from claude_batch_pandas.decoders import decode_with
from claude_batch_pandas.ids import Ids
from claude_batch_pandas.money import Bill, Meter, bill
from claude_batch_pandas.outputs import Kind, Output
from claude_batch_pandas.records import RowStatus
from claude_batch_pandas.results import Lines, Result
from claude_batch_pandas.texts import NOWHERE, Texts

STATUSES = tuple(RowStatus)
CODES = {status: code for code, status in enumerate(STATUSES)}
NOTHING = Bill(Decimal(0), 0)
NOT_HERE = -1  # in place of a code
NO_CODES = np.zeros(0, np.int8)
PIECE = 1 << 23  # bytes of lines whose texts are held twice while columns are made of them

Places = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int8]
Cells = Texts | list[Any]  # of one column, by place


@dataclass(frozen=True, slots=True)
class Stock:
    """Results one after the other.

    Attributes
    ----------
    codes : array of int8, shape (results,)
        The status of each, by its place in `STATUSES`.
    cells : sequence of Texts or list
        One per column of answers.
    others : dict of int to Result
        By place, those that did not succeed.
    bill : Bill
        What they cost together.
    """

    codes: Codes
    cells: Sequence[Cells]
    others: Mapping[int, Result]
    bill: Bill

    @classmethod
    def of(cls, output: Output, results: Sequence[Result], paid: Bill = NOTHING) -> Stock:
        """Return results that were read as the output already."""
        return cls(
            np.array([CODES[result.status] for result in results], np.int8),
            _compact(output, output.cells(results)),
            _failed(dict(enumerate(results))),
            paid,
        )

    @classmethod
    def of_cells(
        cls,
        output: Output,
        cells: Sequence[list[Any]],
        others: Mapping[int, Result],
        paid: Bill,
    ) -> Stock:
        """Return the cells of answers, and by place the results whose cells are still missing."""
        codes = np.full(len(cells[0]), CODES[RowStatus.SUCCEEDED], np.int8)
        codes[[*others]] = [CODES[result.status] for result in others.values()]
        for column, found in zip(cells, output.cells([*others.values()]), strict=True):
            for i, cell in zip(others, found, strict=True):
                column[i] = cell
        return cls(codes, _compact(output, cells), _failed(others), paid)

    @classmethod
    def join(cls, parts: Sequence[Stock]) -> Stock:
        """Return the results of some, at least one, one after the other."""
        starts = accumulate((len(part.codes) for part in parts), initial=0)
        others: dict[int, Result] = {}
        for start, part in zip(starts, parts, strict=False):
            others.update((start + i, result) for i, result in part.others.items())
        return cls(
            np.concatenate([part.codes for part in parts]),
            [_join(columns) for columns in zip(*(part.cells for part in parts), strict=True)],
            others,
            reduce(Bill.plus, (part.bill for part in parts)),
        )

    def in_order(self, order: Places) -> Stock:
        """Return it with the results that stand at some places, each once, in their order."""
        places = np.empty_like(order)
        places[order] = np.arange(len(order))
        return replace(
            self,
            codes=self.codes[order],
            cells=[_take(column, order) for column in self.cells],
            others={int(places[i]): result for i, result in self.others.items()},
        )


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Part:
    """What came back for one shard.

    Attributes
    ----------
    output : Output
        What the answers were read as.
    stock : Stock
    ordinals : array of int64, shape (results,)
        The request of each result, ascending.
    """

    output: Output
    stock: Stock
    ordinals: Places

    @classmethod
    def of(cls, output: Output, results: Mapping[int, Result]) -> Part:
        """Return the results of some requests, by ordinal."""
        ordinals = sorted(results)
        stock = Stock.of(output, [results[i] for i in ordinals], bill(results.values()))
        return cls(output, stock, np.array(ordinals, np.int64))


@dataclass(frozen=True, slots=True)
class Columns:
    """One result per row, or per request.

    Attributes
    ----------
    stock : Stock
    places : array of int64, shape (rows,)
        Where each row's result stands in the stock.
    agreement : sequence of float or None
        Of rows that were asked several times, the share of votes for each answer.
    """

    stock: Stock
    places: Places
    agreement: Sequence[float | None] = ()

    def __len__(self) -> int:
        return len(self.places)

    @classmethod
    def of(cls, output: Output, results: Sequence[Result]) -> Columns:
        """Return results, one per row."""
        shares = [result.agreement for result in results] if output.votes > 1 else ()
        return cls(Stock.of(output, results), np.arange(len(results)), shares)

    @property
    def codes(self) -> Codes:
        """The status of each row, by its place in `STATUSES`."""
        return self.stock.codes[self.places]

    @property
    def statuses(self) -> dict[RowStatus, int]:
        """How many rows have each status."""
        return count_statuses(self.codes)

    @property
    def cells(self) -> list[Cells]:
        """The cells of each column of answers."""
        count = len(self.places)
        if np.array_equal(self.places, np.arange(count)):
            return [_head(column, count) for column in self.stock.cells]
        return [_take(column, self.places) for column in self.stock.cells]

    @property
    def errors(self) -> Texts:
        """Why rows have no full answer; missing where they have."""
        words: dict[str | None, int] = {}
        kinds = np.full(len(self.stock.codes), NOWHERE)
        for i, result in self.stock.others.items():
            if result.error is not None:
                kinds[i] = words.setdefault(result.error, len(words))
        return Texts.of([*words]).take(kinds[self.places])

    def failed(self, is_wanted: Callable[[Result], bool]) -> list[Result]:
        """Return the results of the rows that failed in some way, in their order."""
        others = self.stock.others
        wanted = [i for i, result in others.items() if is_wanted(result)]
        return [others[i] for i in self.places[np.isin(self.places, wanted)].tolist()]


class Builder:
    """Makes a stock of the lines of a results file, a few thousand at a time.

    Attributes
    ----------
    names : list of str
        The custom_id of every readable line.
    kinds : list of str
        The result type of each of them.
    unreadable : int
        Lines.
    """

    def __init__(self, output: Output) -> None:
        self.names: list[str] = []
        self.kinds: list[str] = []
        self.unreadable = 0
        self._output = output
        self._decode = decode_with(output)
        self._parts = [Stock.of(output, [])]
        self._size = 0  # bytes of the lines that are in no part yet
        self._texts: list[str | None] = []
        self._others: dict[int, Result] = {}
        self._meter = Meter()

    def add(self, lines: Lines, size: int) -> None:
        """Take the lines of a block that has so many bytes."""
        start = len(self._texts)
        self.names += lines.names
        self.kinds += lines.kinds
        self.unreadable += lines.unreadable
        self._texts += lines.texts
        self._others.update((start + i, result) for i, result in lines.others.items())
        self._meter.add(lines.used)
        self._size += size
        if self._size >= PIECE:
            self.flush()

    def stock(self) -> Stock:
        """Return the results of all lines, in their order."""
        self.flush()
        return Stock.join(self._parts)

    def places(self, expected: Ids) -> Places | None:
        """Return the request of each line; None unless all can be read, and there is one for each.

        Parameters
        ----------
        expected : Ids
        """
        return None if self.unreadable else expected.find(self.names)

    def part(self, ordinals: Places) -> Part:
        """Return the results by request, once it is known which line is which request's.

        Parameters
        ----------
        ordinals : array of int64, shape (lines,)
            As `places` returns it.
        """
        order = np.argsort(ordinals)
        return Part(self._output, self.stock().in_order(order), ordinals[order])

    def flush(self) -> None:
        """Make columns of the lines that came so far; here, types of users are asked."""
        output, texts = self._output, self._texts
        others = {i: output.read(result) for i, result in self._others.items()}
        paid = self._meter.bill().plus(bill(others.values()))
        cells, refused = self._decode(texts)
        good = RowStatus.SUCCEEDED
        odd = {i: output.read(Result(good, texts[i])) for i in refused if i not in others}
        self._parts.append(Stock.of_cells(output, cells, others | odd, paid))
        self._texts, self._others, self._size, self._meter = [], {}, 0, Meter()


def placed(codes: Codes, part: Part) -> Codes:
    """Return the codes of a run's requests, by ordinal, with those of a part in their places."""
    missing = max(0, int(part.ordinals.max(initial=-1)) + 1 - len(codes))
    whole = np.append(codes, np.full(missing, NOT_HERE, np.int8))
    whole[part.ordinals] = part.stock.codes
    return whole


def count_statuses(codes: Codes) -> dict[RowStatus, int]:
    """Return how often each status stands among codes, in the order of `RowStatus`."""
    counts = np.bincount(codes[codes != NOT_HERE], minlength=len(STATUSES)).tolist()
    return {status: count for status, count in zip(STATUSES, counts, strict=True) if count}


def _compact(output: Output, cells: Sequence[list[Any]]) -> list[Cells]:
    both = zip(output.fields, cells, strict=True)
    return [Texts.of(column) if field.kind is Kind.TEXT else column for field, column in both]


def _failed(results: Mapping[int, Result]) -> dict[int, Result]:
    good = RowStatus.SUCCEEDED
    return {i: one for i, one in results.items() if one.status is not good or one.error is not None}


def _join(columns: Sequence[Cells]) -> Cells:
    if isinstance(columns[0], Texts):
        return Texts.join([column for column in columns if isinstance(column, Texts)])
    return [cell for column in columns if isinstance(column, list) for cell in column]


def _take(column: Cells, places: Places) -> Cells:
    if isinstance(column, Texts):
        return column.take(places)
    return [column[i] for i in places.tolist()]


def _head(column: Cells, count: int) -> Cells:
    return column.head(count) if isinstance(column, Texts) else column[:count]
