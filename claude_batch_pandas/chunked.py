"""The answers of a run beside the rows of a file, some thousands at a time: in constant memory.

Whatever the order of the results and of the rows, each row is found by what it asks; or, where the
run was made of a file of requests, by its custom_id.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from claude_batch_pandas import frames
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import ChangedFrameError, InputError
from claude_batch_pandas.indexes import CUSTOM_ID, names_of
from claude_batch_pandas.joining import saved_index
from claude_batch_pandas.matching import Matched, Matcher
from claude_batch_pandas.records import RowStatus, RunRecord, ShardState
from claude_batch_pandas.rendered import Reason
from claude_batch_pandas.tracebacks import warn

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS, LEAST_ROWS = 20_000, 100  # that are held at once
ANSWER_BYTES = 30_000_000  # of results files that they come to
NOT_THERE = Reason(RowStatus.SKIPPED, "the run has no request for this row")
BUILT = re.compile(r"row-\d+-([0-9a-f]{16})")  # what `build` calls requests


def rows_at_once(record: RunRecord, engine: Engine) -> int:
    """Return how many rows of a run are held at once, so that their answers are some megabytes."""
    sizes = [
        engine.spool.results(run_id, shard.number).stat().st_size / max(1, shard.total)
        for run_id in (record.id, *record.sources)
        for shard in engine.store.shards(run_id)
        if shard.state is ShardState.COLLECTED
    ]
    return max(LEAST_ROWS, min(MOST_ROWS, int(ANSWER_BYTES / max([1.0, *sizes]))))


def answered(record: RunRecord, engine: Engine, rows: int) -> Iterator[pd.DataFrame]:
    """Yield the answers of a run on its own index, so many rows at a time."""
    reader, index = engine.reader(), saved_index(record, engine)
    for start in range(0, max(1, len(index)), rows):
        part = slice(start, start + rows)
        columns = frames.arrays(reader.output(record), reader.of_part(record, part).results)
        yield frames.on_index(index[part], columns)


def joined(
    record: RunRecord, engine: Engine, chunks: Iterable[pd.DataFrame]
) -> Iterator[pd.DataFrame]:
    """Yield the rows of a file beside their answers, as far as they are here.

    Parameters
    ----------
    record : RunRecord
    engine : Engine
    chunks : iterable of pandas.DataFrame
        The rows in order.

    Raises
    ------
    ChangedFrameError
        After the last chunk, when no row asks what the run did.
    InputError
        When the run cannot be joined to rows.
    """
    finder = Named.of(record, engine) or Matcher(record, engine, None)
    reader = engine.reader()
    output = reader.output(record)
    unasked = asking = rows = 0
    first: int | None = None
    for chunk in chunks:
        frames.check_rejoin(chunk, output)
        matched = finder.find(chunk)
        wanted = frozenset(place for place in matched.places if isinstance(place, int))
        results = matched.results(reader.of_requests(record, wanted).results)
        yield frames.join(chunk, output, results)
        strange, asked, count, start = matched.counts
        if strange and first is None:
            first = rows + start
        unasked, asking, rows = unasked + strange, asking + asked, rows + count
    if words := finder.check(unasked, asking, rows, first or 0):
        warn(words)


class Named:
    """Finds rows by the custom_ids of a run that was made of a file of requests.

    Those that `build` gives hold a hash of the row's cells. For others, the rows have theirs in a
    column ``custom_id``.

    Parameters
    ----------
    record : RunRecord
    names : sequence of str
        The custom_id of each row of the run.
    requests : sequence of int
        Its unique request.
    """

    def __init__(self, record: RunRecord, names: Sequence[str], requests: Sequence[int]) -> None:
        self._record = record
        built = [BUILT.fullmatch(name) for name in names]
        self._is_built = all(built)
        keys = [found[1] for found in built if found] if self._is_built else names
        self._requests: dict[str, list[int]] = {}  # of rows with the same cells, one each
        for key, request in zip(keys, requests, strict=True):
            self._requests.setdefault(key, []).append(request)
        self._seen: Counter[str] = Counter()

    @classmethod
    def of(cls, record: RunRecord, engine: Engine) -> Named | None:
        """Return what finds the rows of a run; None when its rows have no custom_ids of theirs."""
        reader = engine.reader()
        if record.attached or reader.recipe(record.id).template is not None:
            return None
        names = names_of(saved_index(record, engine))
        return None if names is None else cls(record, names, reader.map(record.id).rows.tolist())

    def find(self, df: pd.DataFrame) -> Matched:
        """Find the next rows.

        Raises
        ------
        InputError
            When rows name no request, or two name the same.
        """
        if self._is_built:
            names = [f"{value:016x}" for value in frames.row_hashes(df)]
        elif CUSTOM_ID in df:
            names = df[CUSTOM_ID].astype(str).tolist()
        else:
            msg = (
                f"The requests of run {self._record.id} were not built here, so rows are found by a "
                f"column {CUSTOM_ID!r}, and there is none. Add it, or write the answers alone, "
                "without --join."
            )
            raise InputError(msg)
        found: list[int | Reason] = []
        for name in names:
            mine, times = self._requests.get(name, []), self._seen[name]
            self._seen[name] += 1
            if times and not self._is_built:
                msg = (
                    f"Two rows have the custom_id {name!r}, so neither tells which request is its."
                )
                raise InputError(msg)
            found.append(mine[min(times, len(mine) - 1)] if mine else NOT_THERE)
        unasked = [i for i, place in enumerate(found) if isinstance(place, Reason)]
        return Matched(found, unasked, len(names))

    def check(self, unasked: int, asking: int, rows: int, first: int) -> str:  # noqa: ARG002
        """Return what to say about rows without a request: they may have been left out.

        Raises
        ------
        ChangedFrameError
            When no row has one.
        """
        if unasked < asking or not rows:
            return ""
        how = "has the cells of a row that" if self._is_built else f"has a {CUSTOM_ID} that"
        msg = (
            f"No row {how} run {self._record.id} was made of. Join the file as it was, or write the "
            "answers alone, without --join."
        )
        raise ChangedFrameError(msg)
