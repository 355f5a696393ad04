"""What is told while a lost answer is looked into, and what a person is asked in the end."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx2
import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas import session
from claude_batch_pandas.emulator import Emulator, Rule
from claude_batch_pandas.store import Store
from tests.conftest import JumpingClock
from tests.test_steps import on_list, on_post, on_results

Connect = Callable[..., Any]
ROWS = 5
EMPTY = b'{"data": [], "has_more": false}'
MESSAGES = [{"role": "user", "content": "theirs"}]
LOST = "The answer to the submission of shard 0 was lost, and "


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame({"text": [f"row {i}" for i in range(ROWS)]})


class Timed(httpx2.BaseTransport):
    """Leads to an emulator, and remembers when what was asked for.

    Parameters
    ----------
    emulator : Emulator
    clock : JumpingClock
    date : callable, optional
        Returns the seconds by which the server's clock is ahead, or None where it tells no time.
    """

    def __init__(
        self,
        emulator: Emulator,
        clock: JumpingClock,
        date: Callable[[], float | None] | None = None,
    ) -> None:
        self._inner = emulator.transport()
        self._clock = clock
        self._date = date
        self.asked: list[tuple[str, float]] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        name = request.url.path.removeprefix("/v1/messages/batches").partition("/")[2]
        self.asked.append((f"{request.method} {name}", self._clock.now()))
        answer = self._inner.handle_request(request)
        ahead = 0.0 if self._date is None else self._date()
        answer.headers.pop("date", None)
        if ahead is not None:
            now = self._clock.now() + ahead
            answer.headers["date"] = formatdate(now, usegmt=True)
        return answer

    def times(self, what: str) -> list[float]:
        """Return when something was asked for, in seconds since 1970."""
        return [time for asked, time in self.asked if asked == what]


def through(connect: Connect, emulator: Emulator, transport: Timed) -> Any:
    """Return a client whose calls are timed."""
    return connect(emulator).copy(http_client=httpx2.Client(transport=transport))


def whole(message: str) -> str:
    """Return a pattern of a whole message."""
    return f"^{re.escape(message)}$"


def create_another_soon(clock: JumpingClock, client: Any) -> None:
    """Have a colleague create a batch of the same size as soon as somebody waits."""

    def create_another() -> None:
        clock.on_wait = lambda: None
        params = {"model": "claude-haiku-5-5", "max_tokens": 9, "messages": MESSAGES}
        requests = [{"custom_id": f"theirs-{i}", "params": params} for i in range(ROWS)]
        client.messages.batches.create(requests=requests)

    clock.on_wait = create_another


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
    cbp.options.poll_seconds = (600.0, 600.0)
    faults = [on_post(after=True, drop=True), on_results(body=b"", status=200, times=3)]
    emulator = Emulator(clock=clock.now, duration=1.0, faults=faults)
    transport = Timed(emulator, clock)
    notes = told(frame, clock, client=through(connect, emulator, transport))
    looks = transport.times(f"GET {emulator.batches[0].id}/results")[:4]

    assert min(later - earlier for earlier, later in itertools.pairwise(looks)) > 300.0
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


def test_what_is_found_is_acted_on_at_once(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """However rarely it is looked: a batch that is adopted is collected, and a stranger's is left.

    A colleague's batch of the same size, which is ruled out first, costs no other wait either.
    """
    cbp.options.poll_seconds = (600.0, 600.0)
    emulator = Emulator(clock=clock.now, duration=1.0, faults=[on_post(after=True, drop=True)])
    transport = Timed(emulator, clock)
    run = frame.claude.submit("{text}", client=through(connect, emulator, transport))

    create_another_soon(clock, connect(emulator))
    run.wait()
    ours, theirs = (batch.id for batch in emulator.batches)

    adopted, collected = transport.times(f"GET {ours}/results")
    assert transport.times(f"GET {theirs}/results") == [adopted]
    assert collected == adopted == clock.now()


def test_a_stranger_that_was_ruled_out_delays_nothing(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """The list is looked at again at once, and at its own pace from then on."""
    cbp.options.poll_seconds = (600.0, 600.0)
    emulator = Emulator(clock=clock.now, duration=1.0, faults=[on_post(drop=True)])
    transport = Timed(emulator, clock)
    run = frame.claude.submit("{text}", client=through(connect, emulator, transport))

    create_another_soon(clock, connect(emulator))
    run.wait()

    ruled_out = transport.times(f"GET {emulator.batches[0].id}/results")[0]
    assert transport.times("GET ").count(ruled_out) == 2


def test_a_wait_that_is_asked_for_in_place_of_results_is_kept(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    cbp.options.poll_seconds = (10.0, 10.0)
    busy = on_results(status=429, headers={"retry-after": "400"})
    faults = [on_post(after=True, drop=True), busy]
    emulator = Emulator(clock=clock.now, duration=1.0, faults=faults)
    transport = Timed(emulator, clock)
    frame.claude.batch("{text}", client=through(connect, emulator, transport))

    refused = transport.times(f"GET {emulator.batches[0].id}/results")[0]
    assert min(time for _, time in transport.asked if time > refused) >= refused + 400.0


def test_a_server_whose_clock_jumps_is_given_its_time(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Who lost the answer knows by the own clock since when."""
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[on_post(drop=True)])
    transport = Timed(emulator, clock, lambda: 86_400.0 if transport.times("POST ") else 0.0)
    frame.claude.batch("{text}", client=through(connect, emulator, transport))

    first, second = transport.times("POST ")
    assert second - first >= 900.0


def test_a_server_that_tells_no_time_is_given_its_time(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Not even who comes after a crash concludes sooner."""
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[on_post(drop=True)])
    transport = Timed(emulator, clock, lambda: None if transport.times("POST ") else 0.0)
    client = through(connect, emulator, transport)
    run = frame.claude.submit("{text}", client=client)
    session.crew.leave(60.0)
    begun = clock.now()
    cbp.run(run.id, client=client).wait()

    assert transport.times("POST ")[-1] >= begun + 900.0
    assert len(emulator.batches) == 1


def test_a_loss_without_a_list_is_told_whole(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    faults = [on_list(status=404, times=None), on_post(drop=True)]
    emulator = Emulator(clock=clock.now, faults=faults)
    message = (
        f"{LOST}this server has no list of batches to look for it in. It may have been accepted, "
        "so it is not sent again; run the cell with reuse=False to ask anew, at the price of "
        "asking twice."
    )

    with pytest.raises(cbp.PausedError, match=whole(message)):
        frame.claude.batch("{text}", client=connect(emulator))


def test_a_list_that_came_too_late_is_told(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """There was none when the place in it was to be marked."""
    faults = [on_list(status=404, times=None), on_post(drop=True)]
    emulator = Emulator(clock=clock.now, faults=faults)
    client = connect(emulator)
    with pytest.raises(cbp.PausedError, match="this server has no list"):
        frame.claude.batch("{text}", client=client)
    emulator.faults = []
    message = (
        f"{LOST}nothing marks its place in the server's list, which it had not at that time, so "
        "it cannot be shown that nothing was accepted. It is not sent again; run the cell with "
        "reuse=False to ask anew, at the price of asking twice."
    )

    with pytest.raises(cbp.PausedError, match=whole(message)):
        cbp.run(cbp.runs()["id"].iloc[0], client=client).wait()
