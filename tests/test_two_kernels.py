"""Two processes with the same call, killed at any moment: paid once, and the other takes over."""

from __future__ import annotations

import random
import socket
import sys
import time
from pathlib import Path

import pytest

from claude_batch_pandas.emulator import Emulator, SimulatedClock, serve
from tests.lives import SHARDS, Cell, Life, judge
from tests.test_kills import LONGEST, faults

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there a lock always succeeds")


def loop(seed: int, folder: Path) -> list[str]:
    """Let two kernels ask the same, kill one after the other, and return what is wrong then."""
    dice = random.Random(seed)  # noqa: S311 - dice
    emulator = Emulator(duration=dice.choice([0.0, 0.2]), faults=[*faults(dice)], seed=seed)
    with serve(emulator=emulator) as url:
        cell = Cell(url=url, home=folder / "ledger", path=folder / "first.pkl")
        cells = [cell, cell.but(path=folder / "second.pkl")]
        lives = [Life(cell) for cell in cells]
        for _ in range(dice.randint(1, 6)):
            one = dice.randrange(2)
            if not lives[one].is_over_in(dice.uniform(0.0, LONGEST)):
                lives[one].kill()
            lives[one] = Life(cells[one])
        codes = [life.end() for life in lives]
    if any(codes):
        return [f"the last lives ended with {codes}"]
    return [what for cell in cells for what in judge(emulator, cell)]


@pytest.mark.parametrize("seed", range(5))
def test_two_kernels_that_are_killed_again_and_again_pay_once(seed: int, tmp_path: Path) -> None:
    """Whoever dies while it plans, sends or collects, the other one, or its rerun, goes on."""
    assert loop(seed, tmp_path) == []


def test_who_follows_names_the_driver_and_takes_over(tmp_path: Path) -> None:
    """It says at once who drives the run, from where; and drives it itself when that one dies."""
    clock = SimulatedClock()
    emulator = Emulator(clock=clock, duration=60.0)
    with serve(emulator=emulator) as url:
        cell = Cell(url=url, home=tmp_path / "ledger", path=tmp_path / "out.pkl")
        driver = Life(cell)
        driver.until("progress", lambda *told: told[2] == SHARDS)
        follower = Life(cell.but(waits=True))
        follower.until("ready")
        asked_at = time.monotonic()
        follower.go()
        note, *_, told_at = follower.until("progress", lambda note, *_: "driven by" in note)
        driver.kill()
        clock.advance(60.0)
        finished = follower.end()

    assert f"driven by process {driver.pid} on {socket.gethostname()} since " in note
    assert told_at - asked_at < 1.0
    assert finished == 0
    assert judge(emulator, cell) == []
