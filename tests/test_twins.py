"""A submission that was given up shows up after all: one batch answers, the other is wound up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas.emulator import Emulator, Rule
from claude_batch_pandas.money import show
from claude_batch_pandas.store import Store
from tests.conftest import JumpingClock
from tests.test_steps import on_list, on_look, on_post, on_results

Connect = Callable[..., Any]
EMPTY = b'{"data": [], "has_more": false}'


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame({"text": [f"row {i}" for i in range(5)]})


class Late:
    """A server that loses the answer to a POST, and shows the batch only when told."""

    def __init__(
        self, clock: JumpingClock, connect: Connect, delay: float = 0.0, **how: Any
    ) -> None:
        faults = [
            on_post(after=True, **(how or {"drop": True})),
            on_list(skip=1, body=EMPTY, times=None),
        ]
        self.emulator = Emulator(clock=clock.now, duration=60.0, faults=faults)
        self.client = connect(self.emulator)
        self._delay = delay  # seconds by which the second batch takes longer
        clock.on_wait = self._on_wait
        self.shows = 2  # batches, before the list tells the truth

    def _on_wait(self) -> None:
        if self.emulator.batches and self._delay:
            self.emulator.rules = (Rule(outcome="succeeded", delay=self._delay),)
        if len(self.emulator.batches) >= self.shows:
            self.emulator.faults = []


def test_a_twin_that_shows_up_while_the_second_runs_is_adopted(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect, home: Path, caplog: Any
) -> None:
    """It has ended, so it answers; the second, known to be ours, is canceled."""
    late = Late(clock, connect, delay=7200.0)
    out = frame.claude.batch("{text}", client=late.client)
    [shard] = Store(home).shards(cbp.runs()["id"].iloc[0])
    [twin] = Store(home).twins(shard.run_id)

    assert out["answer_status"].eq("succeeded").all()
    first, second = late.emulator.batches
    assert (shard.batch_id, shard.attempt) == (first.id, 1)
    assert (twin.batch_id, twin.settled, twin.dollars) == (second.id, True, Decimal(0))
    assert [call.path for call in late.emulator.calls if call.path.endswith("/cancel")] == [
        f"/v1/messages/batches/{second.id}/cancel"
    ]
    assert f"Batch {first.id} was accepted after all" in caplog.text


def test_a_twin_that_shows_up_after_the_end_is_told_in_dollars(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect, capsys: Any, home: Path
) -> None:
    """Both were answered and paid; the next look at the run says what that cost."""
    late = Late(clock, connect)
    late.shows = 3  # not while the run is driven
    out = frame.claude.batch("{text}", client=late.client, progress="log")
    before = capsys.readouterr().err
    late.emulator.faults = []
    again = frame.claude.batch("{text}", client=late.client, progress="log")
    told = capsys.readouterr().err.splitlines()[-1]
    run = cbp.run(cbp.runs()["id"].iloc[0], client=late.client)
    [twin] = Store(home).twins(run.id)

    pd.testing.assert_frame_equal(again, out)
    assert "Accepted twice" not in before
    assert twin.dollars == run.report().bill.dollars > 0
    assert f"Accepted twice, for the first answer came too late: {show(twin.dollars)} more" in told
    assert "Accepted twice" in str(run.report())
    assert cbp.costs()["dollars"].sum() == pytest.approx(float(2 * twin.dollars))
    assert len(late.emulator.batches) == 2
    calls = len(late.emulator.calls)
    frame.claude.batch("{text}", client=late.client)
    assert len(late.emulator.calls) == calls


def test_a_twin_that_cannot_be_seen_does_not_hold_an_ended_run_up(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Looking at answers that are here needs no network."""
    late = Late(clock, connect)
    late.shows = 3
    out = frame.claude.batch("{text}", client=late.client)
    late.emulator.faults = [on_list(status=500, times=None)]

    pd.testing.assert_frame_equal(frame.claude.batch("{text}", client=late.client), out)


def test_somebody_elses_batch_is_no_twin(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect, home: Path
) -> None:
    """Equal in size, and created in between; its custom_ids tell."""
    late = Late(clock, connect)
    late.emulator.faults = [on_post(drop=True), on_list(skip=1, body=EMPTY, times=None)]
    params: Any = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    requests: Any = [{"custom_id": f"theirs-{i}", "params": params} for i in range(5)]
    show_all = clock.on_wait

    def on_wait() -> None:
        if not late.emulator.batches:
            late.client.messages.batches.create(requests=requests)
        show_all()

    clock.on_wait = on_wait
    out = frame.claude.batch("{text}", client=late.client)
    [twin] = Store(home).twins(cbp.runs()["id"].iloc[0])

    assert out["answer_status"].eq("succeeded").all()
    assert (twin.batch_id, twin.settled) == (None, False)
    assert not any(call.path.endswith("/cancel") for call in late.emulator.calls)


@pytest.mark.parametrize("status", [429, 529])
def test_a_refusal_that_was_none_is_told_in_dollars(
    status: int, frame: pd.DataFrame, clock: JumpingClock, connect: Connect, home: Path
) -> None:
    """The API said, in its own words, that it did not take the batch, and had taken it."""
    late = Late(clock, connect, delay=7200.0, status=status)
    out = frame.claude.batch("{text}", client=late.client)
    [shard] = Store(home).shards(cbp.runs()["id"].iloc[0])
    [twin] = Store(home).twins(shard.run_id)
    first, second = late.emulator.batches

    assert out["answer_status"].eq("succeeded").all()
    assert (shard.batch_id, twin.batch_id, twin.settled) == (first.id, second.id, True)


def test_a_refusal_that_was_one_leaves_no_trace(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect, capsys: Any
) -> None:
    """However often the queue is full, nothing is told of batches that never were."""
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[on_post(status=429, times=4)])
    out = frame.claude.batch("{text}", client=connect(emulator), progress="log")

    assert out["answer_status"].eq("succeeded").all()
    assert len(emulator.batches) == 1
    assert "Accepted twice" not in capsys.readouterr().err


@pytest.mark.parametrize("status", [400, 402, 413])
def test_a_batch_behind_a_refusal_is_found_before_it_is_sent_again(
    status: int, frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Who mends the cause and calls again does not pay for what was accepted after all."""
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[on_post(after=True, status=status)])
    client = connect(emulator)
    with pytest.raises(cbp.PausedError, match=f"The API answered {status}"):
        frame.claude.batch("{text}", client=client)
    clock.advance(3600.0)
    out = frame.claude.batch("{text}", client=client)

    assert out["answer_status"].eq("succeeded").all()
    assert len(emulator.batches) == 1


def test_what_was_given_up_is_looked_for_until_it_goes_out_again(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect, home: Path
) -> None:
    """It shows up, still running, between the decision to send again and the sending."""
    late = Late(clock, connect)
    late.emulator.rules = (Rule(outcome="succeeded", delay=7200.0),)

    def show_once_it_is_planned_again() -> None:
        if Store(home).runs() and Store(home).shard(Store(home).runs()[0].id, 0).attempt == 2:
            late.emulator.faults = []

    clock.on_wait = show_once_it_is_planned_again
    out = frame.claude.batch("{text}", client=late.client)

    assert out["answer_status"].eq("succeeded").all()
    assert len(late.emulator.batches) == 1
    assert Store(home).twins(Store(home).runs()[0].id) == []


def test_trouble_with_a_twin_holds_up_the_end_for_minutes_only(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect, home: Path, capsys: Any
) -> None:
    """One that cannot be asked about is told at an unknown price, and looked at again later."""
    late = Late(clock, connect, delay=7200.0)
    hide = clock.on_wait

    def hide_the_second() -> None:
        hide()
        if len(late.emulator.batches) == 2:
            second = f".*{late.emulator.batches[1].id}"
            late.emulator.faults = [replace(on_look(status=500, times=None), path=second)]
            clock.on_wait = lambda: None

    clock.on_wait = hide_the_second
    start = clock.now()
    frame.claude.batch("{text}", client=late.client, progress="log")
    told = capsys.readouterr().err.splitlines()[-1]
    [twin] = Store(home).twins(Store(home).runs()[0].id)

    assert (twin.settled, twin.unpriced) == (False, len(frame))
    assert "an unknown price for 5 more" in told
    assert clock.now() - start < 3600
    late.emulator.faults = []
    frame.claude.batch("{text}", client=late.client)
    [twin] = Store(home).twins(twin.run_id)
    assert (twin.settled, twin.unpriced, twin.dollars) == (True, 0, Decimal(0))


def test_answers_of_a_twin_that_do_not_come_have_an_unknown_price(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect, home: Path
) -> None:
    """Its results are cut short, without a word, each time."""
    late = Late(clock, connect)
    late.shows = 3
    frame.claude.batch("{text}", client=late.client)
    first = late.emulator.batches[0].id
    cut = on_results(edit=lambda body: body[: body.find(b"\n") + 1], times=None)
    late.emulator.faults = [replace(cut, path=f".*{first}/results")]
    frame.claude.batch("{text}", client=late.client)
    [twin] = Store(home).twins(Store(home).runs()[0].id)

    assert (twin.batch_id, twin.settled, twin.unpriced) == (first, True, len(frame) - 1)
    assert twin.dollars > 0


def test_a_refusal_is_not_doubted_for_long(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """The list is asked a few times in a run of a day, and never for answers that are here."""
    cbp.options.poll_seconds = (60.0, 600.0)
    faults = [on_post(status=429, times=1)]
    emulator = Emulator(clock=clock.now, duration=80_000.0, faults=faults)
    client = connect(emulator)
    frame.claude.batch("{text}", client=client)
    calls = len(emulator.calls)
    frame.claude.batch("{text}", client=client)

    looks = [call for call in emulator.calls if call.path == "/v1/messages/batches"]
    assert len(looks) < 20
    assert len(emulator.calls) == calls
