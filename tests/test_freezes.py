"""Processes that are frozen, as by a closed lid, and thawed: one batch, and one driver."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_batch_pandas.emulator import Emulator, Fault, SimulatedClock, serve
from claude_batch_pandas.store import FILE
from tests.lives import SHARDS, Cell, Life, judge

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGSTOP")

READ_TIMEOUT = 0.4  # seconds that the SDK waits for an answer
FREEZE = 0.8  # seconds: longer than that, which is what is tested


class Held:
    """An answer to a POST that is kept back: the batch exists, and nobody is told."""

    def __init__(self) -> None:
        self.is_due = threading.Event()
        self.may_go = threading.Event()

    def __call__(self, body: bytes) -> bytes:
        """Keep an answer until it may go."""
        self.is_due.set()
        self.may_go.wait(60.0)
        return body


@pytest.fixture
def held() -> Iterator[Held]:
    """Return what keeps the answer to the second POST back."""
    answer = Held()
    yield answer
    answer.may_go.set()


@pytest.fixture
def emulator(held: Held) -> Emulator:
    return Emulator(
        duration=0.0,
        faults=[Fault(method="POST", path="/v1/messages/batches", edit=held, skip=1)],
    )


@pytest.fixture
def cell(emulator: Emulator, held: Held, tmp_path: Path) -> Iterator[Cell]:
    """Return a call with a client that does not wait for long."""
    with serve(emulator=emulator) as url:
        yield Cell(
            url=url,
            home=tmp_path / "ledger",
            path=tmp_path / "out.pkl",
            read_timeout=READ_TIMEOUT,
        )
        held.may_go.set()


def thaw(life: Life) -> int:
    """Let a process go on, and return its exit code."""
    life.strike(signal.SIGCONT)
    while not life.is_over_in(1.0):
        life.strike(signal.SIGCONT)  # it may have been struck only now
    return life.end()


@pytest.mark.parametrize("is_told", [True, False], ids=["answered meanwhile", "no answer"])
def test_frozen_while_it_waits_for_the_answer(
    is_told: bool, emulator: Emulator, cell: Cell, held: Held
) -> None:
    """The answer waits in the socket, or the time is over: the batch is the one that was made."""
    life = Life(cell)
    assert held.is_due.wait(60.0)
    life.strike(signal.SIGSTOP)
    if is_told:
        held.may_go.set()
    time.sleep(FREEZE)
    finished = thaw(life)

    assert finished == 0
    assert judge(emulator, cell) == []
    assert len(emulator.batches) == SHARDS


def test_frozen_before_the_body_was_sent(emulator: Emulator, cell: Cell, held: Held) -> None:
    """The server waits for the rest of the POST, and gets it when the process goes on."""
    held.may_go.set()
    life = Life(cell.but(step="spool:read_blocks", blow=signal.SIGSTOP))
    life.until("struck")
    time.sleep(FREEZE)
    finished = thaw(life)

    assert finished == 0
    assert judge(emulator, cell) == []
    assert len(emulator.batches) == SHARDS


def refreeze_until_free(life: Life, home: Path) -> None:
    """Freeze a process at another moment while a thread of it has the ledger locked."""
    while True:
        with contextlib.closing(sqlite3.connect(home / FILE, timeout=0.0)) as database:
            try:
                database.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError:
                life.strike(signal.SIGCONT)
                time.sleep(0.01)  # of another process
                life.strike(signal.SIGSTOP)
            else:
                return


def test_a_frozen_driver_is_not_taken_over(tmp_path: Path) -> None:
    """As long as it holds the lock it may wake up and send; the other one asks the API nothing."""
    clock = SimulatedClock()
    emulator = Emulator(clock=clock, duration=60.0)
    with serve(emulator=emulator) as url:
        cell = Cell(url=url, home=tmp_path / "ledger", path=tmp_path / "first.pkl")
        # Between two writes: a ledger that is frozen in one is locked, and the other is told so.
        asked = cell.but(step="client:Client.retrieve", nth=4 * SHARDS, blow=signal.SIGSTOP)
        driver = Life(asked)
        driver.until("struck")
        refreeze_until_free(driver, cell.home)
        clock.advance(60.0)
        other = cell.but(path=tmp_path / "second.pkl")
        follower = Life(other)
        follower.until("progress", lambda note, *_: f"process {driver.pid}" in note)
        emulator.calls.clear()  # what was on its way when the driver froze has arrived
        for _ in range(2):  # looks at the ledger, a second apart
            follower.until("progress", lambda note, *_: f"process {driver.pid}" in note)
        calls = list(emulator.calls)
        codes = [thaw(driver), follower.end()]

    assert calls == []
    assert codes == [0, 0]
    assert judge(emulator, cell) + judge(emulator, other) == []
