"""Processes that take turns: threads of which exactly one runs, on one virtual clock.

A kernel is a simulated process with a main thread and workers. At every boundary it reaches (a
commit, a write, a call, a wait) its fate may strike: it dies, is interrupted, or sleeps for days
with its lid closed. A dead kernel gets `Death` at this and every later boundary, so nothing that
its `finally` and `except` blocks still try has an effect.
"""

from __future__ import annotations

import heapq
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random
from types import SimpleNamespace
from typing import Any

from claude_batch_pandas.workers import Crew

NEVER = float("inf")
MOST_STEPS = 5_000  # boundaries of one schedule; more is a loop without an end


class Death(BaseException):
    """The process is gone; nothing in it may catch this and go on."""


@dataclass
class Fate:
    """What strikes a kernel, each at the n-th boundary of a kind."""

    doom: tuple[str, int] | None = None
    is_power: bool = False  # the machine loses power, so whatever was not synced may be lost
    interrupt: tuple[str, int] | None = None  # of the main thread
    nap: tuple[str, int] | None = None  # the lid is closed
    nap_seconds: float = 0.0
    full: tuple[str, int] | None = None  # the disk is full, once


@dataclass(eq=False)
class Kernel:
    """One process, until it dies."""

    name: str
    turns: Turns
    fate: Fate
    fault_rate: float = 0.0
    skew: float = 0.0  # of its wall clock
    crew: Crew = field(init=False)
    owner: object = None  # who starts it again
    is_dead: bool = False
    has_crashed: bool = False
    slept: float = 0.0  # with the lid closed; its monotonic clock stood still
    _met: Counter[str] = field(default_factory=Counter)

    def check(self) -> None:
        """Let a dead process do nothing."""
        if self.is_dead:
            raise Death

    def reach(self, kind: str, what: str, *, calm: bool = False, awake: bool = False) -> None:
        """Come to a boundary.

        Parameters
        ----------
        kind, what : str
        calm : bool
            Nobody else's turn may come here.
        awake : bool
            The lid is not closed here: bytes that left a process are not held back for hours.
        """
        self.check()
        self.turns.note(kind, what)
        self._met[kind] += 1
        here, fate = (kind, self._met[kind]), self.fate
        if here == fate.doom:
            self.die("loses power" if fate.is_power else "is killed")
        if here == fate.nap and awake:
            fate.nap = (kind, here[1] + 1)
        elif here == fate.nap:
            self.turns.nap(self, fate.nap_seconds)
        if fate.interrupt == here:
            fate.interrupt = None
            if self.turns.is_main:
                self.turns.note("fate", f"{self.name} is interrupted")
                raise KeyboardInterrupt
            fate.interrupt = (kind, here[1] + 1)
        if not calm:
            self.turns.offer()

    def is_full(self, kind: str) -> bool:
        """Tell, once, whether the disk takes no more."""
        if self.fate.full != (kind, self._met[kind]):
            return False
        self.fate.full = None
        self.turns.note("fate", f"the disk of {self.name} is full")
        return True

    def die(self, how: str) -> None:
        """End here and now."""
        self.turns.note("fate", f"{self.name} {how}")
        self.turns.kill(self)
        raise Death

    def leave(self) -> None:
        """Exit, as a script does at its end."""
        self.turns.note("fate", f"{self.name} exits")
        self.turns.bury(self)
        raise Death


class Turn:
    """One thread of a kernel."""

    def __init__(
        self, kernel: Kernel, target: Callable[[], None], due: float, *, is_main: bool
    ) -> None:
        self.kernel, self.due, self.is_main = kernel, due, is_main
        self.event: Event | threading.Event | None = None
        self.thaws = 0.0  # not before, whatever it waits for
        self.baton = threading.Lock()
        self.baton.acquire()
        self._target = target
        self.thread = threading.Thread(target=self._main, daemon=True)

    def soonest(self) -> float:
        """Return when it could go on."""
        is_called = self.event is not None and self.event.is_set()
        return self.thaws if is_called else max(self.due, self.thaws)

    def _main(self) -> None:
        self.baton.acquire()
        turns = self.kernel.turns
        try:
            self.kernel.check()
            self._target()
        except Death:
            pass
        except BaseException as error:  # noqa: BLE001 - told by `run`, in the thread that asked
            turns.fail(error)
        turns.end(self)


class Turns:
    """Who runs, and what time it is.

    Parameters
    ----------
    dice : Random
    start : float
        Seconds since 1970.
    keep : bool
        Whether to keep a trace of every boundary.
    """

    def __init__(self, dice: Random, start: float, *, keep: bool = False) -> None:
        self.now = start
        self.current: Turn | None = None
        self.trace: list[tuple[float, str, str, str]] = []
        self.is_stuck = False
        self.restlessness = 0.2  # how readily another thread gets its turn
        self.on_gone: Callable[[Kernel], None] = lambda _: None
        self._dice, self._start, self._keep = dice, start, keep
        self._turns: list[Turn] = []
        self._dead: list[Kernel] = []
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = count()
        self._steps = 0
        self._failure: BaseException | None = None
        self._home = threading.Lock()
        self._home.acquire()

    @property
    def kernel(self) -> Kernel | None:
        """The process that runs; None outside of the simulation."""
        return None if self.current is None else self.current.kernel

    @property
    def is_main(self) -> bool:
        """Whether a main thread runs."""
        return self.current is not None and self.current.is_main

    def note(self, kind: str, what: str) -> None:
        """Keep what happened for the trace."""
        if self._keep:
            name = "world" if self.current is None else self.current.kernel.name
            if self.current is not None and not self.current.is_main:
                name += "'s worker"
            self.trace.append((self.now - self._start, name, kind, what))

    def told(self) -> list[str]:
        """Return the trace, for people."""
        return [
            f"{seconds:12.2f}  {name:<20}  {kind:<7} {what}"
            for seconds, name, kind, what in self.trace
        ]

    def begin(
        self, kernel: Kernel, target: Callable[[], None], after: float = 0.0, *, is_main: bool
    ) -> None:
        """Add a thread to a kernel."""
        turn = Turn(kernel, target, self.now + after, is_main=is_main)
        self._turns.append(turn)
        turn.thread.start()

    def at(self, when: float, action: Callable[[], object]) -> None:
        """Have the world do something at a time."""
        heapq.heappush(self._agenda, (when, next(self._numbers), action))

    def run(self) -> None:
        """Let everybody run until all are done."""
        if self._turns:
            self._hand_over(None)
            self._home.acquire()
        if self._failure is not None:
            raise self._failure

    def sleep(self, seconds: float, event: Any = None) -> None:
        """Let this thread wait for time to pass, or for an event."""
        turn = self.current
        assert turn is not None, "only simulated threads wait"
        turn.kernel.check()
        turn.due, turn.event = self.now + seconds, event
        self._hand_over(turn)
        turn.kernel.check()

    def offer(self) -> None:
        """Take a moment, perhaps, in which somebody else has the turn."""
        if len(self._turns) > 1 and self._dice.random() < self.restlessness:
            self.sleep(self._dice.choice([0.0, 0.1, 1.0]))

    def nap(self, kernel: Kernel, seconds: float) -> None:
        """Close the lid of a kernel: its threads and its monotonic clock stand still."""
        self.note("fate", f"{kernel.name} sleeps for {seconds:.0f} s")
        kernel.slept += seconds
        for turn in self._turns:
            if turn.kernel is kernel:
                turn.thaws = self.now + seconds
                turn.due += seconds
        self.sleep(0.0)

    def kill(self, kernel: Kernel) -> None:
        """End a kernel, and with the power all of them."""
        everybody = {turn.kernel for turn in self._turns} if kernel.fate.is_power else {kernel}
        for other in sorted(everybody, key=lambda one: one.name):
            other.has_crashed = True
            self.bury(other)

    def bury(self, kernel: Kernel) -> None:
        """Let a kernel's threads find out that it is no more."""
        kernel.is_dead = True
        self._dead.append(kernel)

    def fail(self, error: BaseException) -> None:
        """Keep an error of the simulation itself, and end it."""
        self._failure = self._failure or error
        for turn in self._turns:
            turn.kernel.is_dead = True

    def end(self, turn: Turn) -> None:
        """Take a thread out, and let the next one run."""
        self._turns.remove(turn)
        try:
            if self._dead and not any(other.kernel.is_dead for other in self._turns):
                dead, self._dead = self._dead, []
                self.current = None
                for kernel in dead:
                    self.on_gone(kernel)
        except BaseException as error:  # noqa: BLE001 - as above
            self.fail(error)
        self._hand_over(None)

    def _hand_over(self, turn: Turn | None) -> None:
        try:
            chosen = self._choose()
        except BaseException as error:  # noqa: BLE001 - the world's, told by `run`
            self.fail(error)
            chosen = self._turns[0] if self._turns else None
        self.current = chosen
        if turn is not None and chosen is turn:
            return
        (self._home if chosen is None else chosen.baton).release()
        if turn is not None:
            turn.baton.acquire()

    def _choose(self) -> Turn | None:
        """Return whose turn it is, letting time pass when nobody is ready."""
        self._steps += 1
        if self._steps > MOST_STEPS:
            self._give_up()
        while self._turns:
            for turn in self._turns:  # the dead go first, before anybody sees what they left
                if turn.kernel.is_dead:
                    return turn
            ready = [turn for turn in self._turns if turn.soonest() <= self.now]
            if ready:
                return ready[0] if len(ready) == 1 else self._dice.choice(ready)
            soonest = min(turn.soonest() for turn in self._turns)
            if self._agenda and self._agenda[0][0] <= soonest:
                when, _, action = heapq.heappop(self._agenda)
                self.now = max(self.now, when)
                self.current = None
                action()
            elif soonest < NEVER:
                self.now = soonest
            else:
                self._give_up()
        return None

    def _give_up(self) -> None:
        """End all that goes on: nobody can, or nobody ever will."""
        self.is_stuck = True
        for turn in self._turns:
            turn.kernel.is_dead = True


class Event:
    """`threading.Event` in virtual time."""

    def __init__(self, turns: Turns) -> None:
        self._turns, self._flag = turns, False

    def is_set(self) -> bool:
        """Tell whether it is set."""
        return self._flag

    def set(self) -> None:
        """Let those who wait go on."""
        self._flag = True

    def clear(self) -> None:
        """Let those who come wait again."""
        self._flag = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, at most that long."""
        kernel = self._turns.kernel
        assert kernel is not None, "only simulated threads wait"
        kernel.reach("idle", "waits", calm=True)
        if not self._flag:
            self._turns.sleep(NEVER if timeout is None else timeout, self)
        return self._flag


class Mutex:
    """`threading.Lock` in virtual time."""

    def __init__(self, turns: Turns) -> None:
        self._turns, self._is_free = turns, True

    def __enter__(self) -> None:
        while not self._is_free:
            self._turns.sleep(1.0)
        self._is_free = False

    def __exit__(self, *_: object) -> None:
        self._is_free = True


class Clock:
    """The clock of whichever kernel asks: its own wall, its own monotonic time."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def now(self) -> float:
        """Return the seconds since 1970, as this machine thinks."""
        kernel = self._turns.kernel
        return self._turns.now + (0.0 if kernel is None else kernel.skew)

    def monotonic(self) -> float:
        """Return seconds that stand still while the lid is closed."""
        kernel = self._turns.kernel
        return self._turns.now - (0.0 if kernel is None else kernel.slept)

    def wait(self, event: Any, seconds: float) -> bool:
        """Wait until the event is set, at most that long; one can die before and after."""
        kernel = self._turns.kernel
        assert kernel is not None, "only simulated threads wait"
        kernel.reach("wait", f"waits {seconds:.0f} s")
        self._turns.sleep(seconds, event)
        kernel.reach("wait", "goes on")
        return bool(event.is_set())


def threading_of(turns: Turns) -> SimpleNamespace:
    """Return what stands for the module `threading` in simulated processes."""

    class Thread:
        def __init__(self, target: Any, args: Any = (), **_: Any) -> None:
            self._start = lambda: target(*args)

        def start(self) -> None:
            kernel = turns.kernel
            assert kernel is not None, "only simulated threads start others"
            turns.begin(kernel, self._start, is_main=False)

    return SimpleNamespace(Thread=Thread, Event=lambda: Event(turns), Lock=lambda: Mutex(turns))
