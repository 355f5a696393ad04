"""A live card for a run that nobody waits for: a thread that looks, draws, and does what is clicked."""

from __future__ import annotations

import atexit
import contextvars
import logging
import threading
import weakref
from dataclasses import replace
from typing import Any, Protocol

from claude_batch_pandas.cards import Card
from claude_batch_pandas.clock import Clock
from claude_batch_pandas.progress import SECONDS_BETWEEN_UPDATES, Throttle
from claude_batch_pandas.records import Progress
from claude_batch_pandas.widgets import LiveCard, obey

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
        self._run = run
        self._stop = threading.Event()
        self._live = LiveCard(run.card)
        self._context = contextvars.copy_context()
        self._show = Throttle(self._draw, clock)
        _followers.add(self)

    def start(self) -> None:
        """Draw the card here; keep it moving from a thread until the run is over."""
        progress = self._run.progress
        self._show(progress)
        if progress.is_over:
            return
        name = f"card of run {self._run.id}"
        threading.Thread(target=self._follow, name=name, daemon=True).start()

    def stop(self) -> None:
        """Let the card be."""
        self._stop.set()

    def _draw(self, progress: Progress) -> None:
        try:
            self._live(progress)
        except LookupError:  # ipykernel 7.0 knows where to draw in the context of the cell alone
            self._context.run(self._live, progress)

    def _follow(self) -> None:
        try:
            while not self._stop.wait(SECONDS_BETWEEN_UPDATES):
                obey(self._live, self._run)
                parting = self._run.parting()  # before the progress: it may end in between
                progress = self._run.progress
                if parting and not progress.is_over:
                    progress = replace(progress, summary=parting)
                self._show(progress)
                if progress.is_over or parting:
                    return
        except Exception:  # a card must never disturb anything
            log.warning("The card of run %s stops; the run goes on.", self._run.id, exc_info=True)


_followers: weakref.WeakSet[Follower] = weakref.WeakSet()


@atexit.register
def _leave() -> None:
    for follower in list(_followers):
        follower.stop()
