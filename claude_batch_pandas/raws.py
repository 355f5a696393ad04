"""The results of a run as the API gave them: line by line, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

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


def raw_lines(record: RunRecord, engine: Engine) -> Iterator[bytes]:
    r"""Yield the result lines that a run's rows came to, each with its ``\n``.

    One for every request whose result is here, those that other runs asked first included: that of
    the last attempt, but an answer is never displaced by a failure.

    Parameters
    ----------
    record : RunRecord
    engine : Engine

    Raises
    ------
    LedgerError
        When a results file was changed.
    """
    reader = engine.reader()
    references = reader.map(record.id).references
    for source, run_id in enumerate((record.id, *record.sources)):
        wanted = references[references[:, 0] == source, 1]
        if len(wanted):
            yield from _of_run(engine.store.run(run_id), engine, reader, wanted)


def _of_run(
    record: RunRecord, engine: Engine, reader: Reader, wanted: npt.NDArray[np.uint32]
) -> Iterator[bytes]:
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
        names = _names(record, shard, reader, best == shard.number)
        for line in lines_of(read_blocks(paths[shard.number])):
            tag = next(chain.from_iterable(read_tags([line])), None)
            if tag is not None and tag[0] in names:
                yield line + b"\n"


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
