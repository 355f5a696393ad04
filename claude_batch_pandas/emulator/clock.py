"""Time as the API writes it, and time for tests: it stands still until somebody lets it pass."""

from __future__ import annotations

from datetime import UTC, datetime
from threading import Lock

from claude_batch_pandas.exceptions import InputError

START = 1_795_000_000.0  # 18 November 2026, 11:06:40 UTC


class SimulatedClock:
    """A clock that is moved by hand; pass it as `Emulator(clock=...)`.

    With the same clock, the same seed and the same calls, an emulator gives the same ids and
    answers.

    Parameters
    ----------
    start : float
        The first instant, in seconds since 1970.

    Examples
    --------
    >>> clock = SimulatedClock(start=0.0)
    >>> clock.advance(86_400)
    >>> clock()
    86400.0
    """

    def __init__(self, start: float = START) -> None:
        self._now = float(start)
        self._lock = Lock()

    def __call__(self) -> float:
        """Return the seconds since 1970."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass.

        Parameters
        ----------
        seconds : float
            How much; 0 or more.
        """
        if not seconds >= 0:
            message = f"advance({seconds}) would turn time back. Pass 0 or more seconds."
            raise InputError(message)
        with self._lock:
            self._now += seconds


def rfc3339(seconds: float | None) -> str | None:
    """Return an instant, in seconds since 1970, as the API writes it; None for none."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")
