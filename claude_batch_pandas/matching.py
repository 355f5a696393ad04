"""Which rows of a frame a run has answered: by what they ask, never by where they stand.

The rows are rendered again and found by content hash, so a frame that was edited, reordered or
extended since gets each row's own answer, and no row gets another's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from claude_batch_pandas.functions import FunctionRenderer
from claude_batch_pandas.records import RowStatus
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
    renderer: Renderer | FunctionRenderer, requests: Mapping[bytes, int], size: int, stranger: str
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
    stranger : str
        Why a row that the run did not ask has no answer.
    """
    places: list[int | Reason] = []
    unasked: list[int] = []
    asking = 0
    unknown = Reason(RowStatus.SKIPPED, stranger)
    for block in renderer.blocks():
        for i, digest in enumerate(block.digests):
            if i in block.reasons or digest is None:
                places.append(block.reasons[i])
                continue
            asking += 1
            place = requests.get(digest[:size])
            if place is None:
                unasked.append(len(places))
            places.append(unknown if place is None else place)
    return Matched(places, unasked, asking)
