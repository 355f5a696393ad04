"""A few threads for all runs that a process waits for: one that waits needs none of its own."""

from __future__ import annotations

import threading
from typing import Protocol

from claude_batch_pandas.clock import Clock

MOST_THREADS = 8


class Task(Protocol):
    """Something that works for a moment, and then waits, again and again."""

    @property
    def clock(self) -> Clock:
        """What its waiting is measured by."""

    def advance(self) -> float | None:
        """Work until there is something to wait for; return the seconds, None at the end."""


class Pool:
    """Threads that take turns with tasks; there are never more of them than tasks.

    A thread waits for the task that is due first of those that no other thread waits for.

    Parameters
    ----------
    most : int
        Threads.
    """

    def __init__(self, most: int = MOST_THREADS) -> None:
        self._most = most
        self._mutex = threading.Lock()
        self._threads = 0
        self._due: dict[Task, float] = {}  # of tasks that wait, on the monotonic clock
        self._waiting: dict[Task, threading.Event] = {}  # of those, which end a thread's waiting
        self._at_work: dict[Task, bool] = {}  # and whether they were called meanwhile

    def add(self, task: Task) -> None:
        """Begin a task."""
        with self._mutex:
            self._due[task] = float("-inf")
            is_short = self._threads < self._most
            self._threads += is_short
            if not is_short:
                self._call()
        if is_short:
            threading.Thread(target=self._work, name="claude-batch", daemon=True).start()

    def wake(self, task: Task) -> None:
        """Have a task advance now, or again if it is at it."""
        with self._mutex:
            if task in self._at_work:
                self._at_work[task] = True
            elif task in self._due:
                self._due[task] = float("-inf")
                if task in self._waiting:
                    self._waiting[task].set()
                else:
                    self._call()

    def _call(self) -> None:
        """Have the thread that would wait longest take what is due before that, if anything is."""
        free = self._due.keys() - self._waiting.keys()
        if not free or not self._waiting:
            return
        last = max(self._waiting, key=self._due.__getitem__)
        if min(self._due[task] for task in free) < self._due[last]:
            self._waiting[last].set()

    def _work(self) -> None:
        turn = threading.Event()
        try:
            while (task := self._next(turn)) is not None:
                seconds = task.advance()
                if seconds is not None and seconds <= 0:
                    task.clock.wait(turn, 0.0)  # no time, but it may pass meanwhile
                self._back(task, seconds)
        except BaseException:
            with self._mutex:
                self._threads -= 1
            raise

    def _next(self, turn: threading.Event) -> Task | None:
        """Return a task that is due; wait for it. None when other threads wait for all."""
        while True:
            with self._mutex:
                free = self._due.keys() - self._waiting.keys()
                if not free:
                    self._threads -= 1
                    return None
                task = min(free, key=self._due.__getitem__)
                seconds = self._due[task] - task.clock.monotonic()
                if seconds <= 0:
                    del self._due[task]
                    self._at_work[task] = False
                    self._call()  # this thread waits for nothing any more
                    return task
                turn.clear()
                self._waiting[task] = turn
            task.clock.wait(turn, seconds)
            with self._mutex:
                del self._waiting[task]

    def _back(self, task: Task, seconds: float | None) -> None:
        with self._mutex:
            is_called = self._at_work.pop(task)
            if seconds is not None:
                self._due[task] = float("-inf") if is_called else task.clock.monotonic() + seconds
