"""The machine's own clock."""

from __future__ import annotations

import threading
import time

from claude_batch_pandas.clock import SystemClock


def test_now_is_the_wall_clock() -> None:
    """Now is the seconds since 1970."""
    before = time.time()
    now = SystemClock().now()

    assert before <= now <= time.time()


def test_monotonic_only_goes_up() -> None:
    """Waits are measured with a clock that never goes back."""
    clock = SystemClock()
    first, second = clock.monotonic(), clock.monotonic()

    assert first <= second <= time.monotonic()


def test_wait_ends_with_the_event() -> None:
    """A wait ends at once when the event is set, and says whether it was."""
    event = threading.Event()
    unset = SystemClock().wait(event, 0.0)
    event.set()

    assert (unset, SystemClock().wait(event, 3600.0)) == (False, True)
