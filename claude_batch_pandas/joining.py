"""What the answers of a run are joined to: a given frame, the one that was sent, or its index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claude_batch_pandas import catalog, frames, indexes
from claude_batch_pandas.columns import Columns
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.matching import Matched, keep_digests, match_frame
from claude_batch_pandas.planning import INDEX
from claude_batch_pandas.records import RunRecord, RunState
from claude_batch_pandas.rendering import Recipe
from claude_batch_pandas.spool import read_sealed
from claude_batch_pandas.tracebacks import Curtain, warn

if TYPE_CHECKING:
    import pandas as pd


def saved_index(record: RunRecord, engine: Engine) -> Any:
    """Return the index of the rows that were sent, as the ledger knows it, or their positions."""
    folder = engine.spool.folder(record.id)
    if record.attached:
        return indexes.of_ids(catalog.load_ids(folder, 0), record.rows)
    path = folder / INDEX
    data = read_sealed(path) if path.exists() else None
    if data is None:
        msg = (
            f"The index of run {record.id} has labels that could not be saved, so its rows are "
            "numbered by position here. Pass the frame, result(df), to have them joined to it."
        )
        warn(msg)
    return indexes.load(data, record.rows)


class Join:
    """The frames that one handle of a run knows.

    Parameters
    ----------
    engine : Engine
    asked : Recipe or None
        None when only the ledger knows it.
    frame, planned : pandas.DataFrame, pandas.Series or None
        What to join to when no frame is given: by what each row asks, or by position where these
        very rows were planned. They are kept safe from changes made in place since.
    labels : pandas.Index or None
        None when only the ledger knows them.
    """

    def __init__(
        self, engine: Engine, asked: Recipe | None, frame: Any, labels: Any, planned: Any
    ) -> None:
        self._engine = engine
        self.asked = asked
        self._labels = labels
        self.frame = None if frame is None else frames.snapshot(frame)
        self.planned = None if planned is None else frames.snapshot(planned)

    def index(self, record: RunRecord) -> Any:
        """Return the index of the rows that were sent, saved or made up."""
        if self._labels is not None and not record.attached:
            return self._labels
        return saved_index(record, self._engine)

    def by_position(self, record: RunRecord, df: Any, rows: Columns) -> pd.DataFrame:
        """Return the answers beside the very frame that was sent; without one, on its index."""
        output = self._engine.reader().output(record)
        if df is None:
            return frames.on_index(self.index(record), frames.arrays(output, rows))
        return frames.join(df, output, rows)

    def match(self, record: RunRecord, df: Any) -> Matched:
        """Find the rows of a frame among what the run asked.

        Raises
        ------
        ChangedFrameError, InputError
        """
        with Curtain():
            matched = match_frame(df, record, self._engine, self.asked)
        if matched.warning:
            warn(matched.warning)
        return matched

    def by_request(self, record: RunRecord, df: Any, matched: Matched) -> pd.DataFrame:
        """Return a frame beside which each row has the answer to what it asks."""
        reader = self._engine.reader()
        rows = self._engine.gatherer().matching(record, matched.places)
        if rows is not None:
            return frames.join(df, reader.output(record), rows)
        answers = reader.of_requests(record)
        if record.attached and record.state is RunState.ENDED:
            keep_digests(record, self._engine, matched, answers)
        return frames.join(df, reader.output(record), matched.results(answers.results))
