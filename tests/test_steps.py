"""Submitting, polling and collecting when the way to the API is bad: paid once, nothing lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import orjson
import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas import session
from claude_batch_pandas.emulator import Emulator, Fault
from tests.conftest import JumpingClock


def on_post(**how: Any) -> Fault:
    """Spoil the creation of a batch."""
    return Fault(method="POST", path="/v1/messages/batches", **how)


def on_list(**how: Any) -> Fault:
    """Spoil the list of batches."""
    return Fault(method="GET", path="/v1/messages/batches", **how)


def on_look(**how: Any) -> Fault:
    """Spoil a look at one batch."""
    return Fault(method="GET", path=r"/v1/messages/batches/[^/]+", **how)


def on_results(**how: Any) -> Fault:
    """Spoil a download."""
    return Fault(method="GET", path=r".*/results", **how)


Connect = Callable[..., Any]
ROWS = 30


@pytest.fixture
def frame() -> pd.DataFrame:
    """Return rows that all ask something else."""
    return pd.DataFrame({"text": [f"row {i}" for i in range(ROWS)]}, index=[0] * ROWS)


def check_paid_once(emulator: Emulator, out: pd.DataFrame, frame: pd.DataFrame) -> None:
    """Assert that every request reached the server in one batch, and every row has its answer."""
    sent = [r["params"]["messages"][0]["content"] for b in emulator.batches for r in b.requests]
    assert sorted(sent) == sorted(frame["text"])
    assert out["answer"].tolist() == [f"[simulated] {text}" for text in frame["text"]]


SPOILED = [
    pytest.param({"drop": True}, id="drop"),
    *(
        pytest.param({"status": status}, id=str(status))
        for status in (408, 409, 425, 429, 500, 502, 503, 504, 529)
    ),
    pytest.param({"status": 200, "body": b"<html>Log in</html>"}, id="captive portal"),
    pytest.param({"status": 200, "body": b"{}"}, id="no id"),
    pytest.param({"status": 200, "body": b'{"id": "msgb'}, id="broken JSON"),
    pytest.param({"status": 307, "headers": {"location": "/v1/messages/batches"}}, id="307"),
]


@pytest.mark.parametrize("how", SPOILED)
def test_accepted_then_lost_is_adopted(
    how: dict[str, Any], frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """The batch exists but nobody is told: it is found in the list, never sent again."""
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[on_post(after=True, **how)])
    out = frame.claude.batch("{text}", client=connect(emulator))

    check_paid_once(emulator, out, frame)


@pytest.mark.parametrize("how", SPOILED)
def test_never_accepted_is_sent_again_after_settling(
    how: dict[str, Any], frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Nothing appears within settle_seconds, so it goes out again, under another attempt."""
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[on_post(**how)])
    start = clock.now()
    out = frame.claude.batch("{text}", client=connect(emulator))

    check_paid_once(emulator, out, frame)
    is_refusal = how.get("status") in {429, 529}
    assert emulator.batches[0].custom_ids[0][17:19] == ("01" if is_refusal else "02")
    assert emulator.batches[0].created_at - start >= (10.0 if is_refusal else 900.0)


def test_refused_connection_is_sent_again_at_once(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """A connection that was never made proves that nothing was created."""
    emulator = Emulator(clock=clock.now, duration=60.0)
    client = connect(emulator)
    inner = emulator.transport()
    tries: list[str] = []

    class Flaky(httpx2.BaseTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            if request.method == "POST":
                tries.append(request.url.path)
                if len(tries) == 1:
                    msg = "refused"
                    raise httpx2.ConnectError(msg, request=request)
            return inner.handle_request(request)

    client = client.copy(http_client=httpx2.Client(transport=Flaky()))
    start = clock.now()
    out = frame.claude.batch("{text}", client=client)

    check_paid_once(emulator, out, frame)
    assert emulator.batches[0].custom_ids[0][17:19] == "01"
    assert emulator.batches[0].created_at - start < 60


class Cut(httpx2.BaseTransport):
    """Breaks the first upload before its last byte was asked for."""

    def __init__(self, emulator: Emulator, status: int | None) -> None:
        self._inner, self._status = emulator.transport(), status
        self.cuts = 0

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method != "POST" or self.cuts:
            return self._inner.handle_request(request)
        self.cuts += 1
        assert isinstance(request.stream, httpx2.SyncByteStream)
        blocks = iter(request.stream)
        next(blocks)
        if self._status is not None:
            return httpx2.Response(self._status, html="<h1>Oops</h1>")
        msg = "broken pipe"
        raise httpx2.WriteError(msg, request=request)


@pytest.mark.parametrize("status", [None, 500, 503, 408])
def test_a_batch_that_was_not_sent_whole_is_sent_again_at_once(
    status: int | None, frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Without its last byte no server can have accepted it, whatever it answers."""
    emulator = Emulator(clock=clock.now, duration=60.0)
    transport = Cut(emulator, status)
    client = connect(emulator).copy(http_client=httpx2.Client(transport=transport))
    start = clock.now()
    out = frame.claude.batch("{text}", client=client)

    check_paid_once(emulator, out, frame)
    assert emulator.batches[0].custom_ids[0][17:19] == "01"
    assert emulator.batches[0].created_at - start < 60
    assert transport.cuts == 1


def test_one_who_asked_to_be_asked_decides(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """The run pauses instead of sending again; the same cell with an answer goes on."""
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[on_post(drop=True)])
    client = connect(emulator)
    for _ in range(2):
        with pytest.raises(cbp.PausedError, match='on_unknown="resend" to send it again'):
            frame.claude.batch("{text}", client=client, on_unknown="ask")
    assert emulator.batches == []
    out = frame.claude.batch("{text}", client=client, on_unknown="resend")

    check_paid_once(emulator, out, frame)
    assert len(cbp.runs()) == 1


def test_one_who_waits_never_pays_twice(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """However long nothing shows up, nothing is sent; what shows up at last is adopted."""
    late = on_list(skip=1, body=b'{"data": [], "has_more": false}', times=60)
    emulator = Emulator(
        clock=clock.now, duration=60.0, faults=[on_post(after=True, drop=True), late]
    )
    start = clock.now()
    out = frame.claude.batch("{text}", client=connect(emulator), on_unknown="wait")

    check_paid_once(emulator, out, frame)
    assert clock.now() - start > 3000


def test_a_way_that_swallows_every_submission_pauses(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Something in between answers each POST by itself; a person has to look at it."""
    swallow = on_post(status=400, body=b"<h1>Blocked</h1>", times=4)
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[swallow])
    client = connect(emulator)
    with pytest.raises(cbp.PausedError, match="so were those of 3 more; none became a batch"):
        frame.claude.batch("{text}", client=client)
    assert emulator.batches == []
    out = frame.claude.batch("{text}", client=client)

    check_paid_once(emulator, out, frame)


def test_without_its_fence_nothing_is_sent_again(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """When the batch that marked the place in the list is gone, silence proves nothing."""
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[on_post(skip=1, drop=True)])
    client = connect(emulator)
    params: Any = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    requests: Any = [{"custom_id": "theirs", "params": params}]
    fence = client.messages.batches.create(requests=requests)
    clock.advance(120)

    def delete_fence() -> None:
        clock.on_wait = lambda: None
        client.messages.batches.delete(fence.id)

    clock.on_wait = delete_fence
    with pytest.raises(cbp.PausedError, match=r"marked its place in the server's list is gone"):
        frame.claude.batch("{text}", client=client)
    assert [batch.total for batch in emulator.batches] == [1]


def test_an_unknown_policy_is_refused(frame: pd.DataFrame, emulator: Emulator) -> None:
    with pytest.raises(cbp.InputError, match="on_unknown must be one of resend, ask, wait, not 'r"):
        frame.claude.batch("{text}", on_unknown="retry")
    with pytest.raises(
        cbp.InputError, match=r"options.on_unknown must be one of resend, ask, wait"
    ):
        cbp.options.on_unknown = "never"


def test_a_decoy_of_equal_size_is_neither_adopted_nor_canceled(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Somebody else's batch with the same number of requests is looked at, and left alone."""
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[on_post(skip=1, drop=True)])
    client = connect(emulator)
    params = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    requests = [{"custom_id": f"theirs-{i}", "params": params} for i in range(ROWS)]

    def on_progress(progress: Any) -> None:
        # Their batch comes in while ours is unknown.
        if len(emulator.batches) == 1:
            client.messages.batches.create(requests=requests)

    first = client.messages.batches.create(requests=requests[:1])
    out = frame.claude.batch("{text}", client=client, progress=on_progress)

    ours = [batch for batch in emulator.batches if batch.custom_ids[0][:6] != "theirs"]
    assert [batch.total for batch in ours] == [ROWS]
    assert out["answer_status"].eq("succeeded").all()
    assert not any(call.path.endswith("/cancel") for call in emulator.calls)
    assert first.id != ours[0].id


def test_create_refused_for_good_pauses_and_goes_on_later(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """The API's own words are shown; the same call sends it once it is mended."""
    body = orjson.dumps(
        {
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "Your credit balance is too low"},
        }
    )
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[on_post(status=400, body=body)])
    client = connect(emulator)
    with pytest.raises(cbp.PausedError, match="Your credit balance is too low"):
        frame.claude.batch("{text}", client=client)
    listed = cbp.runs()
    out = frame.claude.batch("{text}", client=client)

    assert listed["state"].tolist() == ["paused"]
    check_paid_once(emulator, out, frame)
    assert len(cbp.runs()) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_polling_without_permission_pauses(
    status: int, frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """A key that was revoked stops the polling, not the batch."""
    fault = on_look(status=status, times=1)
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[fault])
    client = connect(emulator)
    with pytest.raises(cbp.PausedError, match=f"The API answered {status}.*then call again"):
        frame.claude.batch("{text}", client=client)
    out = frame.claude.batch("{text}", client=client)

    check_paid_once(emulator, out, frame)


@pytest.mark.parametrize(
    "fault",
    [
        on_look(status=500, times=20),
        on_look(status=503, times=20),
        on_look(status=429, times=5),
        on_look(status=529, times=5),
        on_look(status=404, times=10),
        on_look(drop=True, times=20),
        on_look(status=200, body=b"<html>", times=5),
        on_look(status=301, headers={"location": "https://example.com"}, times=3),
        on_list(status=503, skip=1, times=3),
        on_results(status=503, times=3),
        on_results(drop=True, times=3),
        on_results(status=404, times=3),
    ],
    ids=str,
)
def test_passing_trouble_never_ends_a_run(
    fault: Fault, frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Transport errors, 5xx, 429 and a short 404 are waited out."""
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[fault])
    out = frame.claude.batch("{text}", client=connect(emulator))

    check_paid_once(emulator, out, frame)


def test_lasting_404_pauses_with_an_explanation(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """A batch that stays invisible for 15 minutes belongs to somebody else."""
    fault = on_look(status=404, times=None)
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[fault])
    start = clock.now()
    with pytest.raises(cbp.PausedError, match="another workspace or key, or was deleted"):
        frame.claude.batch("{text}", client=connect(emulator))

    assert 900 <= clock.now() - start < 1200


@pytest.mark.parametrize(("header", "low", "high"), [("120", 120, 240), ("inf", 900, 1100)])
def test_retry_after_is_honoured_up_to_a_quarter_of_an_hour(
    header: str, low: float, high: float, frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """The SDK would sleep for 49 days; here the wait is capped, and shown."""
    fault = on_look(status=429, headers={"retry-after": header})
    emulator = Emulator(clock=clock.now, duration=1.0, faults=[fault])
    notes: list[str] = []
    clock.on_wait = lambda: notes.extend(
        worker.progress.note for worker in session.crew._workers.values()
    )
    start = clock.now()
    frame.claude.batch("{text}", client=connect(emulator))

    assert low <= clock.now() - start <= high
    assert any(f"Asking again in {low:.0f} s" in note for note in notes)


@pytest.mark.parametrize("cut", [0, 1, 500, 5_000])
def test_cut_results_are_downloaded_again(
    cut: int, frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """A file that is silently short is never believed."""
    emulator = Emulator(clock=clock.now, duration=1.0, faults=[on_results(truncate=cut, times=2)])
    out = frame.claude.batch("{text}", client=connect(emulator))

    check_paid_once(emulator, out, frame)
    assert sum(call.path.endswith("/results") for call in emulator.calls) == 3


def spoil(line: bytes) -> Callable[[bytes], bytes]:
    """Return an edit that replaces the first line of a results file."""
    return lambda body: line + body[body.index(b"\n") + 1 :]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"{\n",
        b"[]\n",
        b"5\n",
        b'{"custom_id": null}\n',
        b'{"custom_id":"x","result":{}}\n',
    ],
    ids=["gone", "blank", "broken", "list", "number", "null id", "foreign"],
)
def test_what_stays_unreadable_costs_only_its_row(
    line: bytes, frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """After three downloads the row is errored and says that it may have been paid."""
    fault = on_results(edit=spoil(line), times=None)
    emulator = Emulator(clock=clock.now, duration=1.0, faults=[fault])
    out = frame.claude.batch("{text}", client=connect(emulator))

    assert out["answer_status"].value_counts().to_dict() == {
        "succeeded": ROWS - 1,
        "errored": 1,
    } | {
        status: 0
        for status in out["answer_status"].cat.categories
        if status not in {"succeeded", "errored"}
    }
    lost = out[out["answer_status"] == "errored"]
    assert lost["answer_error"].tolist() == ["no readable result; it may have been paid"]
    kept = out[out["answer_status"] == "succeeded"]
    assert kept["answer"].tolist() == [f"[simulated] {text}" for text in kept["text"]]
    assert sum(call.path.endswith("/results") for call in emulator.calls) == 3


def test_a_repeated_line_is_not_believed(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Two results for one request: which is true cannot be known."""

    def repeat(body: bytes) -> bytes:
        first = body[: body.index(b"\n") + 1]
        return body + first.replace(b"[simulated]", b"[a lie]")

    fault = on_results(edit=repeat, times=None)
    emulator = Emulator(clock=clock.now, duration=1.0, faults=[fault])
    out = frame.claude.batch("{text}", client=connect(emulator))

    assert out["answer_status"].eq("errored").sum() == 1
    assert not out["answer"].str.contains("a lie", na=False).any()


def test_results_are_never_fetched_from_another_host(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """``results_url`` may name any host; the key goes to ours alone."""

    def elsewhere(body: bytes) -> bytes:
        return body.replace(b"https://api.anthropic.com", b"https://evil.example.com")

    emulator = Emulator(clock=clock.now, duration=1.0, faults=[on_look(edit=elsewhere, times=None)])
    inner = emulator.transport()
    hosts: set[str] = set()

    class Watch(httpx2.BaseTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            hosts.add(request.url.host)
            return inner.handle_request(request)

    client = connect(emulator).copy(http_client=httpx2.Client(transport=Watch()))
    frame.claude.batch("{text}", client=client)

    assert hosts == {"api.anthropic.com"}


def test_requests_expire_after_a_day(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """What was not processed in 24 hours is sent again, and is data when it expires again."""
    cbp.options.max_attempts = 2
    cbp.options.poll_seconds = (600.0, 3600.0)
    emulator = Emulator(clock=clock.now, duration=200_000.0)
    out = frame.claude.batch("{text}", client=connect(emulator))

    assert out["answer_status"].eq("expired").any()
    assert len(emulator.batches) == 2


def test_a_server_without_a_list_sends_at_most_once(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Without a list a lost answer cannot be looked for: the run pauses and says so."""
    faults = [on_list(status=404, times=None), on_post(after=True, drop=True)]
    emulator = Emulator(clock=clock.now, duration=1.0, faults=faults)
    client = connect(emulator)
    for _ in range(2):
        with pytest.raises(cbp.PausedError, match=r"has no list of batches.*reuse=False"):
            frame.claude.batch("{text}", client=client)

    assert len(emulator.batches) == 1


def test_a_server_without_a_list_serves_the_main_job(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """As long as no answer is lost, a relay needs no list."""
    emulator = Emulator(clock=clock.now, duration=1.0, faults=[on_list(status=405, times=None)])
    out = frame.claude.batch("{text}", client=connect(emulator))

    check_paid_once(emulator, out, frame)


@pytest.mark.parametrize("status", [429, 500, 503, 529])
def test_a_hiccup_before_the_first_call_is_waited_out(
    status: int, frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Asking who the key belongs to is tried again for a minute."""
    emulator = Emulator(clock=clock.now, duration=1.0, faults=[on_list(status=status, times=3)])
    out = frame.claude.batch("{text}", client=connect(emulator))

    check_paid_once(emulator, out, frame)


def test_a_wrong_key_is_told_at_once(
    frame: pd.DataFrame, emulator: Emulator, connect: Connect
) -> None:
    """Nothing is planned for a key that the API does not know."""
    with pytest.raises(cbp.APIError, match="The API answered 401 authentication_error"):
        frame.claude.batch("{text}", client=connect(emulator, "bad-key"))

    assert len(cbp.runs()) == 0
