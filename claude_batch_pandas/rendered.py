"""What rendering makes of rows: encoded requests, and why some rows have none. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    def __len__(self) -> int:
        return len(self.tails)
