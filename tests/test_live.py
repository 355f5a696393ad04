"""What is asked at once: a canary for large runs, and samples. Recorded first, told, never silent."""

from __future__ import annotations

import json
import threading
from typing import Any

import anthropic
import httpx2
import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas import session
from claude_batch_pandas.emulator import Emulator, Rule
from claude_batch_pandas.emulator.faults import Fault
from claude_batch_pandas.exceptions import LedgerError
from claude_batch_pandas.records import ShardState
from claude_batch_pandas.shapes import shape_of
from claude_batch_pandas.store import Store
from tests.conftest import JumpingClock

MESSAGES = "/v1/messages"
BATCHES = "/v1/messages/batches"


@pytest.fixture(autouse=True)
def _canaries(home: Any) -> None:
    """Let large runs have their canary, as they have everywhere but in these tests."""
    cbp.options.canary = True


@pytest.fixture
def frame() -> Any:
    """Return twenty different rows."""
    return pd.DataFrame({"text": [f"row {i}" for i in range(20)]})


def posts(emulator: Emulator, path: str = MESSAGES) -> int:
    """Return how often something was sent there."""
    return sum(call.method == "POST" and call.path == path for call in emulator.calls)


def batched(emulator: Emulator) -> list[str]:
    """Return what was asked in batches."""
    requests = [request for batch in emulator.batches for request in batch.requests]
    return [request["params"]["messages"][0]["content"] for request in requests]


def test_the_first_row_of_a_large_run_is_asked_at_once(
    frame: Any, client: anthropic.Anthropic, emulator: Emulator, home: Any
) -> None:
    """Its answer is that row's, and no batch asks it again."""
    run = frame.claude.submit("Say {text}", client=client)
    out = run.result()

    assert set(out["answer_status"]) == {"succeeded"}
    assert posts(emulator) == 1
    assert sorted(batched(emulator)) == sorted(f"Say row {i}" for i in range(1, 20))
    order = [call.path for call in emulator.calls if call.method == "POST"]
    assert order[0] == MESSAGES
    details = run.details()
    assert details["attempts"].tolist() == [1] * 20
    assert sum(shard.live for shard in Store(home).shards(run.id)) == 1
    assert run.report().bill.live == 1
    price = details["dollars"] / details["output_tokens"]
    assert price.iloc[0] > 1.5 * price.iloc[1]
    assert "1 request at the live price" in str(run.report())


def test_what_is_asked_at_once_is_told_in_the_closing_line(
    frame: Any, client: anthropic.Anthropic, caplog: pytest.LogCaptureFixture
) -> None:
    lines: list[str] = []
    frame.claude.batch(
        "Say {text}", client=client, progress=lambda progress: lines.append(progress.summary)
    )
    assert "1 request at the live price" in lines[-1]


def test_a_small_run_has_no_canary(
    frame: Any, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    frame.iloc[:19].claude.batch("Say {text}", client=client)
    assert posts(emulator) == 0
    frame.claude.batch("Say {text}", client=client)  # of which one is new
    assert posts(emulator) == 0


def test_a_shape_that_passed_needs_no_other_canary(
    frame: Any, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    """Once per shape of params and model; a new one is tried anew."""
    frame.claude.batch("Say {text}", client=client)
    frame.claude.batch("Tell {text}", client=client, output="b")
    assert posts(emulator) == 1
    frame.claude.batch("Tell {text}", client=client, output="c", max_tokens=9)
    assert posts(emulator) == 2
    frame.claude.batch("Tell {text}", client=client, output="d", model="claude-opus-5-5")
    assert posts(emulator) == 3


def test_each_model_of_a_column_is_tried(
    frame: Any, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    models = ["claude-haiku-5-5"] * 9 + ["claude-opus-5-5"] * 11
    out = frame.assign(m=models).claude.batch("{text}", model=cbp.col("m"), client=client)
    assert posts(emulator) == 2
    assert set(out["answer_status"]) == {"succeeded"}
    assert len(batched(emulator)) == 18


def test_canaries_can_be_turned_off(
    frame: Any, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    frame.claude.batch("{text}", client=client, canary=False)
    cbp.options.canary = False
    frame.claude.batch("2 {text}", client=client)
    assert posts(emulator) == 0
    frame.claude.batch("3 {text}", client=client, canary=True)
    assert posts(emulator) == 1


def test_what_the_api_refuses_stops_the_run_in_seconds(
    frame: Any, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    """Nothing else was sent; the call, mended, is another run."""
    with pytest.raises(
        cbp.PausedError, match=r"first row was asked alone.*temperature: Extra.*Nothing else was"
    ):
        frame.claude.batch("{text}", params={"temperature": 1}, force=True, client=client)
    assert batched(emulator) == []
    assert posts(emulator) == 1
    out = frame.claude.batch("{text}", client=client)
    assert set(out["answer_status"]) == {"succeeded"}


def test_an_unknown_model_stops_the_run(
    frame: Any, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    with pytest.raises(cbp.PausedError, match=r"model: claude-haiku-9"):
        frame.claude.batch("{text}", model="claude-haiku-9", client=client)
    assert batched(emulator) == []


@pytest.mark.parametrize("status", [429, 500, 529, 403, 404])
def test_other_trouble_skips_the_canary(
    status: int, frame: Any, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    """It says nothing of the parameters, and nothing was answered: all rows go in batches."""
    emulator.faults = [Fault(method="POST", path=f"{MESSAGES}$", status=status)]
    run = frame.claude.submit("{text}", client=client)
    out = run.result()

    assert set(out["answer_status"]) == {"succeeded"}
    assert len(batched(emulator)) == 20
    assert "lost" not in _closing(run)


@pytest.mark.parametrize("fault", [{"drop": True}, {"stall": True}, {"status": 200, "body": b"{}"}])
@pytest.mark.parametrize("after", [False, True])
def test_a_lost_canary_is_told(
    fault: dict[str, Any],
    after: bool,
    frame: Any,
    client: anthropic.Anthropic,
    emulator: Emulator,
) -> None:
    """It may have been paid, a fraction of a cent; its row is asked again, and that is said."""
    emulator.faults = [Fault(method="POST", path=f"{MESSAGES}$", after=after, **fault)]
    run = frame.claude.submit("{text}", client=client)
    out = run.result()

    assert set(out["answer_status"]) == {"succeeded"}
    assert posts(emulator) == 1
    assert len(batched(emulator)) == 20
    assert "1 row was asked first, alone; the answer was lost, and may have been paid" in _closing(
        run
    )


def test_a_limit_of_money_is_no_news_about_the_parameters(
    frame: Any, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    """The create that follows says it, and pauses the run."""
    words = b'{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low"}}'
    emulator.faults = [
        Fault(method="POST", path=f"{MESSAGES}$", status=400, body=words),
        Fault(method="POST", path=f"{BATCHES}$", status=400, body=words),
    ]
    with pytest.raises(cbp.PausedError, match="credit balance is too low"):
        frame.claude.batch("{text}", client=client)
    out = frame.claude.batch("{text}", client=client)
    assert set(out["answer_status"]) == {"succeeded"}


def test_a_process_that_dies_at_the_canary_loses_nothing(
    frame: Any, client: anthropic.Anthropic, emulator: Emulator, home: Any
) -> None:
    """It was recorded before it was sent: the next process knows that it may have been paid."""
    run = frame.claude.submit("{text}", client=client, canary=False)
    run.cancel().result()
    store = Store(home)
    emulator.faults = [Fault(method="GET", path=f"{BATCHES}$", status=500, times=None)]
    second = frame.claude.submit("2 {text}", client=client)
    session.crew.stop()
    live = next(shard for shard in store.shards(second.id) if shard.live)
    with store._database.writing() as database:
        database.execute(
            "UPDATE shards SET state = 'submitting', results_sha256 = NULL "
            "WHERE run_id = ? AND number = ?",
            (second.id, live.number),
        )
    emulator.faults = []
    before = posts(emulator)
    out = frame.claude.batch("2 {text}", client=client)

    assert set(out["answer_status"]) == {"succeeded"}
    assert posts(emulator) == before
    assert "answer was lost" in _closing(second)
    assert {shard.state for shard in store.shards(second.id)} == {ShardState.COLLECTED}


def test_shapes_differ_by_all_but_texts() -> None:
    def shape(params: str) -> str:
        return shape_of(b'{"custom_id":"x","params":{%b}}' % params.encode())

    one = shape('"model":"m","max_tokens":5,"messages":[{"role":"user","content":"a"}]')
    assert one == shape('"max_tokens":5,"model":"m","messages":[{"role":"user","content":"b"}]')
    for other in (
        '"model":"m","max_tokens":6,"messages":[{"role":"user","content":"a"}]',
        '"model":"m","max_tokens":5,"messages":[{"role":"user","content":[{"type":"text"}]}]',
        '"model":"m","max_tokens":5,"system":"s","messages":[{"role":"user","content":"a"}]',
    ):
        assert shape(other) != one


def test_a_run_that_is_canceled_at_its_canary_ends(
    frame: Any, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    """While the first of two is asked, somebody cancels: nothing else goes out, and it ends."""
    df = frame.assign(limit=[500, 600] * 10)
    runs: list[Any] = []

    submitted = threading.Event()

    def cancel(_: Emulator) -> None:
        assert submitted.wait(20)
        runs[0].cancel()

    emulator.faults = [Fault(method="POST", path=f"{MESSAGES}$", meanwhile=cancel)]
    runs.append(df.claude.submit("{text}", max_tokens=cbp.col("limit"), client=client))
    submitted.set()
    out = runs[0].result()
    assert set(out["answer_status"]) <= {"succeeded", "canceled"}
    assert batched(emulator) == []


def test_the_advice_of_a_refused_canary_works(
    frame: Any, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    """The same call without a canary sends all rows."""
    how: Any = {"params": {"nonsense": 1}, "client": client}
    with pytest.raises(cbp.PausedError, match=r"canary=False sends all rows without it"):
        frame.claude.batch("{text}", **how)
    out = frame.claude.batch("{text}", canary=False, **how)
    assert set(out["answer_status"]) == {"errored"}
    assert len(batched(emulator)) == 20


def test_a_batch_only_beta_has_no_canary(
    frame: Any, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    params = {"betas": ["output-300k-2026-03-24"]}
    frame.claude.batch("{text}", max_tokens=200_000, params=params, client=client)
    assert posts(emulator) == 0


def test_who_a_row_is_for_makes_no_other_shape(
    frame: Any, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    df = frame.assign(user=[{"user_id": f"u{i}"} for i in range(20)])
    df.claude.batch("{text}", params={"metadata": cbp.col("user")}, client=client)
    assert posts(emulator) == 1


# Samples


def test_what_a_sample_got_before_it_died_is_kept(
    frame: Any, client: anthropic.Anthropic, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four at a time: what was answered is answered, and at most four may have been paid."""
    kept: list[str] = []
    true = Store.mark_collected

    def mark(self: Store, *args: Any, **more: Any) -> None:
        if len(kept) == 5:
            msg = "the disk is full"
            raise LedgerError(msg)
        kept.append("x")
        true(self, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "mark_collected", mark)
        with pytest.raises(cbp.LedgerError, match="the disk is full"):
            frame.claude.sample("{text}", n=20, client=client)
    before = posts(emulator)
    out = frame.claude.sample("{text}", n=20, client=client)
    assert before <= 8
    assert posts(emulator) == before + 12
    assert out["answer_status"].value_counts()["succeeded"] == 17


def test_a_sample_is_answered_now_and_not_paid_again(
    frame: Any, client: anthropic.Anthropic, emulator: Emulator, clock: JumpingClock
) -> None:
    start = clock.now()
    shown = frame.claude.sample("Say {text}", n=3, output="x", client=client)

    assert shown.index.tolist() == [0, 10, 19]
    assert list(shown.columns) == ["text", "x", "x_status", "x_error"]
    assert shown["x_status"].tolist() == ["succeeded"] * 3
    assert posts(emulator) == 3
    assert emulator.batches == []
    assert clock.now() - start < 60
    whole = frame.claude.batch("Say {text}", output="x", client=client)
    assert len(batched(emulator)) == 17
    assert whole["x"].iloc[10] == shown["x"].iloc[1]
    frame.claude.sample("Say {text}", n=3, output="x", client=client)
    assert posts(emulator) == 3


class Forgetful(httpx2.BaseTransport):
    """A relay whose answers do not say how they were served."""

    def __init__(self, emulator: Emulator) -> None:
        self.server = emulator.transport()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = self.server.handle_request(request)
        if request.url.path != MESSAGES:
            return response
        told = json.loads(response.read())
        del told["usage"]["service_tier"]
        return httpx2.Response(200, json=told)


def test_what_is_asked_at_once_has_the_live_price_whoever_tells_it(
    frame: Any, emulator: Emulator
) -> None:
    web = httpx2.Client(transport=Forgetful(emulator))
    client = anthropic.Anthropic(api_key="key-of-a-test", http_client=web)
    frame.claude.sample("Say {text}", n=3, output="x", client=client)
    bill = cbp.costs(by="run")

    assert bill["dollars"].tolist() == bill["live_dollars"].tolist()
    assert bill["saved_dollars"].tolist() == [0.0]


def test_a_sample_shows_what_the_api_refuses(frame: Any, client: anthropic.Anthropic) -> None:
    out = frame.claude.sample("{text}", n=2, params={"temperature": 1}, force=True, client=client)
    assert out["answer_status"].tolist() == ["errored"] * 2
    assert "temperature: Extra inputs" in out["answer_error"].iloc[0]


def test_a_sample_waits_for_a_busy_api(
    frame: Any, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    emulator.faults = [Fault(method="POST", path=f"{MESSAGES}$", status=529, times=2)]
    out = frame.claude.sample("{text}", n=2, client=client)
    assert out["answer_status"].tolist() == ["succeeded"] * 2
    emulator.faults = [Fault(method="POST", path=f"{MESSAGES}$", status=529, times=None)]
    out = frame.claude.sample("2 {text}", n=2, client=client)
    assert out["answer_status"].tolist() == ["errored"] * 2
    assert "overloaded_error" in out["answer_error"].iloc[0]


def test_a_lost_sample_may_have_been_paid(
    frame: Any, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    emulator.faults = [Fault(method="POST", path=f"{MESSAGES}$", drop=True, after=True)]
    out = frame.claude.sample("{text}", n=2, client=client)
    assert sorted(out["answer_status"]) == ["errored", "succeeded"]
    assert out["answer_error"].str.contains("may have been paid").sum() == 1
    frame.claude.sample("{text}", n=2, client=client)
    assert posts(emulator) == 2


def test_a_sample_without_a_key_pauses(
    frame: Any, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    emulator.faults = [Fault(method="POST", path=f"{MESSAGES}$", status=401)]
    with pytest.raises(cbp.PausedError, match="Check the API key"):
        frame.claude.sample("{text}", n=1, client=client)
    out = frame.claude.sample("{text}", n=1, client=client)
    assert out["answer_status"].tolist() == ["succeeded"]


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "3"])
def test_a_sample_of_no_rows_is_refused(n: Any, frame: Any) -> None:
    with pytest.raises(cbp.InputError, match="n must be a whole number of at least 1"):
        frame.claude.sample("{text}", n=n)


def test_a_sample_of_a_short_frame_is_all_of_it(
    client: anthropic.Anthropic, emulator: Emulator
) -> None:
    series: Any = pd.Series(["a", "b"])
    out = series.claude.sample("Say {value}", client=client)
    assert len(out) == 2
    empty = series.iloc[:0].claude.sample("Say {value}", client=client)
    assert len(empty) == 0


def test_a_refused_answer_stays_refused(frame: Any, connect: Any, clock: Any) -> None:
    emulator = Emulator(clock=clock.now, rules=[Rule(outcome="refusal", contains="row")])
    out = frame.claude.sample("{text}", n=1, client=connect(emulator))
    assert out["answer_status"].tolist() == ["refused"]


# One request first, that fills the cache


def test_the_cache_is_filled_first(
    frame: Any, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    """One request goes alone; the others when it has ended, and they read what it wrote."""
    system = "These are the rules. " * 400
    run = frame.claude.submit(
        "{text}", system=system, cache=True, warm=True, canary=False, client=client
    )
    run.result()

    assert sorted(len(batch.requests) for batch in emulator.batches) == [1, 19]
    control = emulator.batches[0].requests[0]["params"]["system"][0]["cache_control"]
    assert control == {"type": "ephemeral", "ttl": "1h"}
    assert (run.details()["cache_read_input_tokens"] > 0).sum() > 14  # best effort, as ever
    told = [f"{call.method} {call.path.rpartition('/')[2]}" for call in emulator.calls]
    sent = [i for i, what in enumerate(told) if what == "POST batches"]
    assert len(sent) == 2
    assert sent[0] < told.index("GET results") < sent[1]


def test_filling_a_cache_needs_one(frame: Any) -> None:
    with pytest.raises(cbp.InputError, match="warm=True fills the prompt cache first, so it needs"):
        frame.claude.batch("{text}", warm=True)


def _closing(run: cbp.Run) -> str:
    lines: list[str] = []
    again = cbp.run(run.id, progress=lambda progress: lines.append(progress.summary))
    again.wait()
    return lines[-1]
