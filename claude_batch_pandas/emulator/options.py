"""How an emulator behaves, checked."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from claude_batch_pandas.exceptions import InputError

_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What an emulator was told; `Emulator` documents each."""

    clock: Callable[[], float]
    speed: float
    seed: int
    moving_counts: bool
    list_lag: float
    duration: float | None
    permissive_ids: bool
    prefix: str

    def __post_init__(self) -> None:
        """Refuse what no emulator could follow."""
        if not self.speed > 0 or math.isinf(self.speed):
            message = f"speed={self.speed} does not move. Pass a number above 0, such as 1000."
            raise InputError(message)
        if not self.list_lag >= 0:
            message = f"list_lag={self.list_lag} is in the past. Pass 0 or more seconds."
            raise InputError(message)
        if self.duration is not None and not self.duration >= 0:
            message = f"duration={self.duration} is in the past. Pass 0 or more seconds."
            raise InputError(message)
        if not _PREFIX.fullmatch(self.prefix):
            message = (
                f"prefix={self.prefix!r} is not the beginning of a path. Pass one that starts with "
                'a slash and does not end with one, such as "/relay".'
            )
            raise InputError(message)
