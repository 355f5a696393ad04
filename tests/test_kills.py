"""kill -9 at any moment, beside a server that loses answers: the same call finishes, paid once."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_batch_pandas.emulator import Emulator, Fault, serve
from tests.lives import Cell, Life, judge, live

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork server")

BATCHES = "/v1/messages/batches"
LONGEST = 0.8  # seconds before a kill; an undisturbed life takes about as long
ODDS = 0.25  # that something goes wrong with the n-th call of its kind
WRONGS = [
    Fault(method="POST", path=BATCHES, after=True, drop=True),
    Fault(method="POST", path=BATCHES, after=True, status=500),
    Fault(method="POST", path=BATCHES, after=True, status=200, body=b"<html>a portal</html>"),
    Fault(method="POST", path=BATCHES, drop=True),
    Fault(method="POST", path=BATCHES, status=529),
    Fault(method="GET", path=f"{BATCHES}.*", status=500),
    Fault(method="GET", path=f"{BATCHES}.*", drop=True),
    Fault(method="GET", path=f"{BATCHES}/.*/results", truncate=1000),
]


def faults(dice: random.Random) -> Iterator[Fault]:
    """Yield what goes wrong at the server."""
    for nth in range(10):
        if dice.random() < ODDS:
            wrong = dice.choice(WRONGS)
            yield Fault(**(vars(wrong) | {"skip": nth}))


def loop(seed: int, folder: Path) -> list[str]:
    """Kill one call again and again, let it end, and return what is wrong then."""
    dice = random.Random(seed)  # noqa: S311 - dice
    emulator = Emulator(duration=dice.choice([0.0, 0.05, 0.2]), faults=[*faults(dice)], seed=seed)
    with serve(emulator=emulator) as url:
        cell = Cell(url=url, home=folder / "ledger", path=folder / "out.pkl")
        for _ in range(dice.randint(1, 5)):
            life = Life(cell)
            if life.is_over_in(dice.uniform(0.0, LONGEST)):
                break
            life.kill()
        code = live(cell)
    return [f"the last life ended with {code}"] if code else judge(emulator, cell)


@pytest.mark.parametrize("seed", range(20))
def test_a_call_that_is_killed_again_and_again_is_paid_once(seed: int, tmp_path: Path) -> None:
    """Whenever it is killed and whatever the server loses, every row has its own answer."""
    assert loop(seed, tmp_path) == []
