"""One schedule: the lives of everybody's kernels, one after another, and the judgement."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pandas as pd

from claude_batch_pandas import session
from claude_batch_pandas.exceptions import BatchError, PausedError
from claude_batch_pandas.store import Store
from claude_batch_pandas.workers import Crew
from tests.simulator.disk import Disk
from tests.simulator.judge import Counts, Judge
from tests.simulator.machine import Patches, installed, network, swapped
from tests.simulator.people import Deeds
from tests.simulator.plans import DAY, Cell, Person, make_fate, make_pause, make_plan
from tests.simulator.turns import Fate, Kernel, Turns
from tests.simulator.world import World

START = 1_800_000_000.0
MOST_TRIES = 30  # of one person; whoever needs more has a run that does not end


@dataclass
class Verdict:
    """What came of a schedule."""

    seed: int
    counts: Counts
    complaints: list[str]
    trace: list[str] = field(default_factory=list)


class Schedule:
    """Everything that happens in one simulated world.

    Parameters
    ----------
    seed : int
        All follows from it.
    home : Path
        Of the ledger.
    keep : bool
        Whether to keep a trace.
    """

    def __init__(self, seed: int, home: Path, *, keep: bool = False) -> None:
        self.seed, self.home = seed, home
        self.plan = make_plan(seed)
        self.turns = Turns(Random(f"{seed}/turns"), START, keep=keep)
        self.turns.on_gone = self._bury
        self.disk = Disk(self.turns, Random(f"{seed}/disk"))
        dice = Random(f"{seed}/world")
        self.world = World(self.turns, self.plan.settings, dice, self.plan.texts)
        self.counts = Counts(schedules=1)
        self.complaints: list[str] = []
        self._dice = Random(f"{seed}/lives")
        self._deeds = Deeds(self.turns, self._dice)
        self._seen: dict[Cell, pd.DataFrame] = {}  # what people saw last

    def play(self) -> Verdict:
        """Let it all happen, and judge it."""
        network().enter(self.turns, self.world, Random(f"{self.seed}/network"))
        try:
            with installed(self.seed, self.plan, self.turns, self.disk, self.home):
                first = make_pause(self._dice)
                for person in self.plan.people:
                    is_late = self._dice.random() < 0.3
                    self._be_born(person, make_pause(self._dice) if is_late else first)
                self.turns.run()
                self._look_again()
        except Exception:  # noqa: BLE001 - of the package, where nobody could catch it
            self.complaints.append(traceback.format_exc())
            self._seen.clear()
        self._judge()
        self.counts.faults = network().faults
        return Verdict(self.seed, self.counts, self.complaints, self.turns.told())

    # Lives

    def _be_born(self, person: Person, after: float) -> None:
        """Start a kernel for somebody."""
        person.lives += 1
        options, trouble = self.plan.options, person.trouble
        fate = make_fate(self._dice, trouble, has_power_cuts=options.has_power_cuts)
        name = f"{person.name} {person.lives}"
        kernel = Kernel(name, self.turns, fate, options.fault_rate * trouble, options.skew)
        kernel.crew = Crew()
        kernel.owner = person
        self.turns.begin(kernel, lambda: self._live(person, kernel), after, is_main=True)

    def _bury(self, kernel: Kernel) -> None:
        """Lose what a crash loses, and let the person start again."""
        self.disk.close(kernel)
        kernel.crew.forget()  # the system lets go of its locks
        if self.turns.is_stuck:
            return
        self.counts.crashes += kernel.has_crashed
        if kernel.has_crashed and kernel.fate.is_power:
            self.disk.lose()
        person = kernel.owner
        if isinstance(person, Person) and not person.is_done and person.tries < MOST_TRIES:
            self._be_born(person, make_pause(self._dice))

    def _live(self, person: Person, kernel: Kernel) -> None:
        """Do what is left to do, in one kernel."""
        while not person.is_done and person.tries < MOST_TRIES:
            person.tries += 1
            what, cell = person.things[person.done]
            self.turns.note("person", f"{what} {cell.name}, try {person.tries}")
            try:
                self._seen[cell] = self._deeds.do(what, cell)
            except (BatchError, KeyboardInterrupt) as error:
                self.turns.note("person", f"is told: {type(error).__name__}: {error}")
                self._deeds.follow(person, str(error))
                kernel.fault_rate = self.plan.options.fault_rate * person.trouble
                if self._dice.random() < 0.5:
                    break
                self.turns.sleep(self._dice.choice([0.0, 10.0, 1000.0]))
            else:
                person.done += 1
        with contextlib.suppress(KeyboardInterrupt):
            kernel.crew.leave(session.LEAVE_SECONDS)
        kernel.leave()

    # Afterwards

    def _look_again(self) -> None:
        """Run every cell a last time, when nothing goes wrong any more."""
        if not self.plan.looks_again or self.turns.is_stuck:
            return
        kernel = Kernel("afterwards", self.turns, Fate())
        kernel.crew = Crew()
        self._seen.clear()

        def live() -> None:
            for cell in self.plan.cells:
                # Whoever asked anew finds those answers without asking anew once more.
                cell.reuse = True
            for cell in self.plan.cells:
                self._look_at(cell)
            kernel.crew.leave(session.LEAVE_SECONDS)

        self.turns.begin(kernel, live, is_main=True)
        self.turns.run()

    def _look_at(self, cell: Cell) -> None:
        """Run a cell, and do what is advised where it needs a person."""
        last = Person("afterwards", [("ask", cell)])
        while not last.is_done and last.tries < MOST_TRIES:
            last.tries += 1
            _, asked = last.things[last.done]
            try:
                self._seen[asked] = self._deeds.ask(asked, reuse=asked.reuse)
                last.done += 1
            except PausedError as pause:
                self._deeds.follow(last, str(pause))
            except BatchError:
                self.complaints.append(traceback.format_exc())
                return

    def _judge(self) -> None:
        self.turns.now += 3 * DAY  # whatever still runs ends
        judge = Judge(self.world, self._deeds.allowed, self.counts, self.complaints)
        judge.look_at_batches(Store(self.home).batch_ids())
        if self._deeds.caps:
            judge.look_at_dollars(self._allowance())
        if self.plan.keeps_word:
            judge.look_at_payments()
        for cell, out in self._seen.items():
            judge.look_at_rows(cell.texts, out, may_be_late=not self.plan.keeps_word)
        for person in self.plan.people:
            if not person.is_done:
                what, cell = person.things[person.done]
                self.complaints.append(f"{person.name} did not end: {what} {cell.name}")
        if self.turns.is_stuck:
            self.complaints.append("nobody could go on, or nobody ever would have stopped")
        self.counts.unfinished = int(
            self.turns.is_stuck
            or len(self._seen) < len(self.plan.cells)
            or not all(person.is_done for person in self.plan.people)
        )

    def _allowance(self) -> float:
        """Return what all runs may cost together, in US dollars."""
        caps = self._deeds.caps
        most = sum(caps[run.name] for run in Store(self.home).runs())
        # What one run planned and another needs is sent for whoever comes first, under its cap.
        return most + (max(caps.values()) if len(self.plan.cells) > 1 else 0.0)


def play(
    seed: int,
    *,
    keep: bool = False,
    mutant: Callable[[], Patches] | None = None,
    folder: str | None = None,
) -> Verdict:
    """Play the schedule of a seed, and judge it.

    Parameters
    ----------
    seed : int
    keep : bool
        Whether to keep a trace.
    mutant : callable, optional
        Returns what to replace in the package: a mistake that the judge has to find.
    folder : str, optional
        Where the ledger lives for as long as the schedule; default: in memory, if that can be.
    """
    memory = "/dev/shm"  # noqa: S108 - a folder of its own is made in it
    place = folder or (memory if os.path.isdir(memory) else None)
    home = Path(tempfile.mkdtemp(prefix="simulator-", dir=place))
    try:
        with swapped([] if mutant is None else mutant()):
            return Schedule(seed, home / "ledger", keep=keep).play()
    finally:
        shutil.rmtree(home)
