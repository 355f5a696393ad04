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

    def __len__(self) -> int:
        return len(self.tails)
