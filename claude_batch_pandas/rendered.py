"""What rendering makes of rows: encoded requests, and why some rows have none. Pure."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple

from claude_batch_pandas.records import RowStatus


class Reason(NamedTuple):
    """Why a row is never sent."""

    status: RowStatus
    why: str


class Rendered(NamedTuple):
    """The requests of consecutive rows; a row without one has a reason."""

    tails: Sequence[bytes | None]
    digests: Sequence[bytes | None]
    reasons: Mapping[int, Reason]  # by offset in the block

    def fresh(self, seen: Container[bytes]) -> dict[bytes, bytes]:
        """Return the requests that were not seen yet, each once, by their hashes."""
        return {
            digest: tail
            for digest, tail in zip(self.digests, self.tails, strict=True)
            if digest is not None and tail is not None and digest not in seen
        }

    def spread(self, reasons: Mapping[int, Reason], length: int) -> Rendered:
        """Return these rows where they stand among those that were left out before.

        Parameters
        ----------
        reasons : mapping of int to Reason
            Of those that were left out, by offset.
        length : int
            Of them all.
        """
        places = [i for i in range(length) if i not in reasons]
        tails: list[bytes | None] = [None] * length
        digests: list[bytes | None] = [None] * length
        whole = dict(reasons)
        for k, i in enumerate(places):
            if k in self.reasons:
                whole[i] = self.reasons[k]
            else:
                tails[i], digests[i] = self.tails[k], self.digests[k]
        return Rendered(tails, digests, whole)

    def __len__(self) -> int:
        return len(self.tails)
