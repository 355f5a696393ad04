"""Schedules by the hundred thousand: counted, remembered on disk, stopped and gone on with."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from tests.simulator.judge import PROMISES, Counts

CHUNK = 20  # schedules; what is lost at most by stopping, per process
SECONDS_BETWEEN_LINES = 10.0
MOST_FAILURES = 100  # that are kept in words


@dataclass
class Soak:
    """How far it has come.

    Attributes
    ----------
    first, next : int
        The seed it began with, and the first that was not played yet.
    failures : list of (seed, complaints)
    """

    first: int
    next: int
    counts: Counts = field(default_factory=Counts)
    failures: list[tuple[int, list[str]]] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path | None, first: int) -> Soak:
        """Return what a state file holds, or a beginning."""
        if path is None or not path.exists():
            return cls(first, first)
        told = json.loads(path.read_text())
        if told["first"] != first:
            msg = f"{path} began with seed {told['first']}, not {first}. Use another --state."
            raise SystemExit(msg)
        failures = [(seed, words) for seed, words in told["failures"]]
        return cls(first, told["next"], Counts(**told["counts"]), failures)

    def save(self, path: Path | None) -> None:
        """Write it down: whole, or as it was before."""
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        with temporary.open("w") as file:
            json.dump(asdict(self), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    def take(self, chunk: Soak) -> None:
        """Add what came of the next seeds."""
        self.next = chunk.next
        self.counts.add(chunk.counts)
        self.failures = [*self.failures, *chunk.failures][:MOST_FAILURES]

    def line(self) -> str:
        """Return one line of counts."""
        kept = "clean" if self.counts.is_clean else "NOT CLEAN"
        counts = ", ".join(f"{value:,} {name}" for name, value in asdict(self.counts).items())
        return f"{kept}: {counts.replace('_', ' ')}"

    def table(self) -> str:
        """Return the counts, and what they prove."""
        schedules = self.counts.schedules
        lines = [f"{'':<14}{'count':>12}  95 % upper bound per schedule"]
        for name, value in asdict(self.counts).items():
            bound = ""
            if name in PROMISES and schedules:
                bound = f"{3 / schedules:.1e}" if not value else f"seen in {value / schedules:.1e}"
            lines.append(f"{name.replace('_', ' '):<14}{value:>12,}  {bound}".rstrip())
        lines += [f"seed {seed}: {'; '.join(words)[:500]}" for seed, words in self.failures]
        return "\n".join(lines)


def soak(
    schedules: int, first: int, state: Path | None, jobs: int, say: Callable[[str], None]
) -> Soak:
    """Play schedules until there are that many, or until Ctrl-C.

    Parameters
    ----------
    schedules : int
        How many, with those that the state file has already.
    first : int
        The first one's seed.
    state : Path or None
        Where the progress is kept.
    jobs : int
        Processes.
    say : callable
        Told a line now and then.
    """
    done = Soak.load(state, first)
    told = time.monotonic()
    try:
        for chunk in _chunks(done.next, first + schedules, jobs):
            for seed, words in chunk.failures:
                say(f"seed {seed}: {'; '.join(words)[:500]}")
            done.take(chunk)
            if time.monotonic() - told >= SECONDS_BETWEEN_LINES:
                told = time.monotonic()
                done.save(state)
                say(done.line())
    except KeyboardInterrupt:
        say("stopped; the same command goes on")
    done.save(state)
    return done


def _chunks(start: int, end: int, jobs: int) -> Iterator[Soak]:
    """Yield what comes of all seeds, in order; a process that is stopped leaves no files."""
    bounds = [(seed, min(seed + CHUNK, end)) for seed in range(start, end, CHUNK)]
    memory = "/dev/shm"  # noqa: S108 - a folder of its own is made in it
    folder = tempfile.mkdtemp(prefix="soak-", dir=memory if os.path.isdir(memory) else None)
    try:
        with multiprocessing.get_context("spawn").Pool(jobs, _begin) as pool:
            yield from pool.imap(partial(_play, folder), bounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _begin() -> None:
    """Leave Ctrl-C to the parent, and what was imported out of every collection of garbage."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import tests.simulator.schedule  # noqa: F401 - for what it imports

    gc.collect()
    gc.freeze()


def _play(folder: str, bounds: tuple[int, int]) -> Soak:
    from tests.simulator.schedule import play

    start, end = bounds
    done = Soak(start, end)
    for seed in range(start, end):
        verdict = play(seed, folder=folder)
        done.counts.add(verdict.counts)
        if not verdict.counts.is_clean:
            done.failures.append((seed, verdict.complaints))
    return done
