"""A question asked until it is answered: hiccups are waited out for a while, the rest is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import TypeVar

from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import UNSENT, APIError
from claude_batch_pandas.polling import Pace, Verdict, explain, judge

PACE = (0.5, 8.0)  # seconds between two tries
SECONDS = 60.0  # and when to give up: somebody waits, and nothing was sent yet

Answer = TypeVar("Answer")


def patiently(engine: Engine, ask: Callable[[], Answer], final: Collection[int] = ()) -> Answer:
    """Return what the API answers, asking again after errors that pass by themselves.

    Parameters
    ----------
    engine : Engine
    ask : callable
        Without arguments; only for what may be asked twice.
    final : collection of int
        HTTP statuses that are told at once, though they might pass.

    Raises
    ------
    APIError
    """
    pace = Pace(*PACE, engine.dice)
    deadline = engine.clock.monotonic() + SECONDS
    while True:
        try:
            return ask()
        except APIError as error:
            is_passing = judge(error, 0.0) is Verdict.WAIT and error.code != UNSENT
            wait = error.retry_after or pace.next()
            is_late = engine.clock.monotonic() + wait > deadline
            if not is_passing or is_late or error.status in final:
                raise error.because(explain(error)) from None
            engine.clock.wait(threading.Event(), wait)
