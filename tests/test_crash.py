"""kill -9 at every durable step, in real processes: the same call finishes the work, paid once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_batch_pandas.emulator import Emulator, serve
from tests.lives import Cell, judge, live

STEPS = [
    "catalog:save",
    "spool:Spool.publish",
    "store:Store.add_run",
    "resending:checked_body",
    "store:Store.mark_submitting",
    "client:Client.create",
    "store:Store.mark_submitted",
    "client:Client.retrieve",
    "store:Store.mark_seen",
    "collecting:verify",
    "collecting:collect",
    "store:Store.mark_collected",
    "store:Store.mark_ended",
]
ONCE = {"catalog:save", "spool:Spool.publish", "store:Store.add_run", "store:Store.mark_ended"}


@pytest.fixture(scope="module")
def api() -> Iterator[tuple[Emulator, str]]:
    """Serve an emulator that ends every batch at once."""
    emulator = Emulator(duration=0.0)
    with serve(emulator=emulator) as url:
        yield emulator, url


@pytest.fixture
def cell(api: tuple[Emulator, str], tmp_path: Path) -> Cell:
    """Return the call of every process, to a server that holds no batches."""
    emulator, url = api
    emulator.batches.clear()
    emulator.calls.clear()
    return Cell(url=url, home=tmp_path / "ledger", path=tmp_path / "out.pkl")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step_the_same_call_finishes(
    step: str, when: str, api: tuple[Emulator, str], cell: Cell
) -> None:
    """Whatever the step, every request is paid once and every row has its own answer."""
    killed = live(cell.but(step=step, when=when, nth=1 if step in ONCE else 2))
    finished = live(cell)

    assert killed == -signal.SIGKILL
    assert finished == 0
    assert judge(api[0], cell) == []


def test_finished_shards_are_not_downloaded_again(api: tuple[Emulator, str], cell: Cell) -> None:
    """Killed after the second shard was collected, only the other shards are downloaded."""
    emulator, _ = api
    live(cell.but(step="store:Store.mark_collected", when="after", nth=2))
    emulator.calls.clear()
    live(cell)

    assert len(emulator.batches) == 4
    assert sum(call.path.endswith("/results") for call in emulator.calls) == 2
    assert not any(call.method == "POST" for call in emulator.calls)


def test_a_killed_draft_leaves_nothing_behind(cell: Cell) -> None:
    """What was rendered but never became a run is cleaned up by the next call."""
    live(cell.but(step="catalog:save", when="before"))
    drafts = list((cell.home / "runs").glob(".draft-*"))
    live(cell)

    assert len(drafts) == 1
    assert not list((cell.home / "runs").glob(".draft-*"))
