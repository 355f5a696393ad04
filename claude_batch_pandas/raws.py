"""The results of a run as the API gave them: line by line, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from claude_batch_pandas.answers import Reader
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.lines import lines_of
from claude_batch_pandas.records import RunRecord, Shard, ShardState
from claude_batch_pandas.results import read_tags
from claude_batch_pandas.spool import read_blocks, read_line_blocks

NONE = -1
ANSWERED = "succeeded"  # the only type of result that holds an answer


def raw_lines(
    record: RunRecord, engine: Engine, names: Sequence[str] | None = None
) -> Iterator[bytes]:
    r"""Yield the result lines that a run's rows came to, each with its ``\n``.

    One for every request whose result is here, those that other runs asked first included: that of
    the last attempt, but an answer is never displaced by a failure.

    Parameters
    ----------
    record : RunRecord
    engine : Engine
    names : sequence of str, optional
        What each row is called in place of the custom_id that its request was sent under; there is
        a line for every row then.

    Raises
    ------
    LedgerError
        When a results file was changed.
    """
    reader = engine.reader()
    asked = reader.map(record.id)
    rows = None if names is None else Inverse(asked.rows)
    for source, run_id in enumerate((record.id, *record.sources)):
        requests = np.flatnonzero(asked.references[:, 0] == source)
        if not len(requests):
            continue
        ordinals = asked.references[requests, 1]
        request_of = Inverse(ordinals)
        for ordinal, name, line in _of_run(engine.store.run(run_id), engine, reader, ordinals):
            if names is None or rows is None:
                yield line + b"\n"
                continue
            for at in request_of.of(ordinal):
                for row in rows.of(requests[at]):
                    yield _renamed(line, name, names[row])


def _of_run(
    record: RunRecord, engine: Engine, reader: Reader, wanted: npt.NDArray[np.uint32]
) -> Iterator[tuple[int, str, bytes]]:
    """Yield the ordinal, the custom_id and the line of each request that is wanted."""
    shards = [
        shard for shard in engine.store.shards(record.id) if shard.state is ShardState.COLLECTED
    ]
    paths = {shard.number: reader.checked(shard) for shard in shards}  # before a line goes out
    best = _best(record, shards, paths, reader)
    is_wanted = np.zeros(len(best), dtype=bool)
    is_wanted[wanted] = True
    best[~is_wanted] = NONE
    for shard in shards:
        if not (best == shard.number).any():
            continue
        place = reader.places(record, shard)
        names = _names(record, shard, reader, best == shard.number)
        for line in lines_of(read_blocks(paths[shard.number])):
            tag = next(chain.from_iterable(read_tags([line])), None)
            if tag is not None and tag[0] in names:
                yield place(tag[0]), tag[0], line


class Inverse:
    """Where each value stands in an array.

    Parameters
    ----------
    values : numpy.ndarray of int
        Below its length or so; negative ones are not asked for.
    """

    def __init__(self, values: npt.NDArray[Any]) -> None:
        self._order = np.argsort(values, kind="stable")
        last = int(values.max()) if len(values) else -1
        self._bounds = np.searchsorted(values[self._order], np.arange(last + 2))

    def of(self, value: int) -> list[int]:
        """Return the positions of a value that is there."""
        found: list[int] = self._order[self._bounds[value] : self._bounds[value + 1]].tolist()
        return found


def _renamed(line: bytes, name: str, custom_id: str) -> bytes:
    """Return a line under another custom_id; quotes within its texts are escaped, so none is hit."""
    return line.replace(b'"%b"' % name.encode(), b'"%b"' % custom_id.encode(), 1) + b"\n"


def _best(
    record: RunRecord, shards: list[Shard], paths: Mapping[int, Path], reader: Reader
) -> npt.NDArray[np.int64]:
    """Return by ordinal the number of the shard whose result counts."""
    best = np.full(len(reader.map(record.id).own), NONE, dtype=np.int64)
    answered = np.zeros(len(best), dtype=bool)
    for shard in shards:
        place = reader.places(record, shard)
        expected = frozenset(reader.expected(record, shard))
        mine = np.zeros(len(best), dtype=bool)
        good = np.zeros(len(best), dtype=bool)
        blocks = read_line_blocks(paths[shard.number])
        for tag in chain.from_iterable(read_tags(blocks)):
            if tag is not None and tag[0] in expected:
                mine[place(tag[0])] = True
                good[place(tag[0])] = tag[1] == ANSWERED
        newer = mine & (good | ~answered)
        best[newer] = shard.number
        answered |= good
    return best


def _names(
    record: RunRecord, shard: Shard, reader: Reader, is_chosen: npt.NDArray[np.bool_]
) -> frozenset[str]:
    """Return the custom_ids of a shard whose lines count."""
    place = reader.places(record, shard)
    return frozenset(name for name in reader.expected(record, shard) if is_chosen[place(name)])
