"""The answers of a run beside the rows of a file, some thousands at a time: in constant memory.

Whatever the order of the results and of the rows, each row is found by what it asks; or, where the
run was made of a file of requests, by its custom_id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from claude_batch_pandas import frames
from claude_batch_pandas.building import ROW_NAME
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import ChangedFrameError
from claude_batch_pandas.indexes import CUSTOM_ID, names_of
from claude_batch_pandas.joining import saved_index
from claude_batch_pandas.matching import Matched, Matcher
from claude_batch_pandas.records import RowStatus, RunRecord
from claude_batch_pandas.rendered import Reason
from claude_batch_pandas.tracebacks import warn

if TYPE_CHECKING:
    import pandas as pd

NOT_THERE = Reason(RowStatus.SKIPPED, "the run has no request of this custom_id")


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
    output = engine.reader().output(record)
    unasked = asking = rows = 0
    first: int | None = None
    for chunk in chunks:
        frames.check_rejoin(chunk, output)
        matched = finder.find(chunk)
        wanted = frozenset(place for place in matched.places if isinstance(place, int))
        results = engine.reader().of_requests(record, wanted).results
        yield frames.join(chunk, output, matched.results(results))
        strange, asked, count, start = matched.counts
        if strange and first is None:
            first = rows + start
        unasked, asking, rows = unasked + strange, asking + asked, rows + count
    if words := finder.check(unasked, asking, rows, first or 0):
        warn(words)


class Named:
    """Finds rows by the custom_ids of a run that was made of a file of requests.

    Those of a column ``custom_id``; without one, those that `build` gives the rows of a file.

    Parameters
    ----------
    record : RunRecord
    requests : mapping of str to int
        custom_id -> unique request.
    """

    def __init__(self, record: RunRecord, requests: Mapping[str, int]) -> None:
        self._record, self._requests = record, requests
        self._position = 0

    @classmethod
    def of(cls, record: RunRecord, engine: Engine) -> Named | None:
        """Return what finds the rows of a run; None when its rows have no custom_ids of theirs."""
        reader = engine.reader()
        if record.attached or reader.recipe(record.id).template is not None:
            return None
        names = names_of(saved_index(record, engine))
        if names is None:
            return None
        return cls(record, dict(zip(names, reader.map(record.id).rows.tolist(), strict=True)))

    def find(self, df: pd.DataFrame) -> Matched:
        """Find the next rows."""
        if CUSTOM_ID in df:
            names = df[CUSTOM_ID].astype(str).tolist()
        else:
            names = [ROW_NAME % (self._position + i) for i in range(len(df))]
        self._position += len(df)
        places = [self._requests.get(name) for name in names]
        unasked = [i for i, place in enumerate(places) if place is None]
        found = [NOT_THERE if place is None else place for place in places]
        return Matched(found, unasked, len(names))

    def check(self, unasked: int, asking: int, rows: int, first: int) -> str:
        """Return what to say about rows without a request: they may have been left out.

        Raises
        ------
        ChangedFrameError
            When no row has one.
        """
        if unasked < asking or not rows:
            return ""
        msg = (
            f"No row has a custom_id of run {self._record.id}: there is no column {CUSTOM_ID!r}, "
            f"and {ROW_NAME % first!r} is none of them. Join the file that the requests were "
            "built from, or write the table of the answers alone, without --join."
        )
        raise ChangedFrameError(msg)
