"""Sending a shard: intents, fences, full queues, changed keys, and cancels that come too late."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas import session
from claude_batch_pandas.emulator import Emulator, Fault
from claude_batch_pandas.exceptions import PausedError, WaitTimeoutError
from claude_batch_pandas.records import ShardState
from claude_batch_pandas.store import Store
from tests.conftest import JumpingClock
from tests.test_steps import ROWS, check_paid_once, on_list, on_look, on_post, on_results

Connect = Callable[..., Any]
ENOUGH = 5.0  # seconds; far more than any of these runs needs


@pytest.fixture
def frame() -> pd.DataFrame:
    """Return rows that all ask something else."""
    return pd.DataFrame({"text": [f"row {i}" for i in range(ROWS)]}, index=[0] * ROWS)


def posts(emulator: Emulator) -> list[int]:
    """Return how every attempt to create a batch was answered."""
    path = "/v1/messages/batches"
    return [c.status for c in emulator.calls if (c.method, c.path) == ("POST", path)]


def attempts(emulator: Emulator) -> list[str]:
    """Return which attempt each batch is."""
    return [batch.custom_ids[0][17:19] for batch in emulator.batches]


def timed(client: Any, emulator: Emulator, clock: JumpingClock) -> list[tuple[str, float]]:
    """Let a client note the method and the time of whatever it sends from now on."""
    inner, sent = emulator.transport(), []

    class Watch(httpx2.BaseTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            sent.append((request.method, clock.now()))
            return inner.handle_request(request)

    client._client = httpx2.Client(transport=Watch())
    return sent


def paused_before_sending(frame: pd.DataFrame, client: Any) -> str:
    """Make a run whose first POST is refused, and return its id."""
    with pytest.raises(PausedError, match="401"):
        frame.claude.batch("{text}", client=client)
    return str(cbp.runs()["id"].iloc[0])


# Intents


def test_an_intent_lost_to_another_process_sends_nothing(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect, home: Path
) -> None:
    """Whoever made the intent sends the shard; here it is treated as perhaps accepted."""

    def be_first(body: bytes) -> bytes:
        store = Store(home)
        (shard,) = store.shards(store.runs()[0].id)
        assert store.mark_submitting(shard, "", clock.now())
        return body

    emulator = Emulator(clock=clock.now, duration=60.0, faults=[on_list(edit=be_first, skip=1)])
    out = frame.claude.batch("{text}", client=connect(emulator))

    check_paid_once(emulator, out, frame)
    assert attempts(emulator) == ["02"]


def test_credentials_lost_at_the_post_take_the_intent_back(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Without anything to sign with nothing was sent, so there is no fate to find out."""

    def lose_the_key(body: bytes) -> bytes:
        client.api_key = None
        return body

    emulator = Emulator(clock=clock.now, duration=60.0, faults=[on_list(edit=lose_the_key, skip=1)])
    client = connect(emulator)
    start = clock.now()
    with pytest.raises(PausedError, match=r"No credentials.*Nothing was sent"):
        frame.claude.batch("{text}", client=client)
    out = frame.claude.batch("{text}", client=connect(emulator))

    check_paid_once(emulator, out, frame)
    assert attempts(emulator) == ["01"]
    assert emulator.batches[0].created_at - start < 60


@pytest.mark.parametrize(("away", "low", "high"), [(1_000.0, 1_500, 1_600), (86_400.0, 0, 86_500)])
def test_after_a_crash_the_slowest_upload_is_waited_for(
    away: float,
    low: float,
    high: float,
    frame: pd.DataFrame,
    clock: JumpingClock,
    connect: Connect,
    home: Path,
) -> None:
    """A POST of a process that died may have ended ten minutes after its intent."""
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[on_post(status=401)])
    client = connect(emulator)
    run_id = paused_before_sending(frame, client)
    intended = clock.now()
    store = Store(home)
    store.mark_submitting(store.shard(run_id, 0), "", intended)
    clock.advance(away)
    out = frame.claude.batch("{text}", client=client)

    check_paid_once(emulator, out, frame)
    assert low <= emulator.batches[0].created_at - intended <= high


def test_a_post_that_begins_late_is_never_ended(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect, home: Path
) -> None:
    """The lid was closed since the look for a fence; after a crash the intent's time would lie."""
    emulator = Emulator(clock=clock.now, duration=60.0)
    inner, tries = emulator.transport(), []

    class Lid(httpx2.BaseTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            if request.method == "POST":
                tries.append(clock.now())
                clock.advance(5_000.0 if len(tries) == 1 else 0.0)
            return inner.handle_request(request)

    client = connect(emulator).copy(http_client=httpx2.Client(transport=Lid()))
    out = frame.claude.batch("{text}", client=client)
    store = Store(home)
    intended = store.shard(store.runs()[0].id, 0).intended_at

    check_paid_once(emulator, out, frame)
    assert attempts(emulator) == ["01"]
    assert len(tries) == 2
    assert intended is not None
    assert 0 <= emulator.batches[0].created_at - intended < 60


def months_later(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect, home: Path
) -> tuple[str, Emulator, Any]:
    """Lose the answer to a submission, and let the results of what it may be be deleted."""
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[on_post(status=401)])
    client = connect(emulator)
    run_id = paused_before_sending(frame, client)
    store = Store(home)
    store.mark_submitting(store.shard(run_id, 0), "", clock.now())
    params = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    requests = [{"custom_id": f"theirs-{i}", "params": params} for i in range(ROWS)]
    client.messages.batches.create(requests=requests)
    clock.advance(30 * 86_400.0)
    return run_id, emulator, client


def test_a_batch_whose_results_are_gone_is_neither_adopted_nor_sent_again(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect, home: Path
) -> None:
    """Whoever comes back after a month is told what nobody can know any more."""
    _, emulator, client = months_later(frame, clock, connect, home)
    with pytest.raises(
        PausedError,
        match=r"became; but its results are gone from the server, which keeps them for 29 days, so nobody.*reuse=False",
    ):
        frame.claude.batch("{text}", client=client)
    out = frame.claude.batch("{text}", client=client, reuse=False)
    emulator.batches.pop(0)

    check_paid_once(emulator, out, frame)


def test_a_canceled_run_ends_without_results_that_are_gone(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect, home: Path
) -> None:
    run_id, emulator, client = months_later(frame, clock, connect, home)
    run = cbp.run(run_id, client=client).cancel().wait()

    assert run.status == "ended"
    assert len(emulator.batches) == 1


# The list of batches


def test_no_shard_goes_out_without_a_fence(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect, home: Path
) -> None:
    """A server that named our workspace has a list; a 404 from it is waited out."""
    emulator = Emulator(
        clock=clock.now, duration=60.0, faults=[on_list(status=404, skip=1, times=3)]
    )
    out = frame.claude.batch("{text}", client=connect(emulator))
    store = Store(home)

    check_paid_once(emulator, out, frame)
    assert store.shard(store.runs()[0].id, 0).fence == ""


def test_a_list_that_is_gone_for_a_while_decides_nothing(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """With the answer to the POST lost, a 404 of the list is a hiccup and no reason to pause."""
    faults = [on_post(after=True, drop=True), on_list(status=404, skip=2, times=3)]
    emulator = Emulator(clock=clock.now, duration=60.0, faults=faults)
    out = frame.claude.batch("{text}", client=connect(emulator))

    check_paid_once(emulator, out, frame)


def test_a_fence_that_was_deleted_is_done_without(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """The batch before ours is gone, so the newest are looked through, and ours is found."""
    faults = [on_post(skip=1, after=True, drop=True)]
    emulator = Emulator(clock=clock.now, duration=60.0, faults=faults)
    client = connect(emulator)
    params = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    fence = client.messages.batches.create(requests=[{"custom_id": "theirs", "params": params}])
    clock.advance(60.0)

    def delete() -> None:
        if len(emulator.batches) == 2 and not emulator.batches[0].deleted:
            client.messages.batches.delete(fence.id)

    clock.on_wait = delete
    out = frame.claude.batch("{text}", client=client)
    emulator.batches.pop(0)

    check_paid_once(emulator, out, frame)


def test_a_lost_batch_is_found_on_a_later_page(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """The list was empty before our POST, so what is newer is all of it, however many pages."""
    faults = [on_post(after=True, drop=True)]
    emulator = Emulator(clock=clock.now, duration=60.0, faults=faults)
    inner, others = emulator.transport(), connect(emulator)

    class SmallPages(httpx2.BaseTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            if "limit" in request.url.params:
                request.url = request.url.copy_set_param("limit", 1)
            return inner.handle_request(request)

    def send_more() -> None:
        if len(emulator.batches) < 3:
            params = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
            others.messages.batches.create(requests=[{"custom_id": "theirs", "params": params}])

    clock.on_wait = send_more
    client = others.copy(http_client=httpx2.Client(transport=SmallPages()))
    out = frame.claude.batch("{text}", client=client)
    del emulator.batches[1:3]

    check_paid_once(emulator, out, frame)


def test_a_key_of_another_workspace_sends_nothing(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """It would be paid by somebody else, and a lost answer looked for in the wrong list."""
    emulator = Emulator(
        clock=clock.now,
        duration=60.0,
        faults=[on_post(status=401)],
        workspaces={"mine": "wrkspc_mine", "theirs": "wrkspc_theirs"},
    )
    run_id = paused_before_sending(frame, connect(emulator, "mine"))
    words = r"belongs to the workspace 'wrkspc_theirs', but the run to 'wrkspc_mine'\. Use a key"
    with pytest.raises(PausedError, match=words):
        cbp.run(run_id, client=connect(emulator, "theirs")).result()
    before = len(emulator.batches)
    out = cbp.run(run_id, client=connect(emulator, "mine")).result(frame)

    assert before == 0
    check_paid_once(emulator, out, frame)


def test_another_key_of_a_relay_decides_nothing_about_a_lost_answer(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Where no workspace is named, what another key does not see may exist all the same."""
    anonymous = {"anthropic-workspace-id": "", "anthropic-organization-id": ""}
    faults = [on_list(headers=anonymous, times=None), on_post(after=True, drop=True)]
    workspaces = {"mine": "wrkspc_mine", "theirs": "wrkspc_theirs"}
    emulator = Emulator(clock=clock.now, duration=3_600.0, faults=faults, workspaces=workspaces)
    run = frame.claude.submit("{text}", client=connect(emulator, "mine"))

    def leave_once_sent() -> None:
        worker = session.crew.at_work(run.id)
        if emulator.batches and worker is not None:
            worker.stop()

    clock.on_wait = leave_once_sent
    with pytest.raises(WaitTimeoutError, match="was detached"):
        run.wait(ENOUGH)
    clock.on_wait = lambda: None
    with pytest.raises(
        PausedError, match="of shard 0 was lost, and only the key that sent it can see what became"
    ):
        cbp.run(run.id, client=connect(emulator, "theirs")).result()
    out = cbp.run(run.id, client=connect(emulator, "mine")).result(frame)

    check_paid_once(emulator, out, frame)


# Full queues


def test_a_full_queue_is_waited_for_until_a_shard_ends(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """The queue-limit 429 is asked again when one of ours ended, and now and then before."""
    emulator = Emulator(clock=clock.now, duration=1_000.0, max_queue=20)
    out = frame.claude.batch("{text}", client=connect(emulator), shard_size=10)

    check_paid_once(emulator, out, frame)
    assert attempts(emulator) == ["01"] * 3
    assert 1 <= posts(emulator).count(429) <= 4


@pytest.mark.parametrize("status", [429, 529])
def test_a_refusal_that_says_when_is_taken_at_its_word(
    status: int, frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Nothing at all is asked before Retry-After is over, of no shard."""
    fault = on_post(status=status, headers={"retry-after": "400"}, skip=1)
    emulator = Emulator(clock=clock.now, duration=100.0, faults=[fault])
    client = connect(emulator)
    sent = timed(client, emulator, clock)
    out = frame.claude.batch("{text}", client=client, shard_size=10)

    check_paid_once(emulator, out, frame)
    assert attempts(emulator) == ["01"] * 3
    refused = [when for method, when in sent if method == "POST"][1]
    assert not [when for _, when in sent if refused < when < refused + 400]


@pytest.mark.parametrize("status", [429, 529])
def test_a_refusal_that_does_not_say_when_is_asked_ever_more_slowly(
    status: int, frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """With nothing of ours in the queue, the next try waits longer each time."""
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[on_post(status=status, times=6)])
    client = connect(emulator)
    sent = timed(client, emulator, clock)
    out = frame.claude.batch("{text}", client=client)
    times = [when for method, when in sent if method == "POST"]

    check_paid_once(emulator, out, frame)
    assert attempts(emulator) == ["01"]
    assert len(times) == 7
    assert times[-1] - times[-2] > 75
    assert times[-1] - times[-2] > 3 * (times[1] - times[0])


def test_a_server_that_asks_for_quiet_gets_it_from_every_shard(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """A 429 while looking at one batch keeps the others from being looked at in that round."""
    fault = on_look(status=429, headers={"retry-after": "400"})
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[fault])
    client = connect(emulator)
    clock.on_wait = lambda: clock.advance(100.0)  # every shard is due in the next round
    sent = timed(client, emulator, clock)
    out = frame.claude.batch("{text}", client=client, shard_size=10)
    refused = [call.status for call in emulator.calls].index(429)

    check_paid_once(emulator, out, frame)
    assert sent[refused + 1][1] >= sent[refused][1] + 400


# Cancels


@pytest.fixture
def server() -> JumpingClock:
    """Return the API's clock, which stands still until a test moves it."""
    cbp.options.poll_seconds = (0.01, 0.02)
    return JumpingClock()


def cancel_once_sent(
    frame: pd.DataFrame, client: Any, then: Callable[[], None] = lambda: None
) -> cbp.Run:
    """Submit a frame, cancel it when it is at the API, and return the run."""
    asked: list[str] = []

    def cancel(progress: Any) -> None:
        if progress.submitted and not asked:
            then()
            asked.append(run.cancel().id)

    run = frame.claude.submit("{text}", client=client)
    return cbp.run(run.id, client=client, progress=cancel).wait(ENOUGH)


@pytest.mark.parametrize("status", [None, 404, 409])
def test_a_cancel_that_comes_too_late_loses_no_answer(
    status: int | None, frame: pd.DataFrame, server: JumpingClock, connect: Connect
) -> None:
    """However the API says that the batch has ended, it is looked at and collected."""
    faults = [Fault(method="POST", path=".*/cancel", status=status, times=None)] if status else []
    emulator = Emulator(clock=server.now, duration=60.0, faults=faults)
    run = cancel_once_sent(frame, connect(emulator), lambda: server.advance(60.0))

    check_paid_once(emulator, run.result(frame), frame)


def test_a_cancel_without_permission_pauses(
    frame: pd.DataFrame, server: JumpingClock, connect: Connect
) -> None:
    """Somebody has to know that the batch still runs; the same call cancels it later."""
    fault = Fault(method="POST", path=".*/cancel", status=403)
    emulator = Emulator(clock=server.now, duration=60.0, faults=[fault])
    client = connect(emulator)
    with pytest.raises(PausedError, match="The API answered 403"):
        cancel_once_sent(frame, client)

    def go_on(progress: Any) -> None:
        server.advance(1.0)

    out = frame.claude.batch("{text}", client=client, progress=go_on)

    assert out["answer_status"].eq("canceled").any()
    assert [c.status for c in emulator.calls if c.path.endswith("/cancel")] == [403, 200]


def test_a_batch_that_somebody_else_cancels_is_told(
    frame: pd.DataFrame, server: JumpingClock, connect: Connect, home: Path
) -> None:
    """What the Console did shows in the ledger before the batch has ended."""
    client = connect(Emulator(clock=server.now, duration=60.0))
    seen: list[ShardState] = []

    def watch(progress: Any) -> None:
        store = Store(home)
        (shard,) = store.shards(progress.run_id)
        if shard.state is ShardState.IN_PROGRESS:
            client.messages.batches.cancel(shard.batch_id)
        if shard.state is ShardState.CANCELING:
            seen.append(shard.state)
            server.advance(1.0)

    frame.claude.submit("{text}", client=client, progress=watch).wait(ENOUGH)

    assert seen


EMPTY = b'{"data": [], "has_more": false}'


@pytest.mark.parametrize("policy", ["resend", "ask", "wait"])
def test_a_canceled_run_does_not_wait_for_ever_for_what_was_lost(
    policy: str, frame: pd.DataFrame, clock: JumpingClock, connect: Connect, home: Path
) -> None:
    """Nothing is sent again; the submission stays known, should it show up later."""
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[on_post(drop=True)])
    client = connect(emulator)

    def cancel() -> None:
        clock.on_wait = lambda: None
        cbp.run(cbp.runs()["id"].iloc[0], client=client).cancel()

    clock.on_wait = cancel
    out = frame.claude.batch("{text}", client=client, on_unknown=policy)
    [twin] = Store(home).twins(cbp.runs()["id"].iloc[0])

    assert out["answer_status"].eq("canceled").all()
    assert emulator.batches == []
    assert (twin.batch_id, twin.refused, twin.attempt) == (None, False, 1)


def test_a_lost_submission_of_a_canceled_run_is_found_later(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Its answers were paid for, so they are the rows'."""
    hidden = on_list(skip=1, body=EMPTY, times=None)
    faults = [on_post(after=True, drop=True), hidden]
    emulator = Emulator(clock=clock.now, duration=60.0, faults=faults)
    client = connect(emulator)

    def cancel() -> None:
        clock.on_wait = lambda: None
        cbp.run(cbp.runs()["id"].iloc[0], client=client).cancel()

    clock.on_wait = cancel
    first = frame.claude.batch("{text}", client=client)
    emulator.faults = []
    second = frame.claude.batch("{text}", client=client)

    assert first["answer_status"].eq("canceled").all()
    check_paid_once(emulator, second, frame)


def test_a_canceled_run_whose_batch_was_deleted_ends(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Its rows may have been paid for, and say so."""
    emulator = Emulator(clock=clock.now, duration=60.0)
    client = connect(emulator)

    def delete() -> None:
        clock.on_wait = lambda: None
        clock.advance(60.0)
        client.messages.batches.delete(emulator.batches[0].id)

    clock.on_wait = delete
    with pytest.raises(PausedError, match="was deleted"):
        frame.claude.batch("{text}", client=client)
    run = cbp.run(cbp.runs()["id"].iloc[0], client=client)
    out = run.cancel().result(frame)

    assert run.done
    assert out["answer_status"].eq("errored").all()
    assert out["answer_error"].str.contains("may have been paid").all()


def test_a_cancel_is_sent_though_the_server_asked_for_quiet(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """It saves money, and is one request."""
    quiet = on_look(status=429, headers={"retry-after": "800"})
    emulator = Emulator(clock=clock.now, duration=7200.0, faults=[quiet])
    client = connect(emulator)
    canceled: list[float] = []

    def cancel(progress: Any) -> None:
        if "429" in progress.note and not canceled:
            canceled.append(clock.now())
            run.cancel()

    run = frame.claude.submit("{text}", client=client)
    clock.on_wait = lambda: cancel(run.progress)
    run.wait()

    assert canceled
    assert len([call for call in emulator.calls if call.path.endswith("/cancel")]) == 1
    told = client.messages.batches.retrieve(emulator.batches[0].id).cancel_initiated_at
    assert told.timestamp() - canceled[0] < 60


def test_a_strangers_batch_with_a_line_that_cannot_be_read_decides_nothing(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """That every other line is theirs proves enough; the run does not wait for ever."""
    faults = [on_post(skip=1, drop=True), on_results(edit=_break_first)]
    emulator = Emulator(clock=clock.now, duration=60.0, faults=faults)
    client = connect(emulator)
    params: Any = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    requests: Any = [{"custom_id": f"theirs-{i}", "params": params} for i in range(ROWS)]

    def join_in() -> None:
        clock.on_wait = lambda: None
        client.messages.batches.create(requests=requests)

    client.messages.batches.create(requests=requests[:1])
    clock.on_wait = join_in
    start = clock.now()
    out = frame.claude.batch("{text}", client=client)

    assert out["answer_status"].eq("succeeded").all()
    assert clock.now() - start < 3600


def _break_first(body: bytes) -> bytes:
    return body.replace(b"{", b"[", 1)
