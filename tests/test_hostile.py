"""One shard, one candidate, one word of a server: none of them costs more than itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas import session
from claude_batch_pandas.emulator import Emulator, Fault, Rule
from claude_batch_pandas.records import ShardState, Twin
from claude_batch_pandas.store import Store
from tests.conftest import JumpingClock
from tests.test_steps import on_list, on_look, on_post, on_results

Connect = Callable[..., Any]
EMPTY = b'{"data": [], "has_more": false}'
NO_LIST = on_list(status=404, times=None)
PARAMS: Any = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame({"text": [f"row {i}" for i in range(30)]})


def theirs(count: int) -> Any:
    """Return the requests of somebody else."""
    return [{"custom_id": f"theirs-{i}", "params": PARAMS} for i in range(count)]


def latest(client: Any) -> Any:
    """Return the newest run."""
    return cbp.run(cbp.runs()["id"].iloc[0], client=client)


def states(home: Path) -> list[ShardState]:
    """Return those of the newest run's shards."""
    store = Store(home)
    return [shard.state for shard in store.shards(store.runs()[0].id)]


@pytest.mark.parametrize("has_list", [True, False])
def test_one_undecidable_shard_holds_up_no_other(
    has_list: bool, frame: pd.DataFrame, clock: JumpingClock, connect: Connect, home: Path
) -> None:
    """The others are answered and collected; then a person is asked about the one."""
    faults = [on_post(drop=True)] if has_list else [NO_LIST, on_post(drop=True)]
    emulator = Emulator(clock=clock.now, duration=3600.0, faults=faults)
    client = connect(emulator)
    with pytest.raises(cbp.PausedError, match="The answer to the submission of shard 0 was lost"):
        frame.claude.batch("{text}", client=client, shard_size=8, on_unknown="ask")

    assert states(home) == [ShardState.SUBMITTING, *[ShardState.COLLECTED] * 3]
    out = latest(client).result(frame, partial=True)
    assert out["answer_status"].value_counts().loc["succeeded"] == 22


def test_one_undecidable_shard_that_leaves_no_room_is_told(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect, home: Path
) -> None:
    """What waits for it to end does not go on by itself, nor what comes after that and is small."""
    cbp.options.max_in_flight = 14  # the last shard has six requests
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[NO_LIST, on_post(drop=True)])
    with pytest.raises(cbp.PausedError, match="The answer to the submission of shard 0 was lost"):
        frame.claude.batch("{text}", client=connect(emulator), shard_size=8)

    assert states(home) == [ShardState.SUBMITTING, *[ShardState.PLANNED] * 3]


def test_a_canceled_run_ends_without_what_cannot_be_found_out(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect, home: Path
) -> None:
    """It can be collected, and purged."""
    emulator = Emulator(clock=clock.now, duration=3600.0, faults=[NO_LIST, on_post(drop=True)])
    client = connect(emulator)

    def cancel() -> None:
        if len(emulator.batches) == 3:
            clock.on_wait = lambda: None
            latest(client).cancel()

    clock.on_wait = cancel
    out = frame.claude.batch("{text}", client=client, shard_size=8)

    assert len([call for call in emulator.calls if call.path.endswith("/cancel")]) == 3
    assert out["answer_status"].eq("canceled").all()
    latest(client).purge()


def test_a_deleted_batch_holds_up_no_other(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect, home: Path
) -> None:
    """A 404 that lasts is told when the others are here."""
    emulator = Emulator(clock=clock.now, duration=3600.0)
    client = connect(emulator)

    def lose_the_first() -> None:
        if emulator.batches:
            clock.on_wait = lambda: None
            path = f"/v1/messages/batches/{emulator.batches[0].id}"
            emulator.faults = [Fault(method="GET", path=path, status=404, times=None)]

    clock.on_wait = lose_the_first
    with pytest.raises(cbp.PausedError, match=r"of one that was deleted, run.cancel\(\) ends"):
        frame.claude.batch("{text}", client=client, shard_size=8)

    assert states(home)[1:] == [ShardState.COLLECTED] * 3


def test_nothing_is_sent_after_a_cancel(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Not even what was to go out in the same round."""
    emulator = Emulator(clock=clock.now, duration=3600.0)
    client = connect(emulator)

    def cancel(_: Any) -> None:
        if len(emulator.batches) == 1:
            Store(session.ledger_home()).set_cancel(cbp.runs()["id"].iloc[0])

    emulator.faults = [on_post(meanwhile=cancel, times=None)]
    out = frame.claude.batch("{text}", client=client, shard_size=8)

    assert len(emulator.batches) <= 2
    assert out["answer_status"].eq("canceled").all()


def test_a_cancel_that_comes_while_a_retry_is_planned_wins(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asked for more is told; nothing goes out."""
    emulator = Emulator(clock=clock.now, duration=60.0)
    emulator.rules = (Rule(outcome="errored", error_type="permission_error", contains="1"),)
    client = connect(emulator)
    frame.claude.batch("{text}", client=client)
    run = latest(client)
    store = Store(session.ledger_home())
    add = Store.add_shards

    def cancel_first(self: Store, shards: Any, **how: Any) -> bool:
        store.set_cancel(run.id)
        return add(self, shards, **how)

    monkeypatch.setattr(Store, "add_shards", cancel_first)
    with pytest.raises(cbp.InputError, match="is being canceled; wait for its end, then retry"):
        run.retry()
    assert store.run(run.id).cancel
    assert len(emulator.batches) == 1


def test_a_servers_words_are_no_proof_of_ours(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """An error code that we use ourselves proves nothing when it comes from a server."""
    body = b'{"type":"error","error":{"type":"api_error","details":{"error_code":"unsent"}}}'
    faults = [on_post(after=True, status=500, body=body, times=3)]
    emulator = Emulator(clock=clock.now, duration=60.0, faults=faults)
    frame.claude.batch("{text}", client=connect(emulator))

    assert len(emulator.batches) == 1


def test_a_batch_that_may_be_ours_cannot_be_attached(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect, home: Path
) -> None:
    """Its run has to find it, also when the run has given it up; else it would be paid twice."""
    faults = [on_post(after=True, drop=True), on_list(skip=1, body=EMPTY, times=None)]
    emulator = Emulator(clock=clock.now, duration=7200.0, faults=faults)
    client = connect(emulator)
    refused: list[str] = []

    def attach() -> None:
        store = Store(home)
        if emulator.batches and store.shard(store.runs()[0].id, 0).attempt == 2:
            clock.on_wait = lambda: None
            with pytest.raises(cbp.InputError, match="may be what became of a submission") as told:
                cbp.attach(emulator.batches[0].id, client=client)
            refused.append(str(told.value))
            emulator.faults = []

    clock.on_wait = attach
    out = frame.claude.batch("{text}", client=client)

    assert len(refused) == 1
    assert len(emulator.batches) == 1
    assert out["answer_status"].eq("succeeded").all()


class Relay(httpx2.BaseTransport):
    """A server that has no list, names nobody, and shows each key its own batches."""

    def __init__(self, emulator: Emulator) -> None:
        self._inner = emulator.transport()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        is_list = path == "/v1/messages/batches" and request.method == "GET"
        is_foreign = "other" in request.headers["authorization"] and "/msgbatch" in path
        if is_list or is_foreign:
            return httpx2.Response(
                404, json={"type": "error", "error": {"type": "not_found_error"}}
            )
        answer = self._inner.handle_request(request)
        for name in ("anthropic-organization-id", "anthropic-workspace-id"):
            answer.headers.pop(name, None)
        return answer


def test_another_key_writes_nothing_off(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect, home: Path
) -> None:
    """It cannot see the batch of a relay, which proves nothing; the right one finds its answers."""
    emulator = Emulator(clock=clock.now, duration=60.0)

    def client(key: str) -> anthropic.Anthropic:
        http = httpx2.Client(transport=Relay(emulator))
        return anthropic.Anthropic(api_key=key, base_url="https://r.example", http_client=http)

    run = frame.claude.submit("{text}", client=client("mine"))
    session.crew.leave(60.0)
    clock.advance(7200.0)
    other = cbp.run(run.id, client=client("other")).cancel()
    with pytest.raises(cbp.PausedError, match="it belongs to another workspace or key"):
        other.wait()
    out = cbp.run(run.id, client=client("mine")).result(frame)

    assert out["answer_status"].eq("succeeded").all()


def test_a_client_that_was_closed_is_told(frame: pd.DataFrame, emulator: Emulator) -> None:
    """No waiting makes it work again."""
    with anthropic.Anthropic(
        api_key="key-of-a-test", http_client=httpx2.Client(transport=emulator.transport())
    ) as client:
        run = frame.claude.submit("{text}", client=client).detach()
    with pytest.raises(cbp.BatchError, match=r"The client cannot be used .* was it closed"):
        cbp.run(run.id, client=client).wait()


def test_a_list_that_does_not_say_whose_it_is_proves_nothing(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """A portal's empty list, say; when the API's own is back, the batch is in it."""
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[on_post(after=True, drop=True)])
    inner = emulator.transport()
    portal: list[float] = []

    class Portal(httpx2.BaseTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            if emulator.batches and request.method == "GET" and len(portal) < 60:
                portal.append(clock.now())
                return httpx2.Response(200, content=EMPTY)
            return inner.handle_request(request)

    client = connect(emulator).copy(http_client=httpx2.Client(transport=Portal()))
    frame.claude.batch("{text}", client=client)

    assert portal[-1] - portal[0] > 900.0
    assert len(emulator.batches) == 1


def test_asking_anew_is_no_dead_end(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Who was told to pass reuse=False, and does, is asked for nothing else."""
    faults = [NO_LIST, on_post(drop=True, times=2)]
    emulator = Emulator(clock=clock.now, duration=60.0, faults=faults)
    client = connect(emulator)
    for reuse in (True, False):
        with pytest.raises(cbp.PausedError, match="run the cell with reuse=False"):
            frame.claude.batch("{text}", client=client, reuse=reuse)
    out = frame.claude.batch("{text}", client=client, reuse=False)

    assert out["answer_status"].eq("succeeded").all()
    assert len(emulator.batches) == 1


@pytest.mark.parametrize("how", [{"body": b""}, {"status": 404}], ids=["nothing", "404"])
def test_a_strangers_batch_that_tells_nothing_hides_none_of_ours(
    how: dict[str, Any], frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Both are of our size, and newer than the fence."""
    emulator = Emulator(clock=clock.now, duration=60.0)
    client = connect(emulator)

    def join_in(_: Any) -> None:
        if len(emulator.batches) == 1:
            batch = client.messages.batches.create(requests=theirs(len(frame)))
            path = f".*/{batch.id}/results"
            emulator.faults = [Fault(method="GET", path=path, times=None, **how)]

    emulator.faults = [on_post(after=True, drop=True, meanwhile=join_in)]
    out = frame.claude.batch("{text}", client=client)

    assert out["answer_status"].eq("succeeded").all()
    assert len(emulator.batches) == 2


def test_results_without_an_end_are_read_as_far_as_ours_would_go(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """A batch of thirty has thirty lines; what follows is not read to tell whose it is."""
    junk = b"[]\n" * 1_000_000
    faults = [on_post(after=True, drop=True), on_results(edit=lambda body: junk + body)]
    emulator = Emulator(clock=clock.now, duration=60.0, faults=faults)
    out = frame.claude.batch("{text}", client=connect(emulator))

    assert out["answer_status"].eq("succeeded").all()
    assert len(emulator.batches) == 1


def test_counts_that_no_batch_has_are_refused(client: Any, emulator: Emulator) -> None:
    """Nothing is made room for that cannot be."""
    batch = client.messages.batches.create(requests=theirs(1))
    wrong = on_look(
        edit=lambda body: re.sub(rb'"processing": ?1', b'"processing":9000000', body), times=None
    )
    emulator.faults = [wrong]
    with pytest.raises(cbp.APIError, match="something that is not a message batch"):
        cbp.attach(batch.id, client=client)


def test_a_server_that_asks_for_a_long_wait_first_is_not_waited_for(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Nothing was planned yet, so nothing is lost; the cell says what to do."""
    faults = [on_list(status=429, headers={"retry-after": "900"}, times=None)]
    emulator = Emulator(clock=clock.now, faults=faults)
    start = clock.now()
    with pytest.raises(
        cbp.APIError, match="It is busy or in trouble; call again later, nothing is lost"
    ):
        frame.claude.batch("{text}", client=connect(emulator))

    assert clock.now() - start < 60.0


def test_a_refusal_without_a_list_is_quoted(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """The server said that it did not take the batch; whether that is so cannot be seen."""
    emulator = Emulator(clock=clock.now, faults=[NO_LIST, on_post(status=429)])
    with pytest.raises(cbp.PausedError, match=r"shard 0 was: The API answered 429 .* no list"):
        frame.claude.batch("{text}", client=connect(emulator))


def test_a_cancel_without_a_key_is_remembered(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Whoever drives the run next does it, before anything is sent."""
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[on_post(status=401)])
    client = connect(emulator)
    with pytest.raises(cbp.PausedError, match="401"):
        frame.claude.batch("{text}", client=client)
    with pytest.raises(cbp.CredentialsError, match="No credentials"):
        latest(None).cancel()
    out = frame.claude.batch("{text}", client=client)

    assert out["answer_status"].eq("canceled").all()
    assert emulator.batches == []


def test_a_twin_that_may_run_is_not_forgotten(
    frame: pd.DataFrame, emulator: Emulator, client: Any, home: Path
) -> None:
    """Neither here nor there: nobody would cancel it."""
    frame.claude.batch("{text}", client=client)
    run = latest(client)
    store = Store(home)
    shard = store.shard(run.id, 0)
    store.mark_twin(
        Twin(run_id=run.id, number=0, attempt=9, batch_id="late", intended_at=shard.created_at)
    )

    with pytest.raises(cbp.InputError, match=r"late of run .* is being wound up"):
        run.purge()
