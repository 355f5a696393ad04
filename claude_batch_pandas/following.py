"""A live card for a run that nobody waits for: a thread that looks, draws, and does what is clicked."""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Protocol

from claude_batch_pandas.cards import Card
from claude_batch_pandas.clock import Clock
from claude_batch_pandas.progress import SECONDS_BETWEEN_UPDATES, Throttle
from claude_batch_pandas.records import Progress
from claude_batch_pandas.widgets import LiveCard, after_each_cell, obey, thread_that_draws

BROKEN = "The card of run %s stops; the run goes on."

log = logging.getLogger(__name__)


class Followed(Protocol):
    """The part of a `Run` that a card needs."""

    id: str

    @property
    def progress(self) -> Progress:
        """Where it is."""

    def card(self, progress: Progress, *, is_waited_for: bool = False) -> Card:
        """Return what is shown."""

    def cancel(self) -> Any:
        """Cancel it."""

    def detach(self) -> Any:
        """Stop following it."""

    def parting(self) -> str:
        """Return why nobody here follows it any more."""

    def preview_html(self) -> str:
        """Return some of its answers as HTML."""


class Follower:
    """Keeps a card true until its run is over, or nobody follows it any more.

    Parameters
    ----------
    run : Run
    clock : Clock
    """

    def __init__(self, run: Followed, clock: Clock) -> None:
        self._run, self._clock = run, clock
        self._stop = threading.Event()
        self._live = LiveCard(run.card)
        self._context = contextvars.copy_context()
        self._show = Throttle(self._draw, clock)
        self._drawing = threading.Lock()  # after a cell, it is another thread that draws
        self._leave_cells: Callable[[], None] = lambda: None
        _followers.add(self)

    def start(self) -> None:
        """Draw the card here; keep it moving from a thread until the run is over."""
        progress = self._look()
        self._show(progress)
        if _is_last(progress):
            return
        self._leave_cells = after_each_cell(self._after_cell)
        name = f"card of run {self._run.id}"
        thread_that_draws(target=self._follow, name=name).start()

    def stop(self) -> None:
        """Let the card be."""
        self._stop.set()
        self._leave_cells()

    def _draw(self, progress: Progress) -> None:
        with self._drawing:
            try:
                self._live(progress)
            except LookupError:  # ipykernel 7.0 knows where to draw in the cell's context alone
                self._context.run(self._live, progress)

    def _look(self) -> Progress:
        """Return where the run is; with a summary when nobody here follows it any more."""
        parting = self._run.parting()  # before the progress: it may end in between
        progress = self._run.progress
        return replace(progress, summary=parting) if parting and not progress.is_over else progress

    def _follow(self) -> None:
        with self._unheard():
            while not self._stop.wait(SECONDS_BETWEEN_UPDATES):
                if getattr(threading.current_thread(), "should_exit", False):
                    return  # a marimo cell was run again
                obey(self._live, self._run, self._clock.monotonic())
                progress = self._look()
                self._show(progress)
                if _is_last(progress):
                    return

    def _after_cell(self) -> None:
        """Draw the last card once more, within a cell: what comes between two, some do not see.

        A notebook that is run without a browser is over as soon as its last cell is.
        """
        with self._unheard():
            progress = self._look()
            if _is_last(progress):
                self._leave_cells()
                self._draw(progress)

    @contextlib.contextmanager
    def _unheard(self) -> Iterator[None]:
        """Let no error of a card disturb a run, or a cell that has nothing to do with it."""
        try:
            yield
        except Exception:
            self._leave_cells()
            log.warning(BROKEN, self._run.id, exc_info=True)


def _is_last(progress: Progress) -> bool:
    return progress.is_over or bool(progress.summary)


_followers: weakref.WeakSet[Follower] = weakref.WeakSet()


@atexit.register
def _leave() -> None:
    for follower in list(_followers):
        follower.stop()
