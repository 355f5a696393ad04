"""Clocks that are wrong by years, and by others in the next life: the server's tells what counts."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas import session
from claude_batch_pandas.emulator import Emulator, Fault, serve
from claude_batch_pandas.exceptions import PausedError
from tests.lives import Cell, Life, WrongClock, frame, judge

needs_fork = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork server")

AHEAD, BEHIND, UNSET = (10.0,), (-10.0,), (-56.0,)  # the last without a battery, in the year 1970
POST: dict[str, Any] = {"method": "POST", "path": "/v1/messages/batches"}


@needs_fork
@pytest.mark.parametrize("step", ["client:Client.create", "store:Store.mark_seen"])
@pytest.mark.parametrize(
    ("before", "after"),
    [(AHEAD, BEHIND), (BEHIND, AHEAD), (UNSET, AHEAD), ((10.0, -10.0, 0.0), (-10.0, 10.0, 0.0))],
    ids=["ahead, then behind", "behind, then ahead", "unset, then ahead", "at every look"],
)
def test_lives_with_clocks_that_differ_by_years_pay_once(
    before: tuple[float, ...], after: tuple[float, ...], step: str, tmp_path: Path
) -> None:
    """The work is finished, and nobody is told that results are gone, or will be in days."""
    emulator = Emulator(duration=0.0)
    with serve(emulator=emulator) as url:
        cell = Cell(url=url, home=tmp_path / "ledger", path=tmp_path / "out.pkl", years=before)
        killed = Life(cell.but(step=step, when="after", nth=2)).end()
        life = Life(cell.but(years=after))
        finished = life.end()
    warned = " ".join(told[1] for told in life.told() if told[0] == "warned")

    assert (killed, finished) == (-signal.SIGKILL, 0)
    assert "deleted them" not in warned
    assert "within" not in warned
    assert judge(emulator, cell) == []


def test_a_call_cut_short_is_gone_on_with_after_the_clock_was_set_back(
    connect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With reuse=False, an older run from a later year does not hide the unfinished one."""
    faults = [Fault(**POST, skip=1, status=401)]
    client = connect(Emulator(duration=0.0, faults=faults))
    cbp.options.poll_seconds = (0.01, 0.02)
    monkeypatch.setattr(session, "clock", WrongClock(10.0))
    frame().claude.batch("{text}", client=client, reuse=False)
    monkeypatch.setattr(session, "clock", WrongClock(0.0))
    with pytest.raises(PausedError, match="401"):
        frame().claude.batch("{text}", client=client, reuse=False)
    frame().claude.batch("{text}", client=client, reuse=False)

    assert len(cbp.runs()) == 2
