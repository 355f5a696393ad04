"""Time, handed in, so that a test can let a day pass in a moment."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """What the engine asks of time."""

    def now(self) -> float:
        """Return the seconds since 1970, UTC; may jump when the machine's clock is set."""

    def monotonic(self) -> float:
        """Return seconds that only go up; for measuring waits."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until the event is set, at most that long; return whether it is set."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Return the seconds since 1970, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds that only go up."""
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until the event is set, at most that long."""
        return event.wait(seconds)
