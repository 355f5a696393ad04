"""Which rows of a frame a run has answered: by what they ask, never by where they stand.

The rows are rendered again and found by content hash, so a frame that was edited, reordered or
extended since gets each row's own answer, and no row gets another's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from claude_batch_pandas.exceptions import ChangedFrameError
from claude_batch_pandas.functions import FunctionRenderer
from claude_batch_pandas.records import RunRecord
from claude_batch_pandas.rendering import Reason, Renderer
from claude_batch_pandas.results import Result


class Matched(NamedTuple):
    """What the rows of a frame ask of a run.

    Attributes
    ----------
    places : list of (int or Reason)
        The unique request of each row, or why it has none.
    unasked : list of int
        Positions of rows that ask what the run did not.
    asking : int
        Rows that ask anything.
    """

    places: list[int | Reason]
    unasked: list[int]
    asking: int

    def results(self, answers: Sequence[Result]) -> list[Result]:
        """Return one result per row from those of the unique requests."""
        return [
            answers[place] if isinstance(place, int) else Result(place.status, error=place.why)
            for place in self.places
        ]


def match(
    renderer: Renderer | FunctionRenderer,
    requests: Mapping[bytes, int],
    size: int,
    stranger: Reason,
) -> Matched:
    """Find the rows of a frame among the requests of a run.

    Parameters
    ----------
    renderer : Renderer or FunctionRenderer
        Over the frame.
    requests : mapping of bytes to int
        Content hash -> unique request.
    size : int
        Bytes of a content hash that are known.
    stranger : Reason
        Why a row that the run did not ask has no answer.
    """
    places: list[int | Reason] = []
    unasked: list[int] = []
    asking = 0
    for block in renderer.blocks():
        for i, digest in enumerate(block.digests):
            if i in block.reasons or digest is None:
                places.append(block.reasons[i])
                continue
            asking += 1
            place = requests.get(digest[:size])
            if place is None:
                unasked.append(len(places))
            places.append(stranger if place is None else place)
    return Matched(places, unasked, asking)


def check(matched: Matched, record: RunRecord, *, knows_requests: bool) -> str:
    """Return a warning about rows that a run did not ask, empty when there are none.

    Parameters
    ----------
    matched : Matched
    record : RunRecord
    knows_requests : bool
        Whether any request of the run can be told by its hash.

    Raises
    ------
    ChangedFrameError
        When no row asks what the run did.
    """
    strangers, rows = len(matched.unasked), len(matched.places)
    if not strangers:
        return ""
    if not knows_requests:
        msg = (
            f"The custom_ids of run {record.id} are not ours, so they do not tell rows. Call "
            f"claude_batch_pandas.run({record.id!r}).result() for a frame indexed by custom_id."
        )
        raise ChangedFrameError(msg)
    if strangers == matched.asking:
        msg = (
            f"No row of this frame asks what run {record.id} sent ({rows:,} rows here, "
            f"{record.rows:,} there). Pass the frame that was sent, call result() without one, or "
            "run the cell again: only what is new is sent."
        )
        raise ChangedFrameError(msg)
    return (
        f"{strangers:,} of {rows:,} rows ask what run {record.id} did not, the first at position "
        f"{matched.unasked[0]}; they are skipped here. Run the cell again to ask them: only what "
        "is new is sent."
    )
