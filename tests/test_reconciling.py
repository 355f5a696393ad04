"""What is told while a lost answer is looked into, and what a person is asked in the end."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas.emulator import Emulator, Rule
from claude_batch_pandas.store import Store
from tests.conftest import JumpingClock
from tests.test_steps import on_list, on_post, on_results

Connect = Callable[..., Any]
ROWS = 5
EMPTY = b'{"data": [], "has_more": false}'
LOST = "The answer to the submission of shard 0 was lost, and "


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame({"text": [f"row {i}" for i in range(ROWS)]})


def whole(message: str) -> str:
    """Return a pattern of a whole message."""
    return f"^{re.escape(message)}$"


def told(frame: pd.DataFrame, clock: JumpingClock, **how: Any) -> list[str]:
    """Make a call; return what was waited for in words, each once."""
    notes: list[str] = []
    run = frame.claude.submit("{text}", **how)
    clock.on_wait = lambda: notes.append(run.progress.note)
    run.wait()
    return list(dict.fromkeys(filter(None, notes)))


@pytest.mark.parametrize(
    ("policy", "note"),
    [
        ("resend", "not in the server's list; sent again if it stays away for 900 s"),
        ("ask", "not in the server's list; you are asked if it stays away for 900 s"),
        ("wait", 'not in the server\'s list; looked for, and never sent again: on_unknown="wait"'),
    ],
)
def test_what_is_waited_for_is_told(
    policy: str, note: str, frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """The batch shows up late; until then the note says what comes next, by the policy."""
    faults = [on_post(after=True, drop=True), on_list(skip=1, body=EMPTY, times=6)]
    emulator = Emulator(clock=clock.now, duration=60.0, faults=faults)
    notes = told(frame, clock, client=connect(emulator), on_unknown=policy)

    assert note in notes
    assert len(emulator.batches) == 1


def test_looks_are_not_far_apart_while_a_batch_may_show_up(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Not even in a hurry to settle: four looks at least before anything is concluded."""
    cbp.options.settle_seconds = 60.0
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[on_post(drop=True)])
    times: list[float] = []
    run = frame.claude.submit("{text}", client=connect(emulator))
    clock.on_wait = lambda: times.append(clock.now())
    run.wait()

    first = emulator.batches[0].created_at
    looks = [time for time in times if time <= first]
    gaps = [later - earlier for earlier, later in itertools.pairwise(looks)]
    assert max(gaps) <= 15.0
    assert 60.0 <= first - looks[0] < 90.0


def test_a_batch_of_the_same_size_that_runs_is_told(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    emulator = Emulator(clock=clock.now, duration=600.0, faults=[on_post(after=True, drop=True)])
    notes = told(frame, clock, client=connect(emulator))

    assert "a batch of the same size runs; its results will tell whether it is ours" in notes


def test_a_batch_whose_results_tell_nothing_is_looked_at_again(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Neither adopted nor ruled out, and not asked for again and again at once."""
    faults = [on_post(after=True, drop=True), on_results(body=b"", status=200, times=3)]
    emulator = Emulator(clock=clock.now, duration=1.0, faults=faults)
    notes = told(frame, clock, client=connect(emulator))

    note = f"batch {emulator.batches[0].id} may be ours, but its results cannot be read yet"
    assert note in notes
    assert len(emulator.batches) == 1


def test_who_is_asked_is_told_everything(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    emulator = Emulator(clock=clock.now, faults=[on_post(drop=True)])
    message = (
        f'{LOST}no batch of it showed up in the server\'s list. Run the cell with on_unknown="resend" '
        "to send it again (should it show up later, its price comes on top), or with "
        'on_unknown="wait" to look for it only.'
    )

    with pytest.raises(cbp.PausedError, match=whole(message)):
        frame.claude.batch("{text}", client=connect(emulator), on_unknown="ask")


def test_three_losses_in_a_row_are_told(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    emulator = Emulator(clock=clock.now, faults=[on_post(drop=True, times=None)])
    message = (
        f"{LOST}so were those of 3 more; none became a batch. Check the network and "
        "ANTHROPIC_BASE_URL, then call again."
    )

    with pytest.raises(cbp.PausedError, match=whole(message)):
        frame.claude.batch("{text}", client=connect(emulator))
    assert len([call for call in emulator.calls if call.method == "POST"]) == 4


def test_a_fence_that_is_gone_is_told(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect, home: Path
) -> None:
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[on_post(skip=1, drop=True)])
    client = connect(emulator)
    pd.DataFrame({"text": ["before"]}).claude.batch("{text}", client=client)
    clock.on_wait = lambda: client.messages.batches.delete(emulator.batches[0].id)
    message = (
        f"{LOST}the batch that marked its place in the server's list is gone, so it cannot be "
        "shown that nothing was accepted. It is not sent again; run the cell with reuse=False to "
        "ask anew, at the price of asking twice."
    )

    run = frame.claude.submit("{text}", client=client)

    def delete() -> None:
        clock.on_wait = lambda: None
        client.messages.batches.delete(emulator.batches[0].id)

    clock.on_wait = delete
    with pytest.raises(cbp.PausedError, match=whole(message)):
        run.wait()
    assert Store(home).run(run.id).note == message


def test_a_batch_of_ours_is_known_by_one_line(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """The rest is collected when it is whole: here the first look sees one line of five."""
    first_line = on_results(edit=lambda body: body[: body.find(b"\n") + 1])
    faults = [on_post(after=True, drop=True), first_line]
    emulator = Emulator(clock=clock.now, duration=1.0, faults=faults)
    emulator.rules = (Rule(outcome="succeeded"),)
    out = frame.claude.batch("{text}", client=connect(emulator))

    assert out["answer_status"].eq("succeeded").all()
    assert len(emulator.batches) == 1
