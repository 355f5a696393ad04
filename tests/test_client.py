"""The client: one HTTP request a call, to our origin only, and errors that carry no secret."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest

from claude_batch_pandas.client import Client
from claude_batch_pandas.emulator import Emulator, Fault, serve
from claude_batch_pandas.exceptions import APIError, BatchError, CredentialsError, InputError
from claude_batch_pandas.polling import Verdict, is_refusal, judge
from claude_batch_pandas.records import Batch, Counts
from claude_batch_pandas.replies import MAX_RETRY_AFTER
from claude_batch_pandas.spool import Body

KEY = "sk-ant-a-very-secret-key"
PROMPT = b"a very private prompt"
BATCHES = "/v1/messages/batches"
DATE = "Sat, 21 Nov 2026 10:00:00 GMT"

Handler = Callable[[httpx2.Request], httpx2.Response]
Connect = Callable[..., Any]


class Server(httpx2.BaseTransport):
    """A server of one answer, that remembers what it was sent."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.seen: list[httpx2.Request] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        self.seen.append(request)
        return self.handler(request)


def client_of(handler: Handler, **options: Any) -> tuple[Client, list[httpx2.Request]]:
    """Return a client whose server answers as told, and the requests that reached the server."""
    server = Server(handler)
    web = httpx2.Client(transport=server)
    given: dict[str, Any] = {"api_key": KEY, "http_client": web, **options}
    return Client(anthropic.Anthropic(**given)), server.seen


def batch_of(**values: Any) -> dict[str, Any]:
    """Return a batch as the API describes it."""
    return {
        "id": "msgbatch_1",
        "type": "message_batch",
        "processing_status": "in_progress",
        "request_counts": {
            "processing": 2,
            "succeeded": 0,
            "errored": 0,
            "canceled": 0,
            "expired": 0,
        },
        "created_at": "2026-11-20T10:00:00.500000+00:00",
        "expires_at": "2026-11-21T10:00:00Z",
        "ended_at": None,
        "archived_at": None,
        "cancel_initiated_at": None,
        "results_url": None,
        **values,
    }


def error_of(kind: Any = "api_error", message: Any = "Oops", **more: Any) -> dict[str, Any]:
    """Return an error as the API sends it."""
    return {"type": "error", "error": {"type": kind, "message": message, **more}}


def answer(status: int = 200, **options: Any) -> Handler:
    """Return a handler that always gives the same answer."""
    return lambda _: httpx2.Response(status, **options)


@pytest.fixture
def body(tmp_path: Path) -> Body:
    """Return a request body longer than one block."""
    path = tmp_path / "body.json"
    path.write_bytes(b'{"requests":[\n"' + PROMPT + b"x" * 300_000 + b'"\n]}')
    return Body(path)


CALLS: dict[str, Callable[[Client, Body], Any]] = {
    "create": lambda client, body: client.create(body),
    "retrieve": lambda client, _: client.retrieve("msgbatch_1"),
    "list": lambda client, _: client.list(),
    "cancel": lambda client, _: client.cancel("msgbatch_1"),
    "download": lambda client, _: list(client.download("msgbatch_1")),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


# What goes out


@every_call
@pytest.mark.parametrize("status", [307, 408, 409, 429, 500, 502, 503, 504, 529])
def test_a_call_is_one_request(
    status: int, call: Callable[[Client, Body], Any], body: Body
) -> None:
    """Nothing is retried and no redirect is followed, though the server asks for both."""
    headers = {"x-should-retry": "true", "retry-after": "0", "location": "https://evil.example/"}
    client, seen = client_of(answer(status, headers=headers, json=error_of()))
    with pytest.raises(APIError, match=f"The API answered {status}") as caught:
        call(client, body)

    assert len(seen) == 1
    assert caught.value.status == status


@every_call
@pytest.mark.parametrize(
    "error",
    [
        httpx2.ReadTimeout("slow"),
        httpx2.ConnectTimeout("slow"),
        httpx2.WriteError("cut"),
        httpx2.RemoteProtocolError("cut"),
        httpx2.ReadError("reset"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_broken_connection_is_not_tried_again(
    error: httpx2.TransportError, call: Callable[[Client, Body], Any], body: Body
) -> None:
    """The error names what broke, and one request was made."""

    def fail(request: httpx2.Request) -> httpx2.Response:
        error.request = request
        raise error

    client, seen = client_of(fail)
    with pytest.raises(APIError, match=type(error).__name__) as caught:
        call(client, body)

    assert len(seen) == 1
    assert caught.value.status is None


@every_call
def test_every_request_has_a_connection_of_its_own(
    call: Callable[[Client, Body], Any], body: Body
) -> None:
    """A stale connection fails ambiguously, so none is kept."""
    client, seen = client_of(answer(json=batch_of() | {"data": []}))
    call(client, body)

    assert [request.headers["connection"] for request in seen] == ["close"]
    assert seen[0].headers["authorization"] == f"Bearer {KEY}"


def test_create_sends_the_bytes_as_they_are(body: Body) -> None:
    """The body is exactly the file, with its length told; twice when called twice."""
    client, seen = client_of(answer(json=batch_of()))
    client.create(body)
    client.create(body, ["a-1", "b-2"])

    whole = b"".join(body)
    assert [request.content for request in seen] == [whole, whole]
    for request in seen:
        assert request.method == "POST"
        assert request.url.path == BATCHES
        assert request.headers["content-length"] == str(len(whole))
        assert "transfer-encoding" not in request.headers
        assert request.headers["content-type"] == "application/json"
    assert "anthropic-beta" not in seen[0].headers
    assert seen[1].headers["anthropic-beta"] == "a-1,b-2"


def test_other_calls_send_no_body(body: Body) -> None:
    """They go to their path, with their method."""
    client, seen = client_of(answer(json=batch_of() | {"data": []}))
    for name in ("retrieve", "list", "cancel", "download"):
        CALLS[name](client, body)

    assert [(request.method, request.url.path) for request in seen] == [
        ("GET", f"{BATCHES}/msgbatch_1"),
        ("GET", BATCHES),
        ("POST", f"{BATCHES}/msgbatch_1/cancel"),
        ("GET", f"{BATCHES}/msgbatch_1/results"),
    ]
    assert [request.content for request in seen] == [b"", b"", b"", b""]
    assert seen[3].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("slash", ["", "/"])
@every_call
def test_every_request_goes_to_our_base_url(
    call: Callable[[Client, Body], Any], slash: str, body: Body
) -> None:
    """Results too come through the relay, whatever host `results_url` names."""
    value = batch_of(results_url="https://evil.example/results") | {"data": []}
    client, seen = client_of(
        answer(json=value), base_url=f"https://relay.example/some/prefix{slash}"
    )
    call(client, body)

    assert client.origin == "https://relay.example/some/prefix"
    assert [request.url.host for request in seen] == ["relay.example"]
    assert seen[0].url.path.startswith(f"/some/prefix{BATCHES}")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("HTTPS_PROXY", "bad://user:pass-word@x", "A proxy of the environment is not an address"),
        ("HTTPS_PROXY", "http://[::1", "A proxy of the environment is not an address"),
        ("ANTHROPIC_BASE_URL", "http://[::1", "ANTHROPIC_BASE_URL is not an address"),
        ("SSL_CERT_FILE", "/nowhere/pass-less", "The certificates cannot be read"),
    ],
)
def test_addresses_that_are_none_are_told_of(
    name: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the variable, and shows nothing of what may hold a password."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key-of-a-test")
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=words) as caught:
        Client()

    assert "pass-word" not in str(caught.value)
    assert caught.value.__context__ is None


# What comes back


def test_a_batch_is_read_as_the_api_describes_it() -> None:
    """Times are seconds since 1970, counts are requests."""
    counts = {"processing": 0, "succeeded": 1, "errored": 2, "canceled": 3, "expired": 4}
    value = batch_of(
        processing_status="ended",
        request_counts=counts,
        ended_at="2026-11-20T11:00:00Z",
        archived_at="2026-12-20T00:00:00Z",
    )
    client, _ = client_of(answer(json=value))

    assert client.retrieve("msgbatch_1") == Batch(
        id="msgbatch_1",
        processing_status="ended",
        counts=Counts(**counts),
        created_at=1_795_168_800.5,
        expires_at=1_795_255_200.0,
        ended_at=1_795_172_400.0,
        archived=True,
    )


def test_missing_counts_are_zero() -> None:
    """A count that is left out or null is none."""
    client, _ = client_of(answer(json=batch_of(request_counts={"processing": 5, "errored": None})))

    assert client.retrieve("msgbatch_1").counts == Counts(processing=5)


@pytest.mark.parametrize(
    "value",
    [
        *(
            pytest.param({k: v for k, v in batch_of().items() if k != name}, id=f"no {name}")
            for name in (
                "id",
                "type",
                "processing_status",
                "request_counts",
                "created_at",
                "expires_at",
            )
        ),
        pytest.param(batch_of(type="message"), id="another type"),
        pytest.param(batch_of(processing_status="resting"), id="unknown status"),
        pytest.param(batch_of(processing_status=["ended"]), id="status in a list"),
        pytest.param(batch_of(request_counts=None), id="null counts"),
        pytest.param(batch_of(request_counts=[1, 2]), id="counts in a list"),
        pytest.param(batch_of(request_counts={"processing": "many"}), id="count in words"),
        pytest.param(batch_of(created_at="yesterday"), id="time in words"),
        pytest.param(batch_of(created_at=1_795_168_800), id="time as a number"),
        pytest.param(batch_of(expires_at=None), id="no end"),
        *(
            pytest.param(batch_of(id=name), id=f"id {name!r}")
            for name in (None, 5, "", ".", "..", "a/b", "../x", "a b", "a\n", "a?b", "a%2fb")
        ),
        pytest.param(batch_of(id="x" * 257), id="id too long"),
    ],
)
def test_what_is_no_batch_is_refused(value: Any, body: Body) -> None:
    """The SDK would make a batch of anything; here it is an error that proves nothing."""
    client, _ = client_of(answer(json=value))
    with pytest.raises(APIError, match="something that is not a message batch") as caught:
        client.create(body)

    assert not is_refusal(caught.value)


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"null", b'"x"', b'{"id":', b"\xff"])
@pytest.mark.parametrize("name", ["create", "retrieve", "list", "cancel"])
def test_what_is_not_the_apis_json_is_refused(content: bytes, name: str, body: Body) -> None:
    """A captive portal or a cut answer is an error that proves nothing."""
    client, _ = client_of(answer(content=content))
    with pytest.raises(APIError, match="answered 200 with something that is not") as caught:
        CALLS[name](client, body)

    assert caught.value.status == 200
    assert not is_refusal(caught.value)


def test_another_batch_than_asked_for_is_refused() -> None:
    """Results of one batch are never taken for those of another."""
    client, _ = client_of(answer(json=batch_of(id="msgbatch_2")))

    with pytest.raises(APIError, match="Asked for batch msgbatch_1, the server answered with ano"):
        client.retrieve("msgbatch_1")


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "a\n", "x" * 257, "ä", "a?limit=1"])
def test_what_is_no_batch_id_is_never_sent(name: str) -> None:
    """An id becomes part of a path, so it is checked first."""
    client, seen = client_of(answer(json=batch_of()))
    for call in (client.retrieve, client.cancel, lambda name: next(client.download(name))):
        with pytest.raises(InputError, match="is not a batch id; they look like"):
            call(name)

    assert seen == []


def test_results_come_as_the_bytes_they_are() -> None:
    """In blocks, unparsed, with whatever ends the lines."""
    data = b'{"a": 1}\r\n\xff\xfe\n' * 20_000
    client, seen = client_of(answer(content=data))
    blocks = list(client.download("msgbatch_1"))

    assert b"".join(blocks) == data
    assert len(seen) == 1


def test_a_download_that_is_cut_is_told() -> None:
    """What came before the cut was handed out; then comes the error."""

    class Cut(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b"x" * 100_000
            raise httpx2.ReadError(KEY)

    client, _ = client_of(lambda _: httpx2.Response(200, stream=Cut()))
    got: list[bytes] = []
    with pytest.raises(APIError, match=r"broke \(ReadError\)") as caught:
        got.extend(client.download("msgbatch_1"))

    assert b"".join(got) == b"x" * 100_000
    assert KEY not in str(caught.value)


def test_a_download_can_be_left() -> None:
    """Who has seen enough closes it, and the connection with it."""
    closed: list[bool] = []

    class Endless(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            while True:
                yield b"x" * 65_536

        def close(self) -> None:
            closed.append(True)

    client, _ = client_of(lambda _: httpx2.Response(200, stream=Endless()))
    blocks = client.download("msgbatch_1")
    first = next(blocks)
    blocks.close()

    assert first
    assert closed


# Lists


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1000])
def test_all_newer_batches_are_listed_over_many_pages(
    limit: int, emulator: Emulator, connect: Connect, clock: Any
) -> None:
    """With a fence, exactly the newer batches, newest first, whatever the page size."""
    sdk = connect(emulator)
    params = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
    made = []
    for _ in range(8):
        clock.advance(1.0)
        made.append(sdk.messages.batches.create(requests=[{"custom_id": "a", "params": params}]).id)
    client = Client(sdk)
    newer = client.list(limit=limit, before_id=made[2])
    newest = client.list(limit=limit)

    assert [batch.id for batch in newer.batches] == made[:2:-1]
    assert [batch.id for batch in newest.batches] == made[::-1][:limit]
    assert client.list(before_id=made[-1]).batches == []


def test_a_listing_says_whose_it_is_and_when(emulator: Emulator, connect: Connect) -> None:
    """Organization and workspace are the headers', the time is the server's."""
    client = Client(connect(emulator, base_url="https://relay.example"))
    listing = client.list(limit=1)

    assert listing.batches == []
    assert listing.scope == ("https://relay.example", "org_simulated", "wrkspc_simulated")
    assert listing.now == 1_800_000_000.0
    assert client.scope() == listing.scope


@pytest.mark.parametrize(
    "date", [None, "", "yesterday", "Wed, 99 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 99999999999 1:1"]
)
def test_a_relay_may_leave_out_who_and_when(date: str | None) -> None:
    """Then the scope is empty and the time unknown; both are no error."""
    headers = {} if date is None else {"date": date}
    client, _ = client_of(answer(headers=headers, json={"data": [], "has_more": False}))
    listing = client.list()

    assert listing.scope == ("https://api.anthropic.com", "", "")
    assert listing.now is None


@pytest.mark.parametrize("value", [{}, {"data": None}, {"data": {}}, {"data": [5]}], ids=str)
def test_a_list_without_batches_is_refused(value: Any) -> None:
    """An answer that is no list never means that nothing was created."""
    client, _ = client_of(answer(json=value))

    with pytest.raises(APIError, match=r"list of batches that has no data|not a message batch"):
        client.list()


def test_a_relay_that_turns_no_pages_is_noticed() -> None:
    """A server that ignores the cursor would be asked for ever."""
    asked: list[str] = []

    def same_page(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url.query))
        if len(asked) > 20:
            return httpx2.Response(200, json={"data": [], "has_more": False})
        return httpx2.Response(200, json={"data": [batch_of()], "has_more": True})

    client, _ = client_of(same_page)
    with pytest.raises(APIError, match=r"page|cursor|before_id|again"):
        client.list(before_id="msgbatch_0")

    assert len(asked) <= 3


# Errors


def test_an_error_is_told_in_the_apis_words() -> None:
    """Status, type, code and request id are there to be shown and decided on."""
    value = error_of("billing_error", "Your credit balance is too low", error_code="spent")
    value["error"]["details"] = {"error_code": "spent"}
    client, _ = client_of(answer(402, json=value, headers={"request-id": "req_1"}))
    with pytest.raises(APIError, match="402 billing_error: Your credit balance is too") as caught:
        client.list()

    error = caught.value
    assert (error.status, error.type, error.request_id) == (402, "billing_error", "req_1")
    assert error.code == "spent"
    assert error.retry_after is None


@pytest.mark.parametrize("body", [b"", b"<html>" + b"x" * 60_000, b"[]", b"null", b'{"ok": true}'])
def test_an_error_that_is_not_the_apis_has_no_type(body: bytes) -> None:
    """A proxy's page is no proof of anything, and is not shown."""
    client, _ = client_of(answer(400, content=body))
    with pytest.raises(APIError, match="The API answered 400: no explanation came") as caught:
        client.list()

    assert caught.value.type is None
    assert not is_refusal(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("message", [None, "", 5, ["a"], {"a": 1}, "x" * 10_000], ids=repr)
def test_an_error_may_hold_any_message(message: Any) -> None:
    """Whatever stands where words should be, the error is ours, short, and without context."""
    client, _ = client_of(answer(400, json=error_of("invalid_request_error", message)))
    with pytest.raises(APIError, match="The API answered 400 invalid_request_error") as caught:
        client.list()

    assert caught.value.__context__ is None
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", None),
        ("-5", None),
        ("nan", None),
        ("-inf", None),
        ("soon", None),
        ("", None),
        ("2.5", 2.5),
        (" 30 ", 30.0),
        ("inf", MAX_RETRY_AFTER),
        ("1e400", MAX_RETRY_AFTER),
        ("7200", MAX_RETRY_AFTER),
        ("Sat, 21 Nov 2026 10:00:40 GMT", 40.0),
        ("Sat, 21 Nov 2026 11:00:40 +0100", 40.0),
        ("Sat, 21 Nov 2026 09:59:00 GMT", None),
        ("Sun, 22 Nov 2026 10:00:00 GMT", MAX_RETRY_AFTER),
        ("Sat, 99 Nov 2026 10:00:40 GMT", None),
        ("Sat, 21 Nov 99999999999 10:00:40 GMT", None),
    ],
)
def test_retry_after_is_read_with_care(header: str | None, seconds: float | None) -> None:
    """Seconds or a date by the server's clock, never more than a quarter of an hour."""
    headers = {"date": DATE} if header is None else {"date": DATE, "retry-after": header}
    client, _ = client_of(answer(429, headers=headers, json=error_of("rate_limit_error")))
    with pytest.raises(APIError, match="429 rate_limit_error") as caught:
        client.list()

    assert caught.value.retry_after == seconds


def test_a_retry_date_needs_the_servers_clock() -> None:
    """The clock of this machine may be wrong by hours."""
    headers = {"retry-after": "Sat, 21 Nov 2026 10:00:40 GMT"}
    client, _ = client_of(answer(503, headers=headers, json=error_of()))
    with pytest.raises(APIError, match="503") as caught:
        client.list()

    assert caught.value.retry_after is None


def breaks(request: httpx2.Request) -> httpx2.Response:
    """Fail as a transport fails."""
    raise httpx2.ReadError(KEY, request=request)


TROUBLE = {
    "status": answer(400, json=error_of("invalid_request_error")),
    "server error": answer(500, content=b"<html>"),
    "bad date": answer(
        429, headers={"date": DATE, "retry-after": "Sat, 21 Nov 99999999999 10:00:40 GMT"}
    ),
    "odd message": answer(400, json=error_of("invalid_request_error", 5)),
    "connection": breaks,
    "captive portal": answer(content=b"<html>"),
    "no batch": answer(json={}),
}


@every_call
@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE)
def test_errors_carry_neither_key_nor_prompt(
    trouble: Handler, call: Callable[[Client, Body], Any], body: Body
) -> None:
    """Whoever pickles or logs one of our exceptions gives nothing away."""
    client, _ = client_of(trouble)
    try:
        call(client, body)
    except BatchError as error:
        caught: BatchError = error
    else:
        return  # a download takes any bytes; it is verified elsewhere

    assert caught.__cause__ is None
    assert caught.__context__ is None
    data = pickle.dumps(caught)
    assert KEY.encode() not in data
    assert PROMPT not in data
    again = pickle.loads(data)  # noqa: S301 - written a line above
    assert str(again) == str(caught)
    assert vars(again) == vars(caught)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        *((APIError("", status=s, type="t"), True) for s in (400, 401, 402, 403, 404, 413, 422)),
        *((APIError("", status=s), False) for s in (400, 401, 402, 403, 404, 422)),
        (APIError("", status=413), True),
        (APIError("", code="unsent"), True),
        *(
            (APIError("", status=s, type="t"), False)
            for s in (200, 307, 408, 409, 425, 429, 499, 500, 502, 503, 504, 520, 524, 529)
        ),
        (APIError(""), False),
        (APIError("", type="t"), False),
    ],
    ids=lambda value: str(vars(value)) if isinstance(value, APIError) else None,
)
def test_only_proof_is_a_refusal(error: APIError, expected: bool) -> None:
    """A genuine API error of the right status, or a request that never left."""
    assert is_refusal(error) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (httpx2.ConnectError(""), True),
        (httpx2.ConnectTimeout(""), True),
        (httpx2.PoolTimeout(""), True),
        (httpx2.ReadTimeout(""), False),
        (httpx2.WriteTimeout(""), False),
        (httpx2.WriteError(""), False),
        (httpx2.ReadError(""), False),
        (httpx2.CloseError(""), False),
        (httpx2.RemoteProtocolError(""), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_only_an_unmade_connection_proves_that_nothing_was_sent(
    error: httpx2.TransportError, expected: bool, body: Body
) -> None:
    """Everything that happens later is ambiguous."""

    def fail(request: httpx2.Request) -> httpx2.Response:
        raise error

    client, _ = client_of(fail)
    with pytest.raises(APIError, match=r"could not be reached|broke") as caught:
        client.create(body)

    assert is_refusal(caught.value) is expected


# Credentials


def test_a_fingerprint_tells_credentials_apart_and_says_nothing_else() -> None:
    """It depends on the key and the ledger's secret, and holds neither."""
    first, _ = client_of(answer())
    again, _ = client_of(answer())
    other, _ = client_of(answer(), api_key=f"{KEY}2")
    header, _ = client_of(answer(), default_headers={"X-Api-Key": KEY})
    found = {client.fingerprint(b"secret") for client in (first, other, header)}

    assert len(found) == 3
    assert first.fingerprint(b"secret") == again.fingerprint(b"secret")
    assert first.fingerprint(b"another secret") not in found
    assert not any(KEY in str(name) or len(str(name)) != 32 for name in found)


LOOPBACK = [
    "http://127.0.0.1",
    "http://127.0.0.1:8080/prefix",
    "http://localhost:1",
    "http://api.localhost",
    "http://[::1]:9",
]
ELSEWHERE = [
    "https://api.anthropic.com",
    "http://127.0.0.1.example.com",
    "http://localhost.example.com",
    "http://notlocalhost",
    "http://10.0.0.1",
    "http://0.0.0.0",
    "http://[2001:db8::1]",
]


@pytest.mark.parametrize("url", LOOPBACK)
def test_this_machine_needs_no_key(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulator at a loopback address is talked to without one."""
    monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
    client = Client()

    assert client.origin == url
    assert client.fingerprint(b"") is not None


@pytest.mark.parametrize("url", ELSEWHERE)
def test_every_other_machine_needs_a_key(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No request goes out unsigned, and none with a made-up key."""
    monkeypatch.setenv("ANTHROPIC_BASE_URL", url)

    with pytest.raises(CredentialsError, match="No credentials for the Claude API were found"):
        Client(allow_http=True)


@pytest.mark.parametrize("url", ["ftp://u:secret@relay.example/v1", "relay.example", "https://"])
def test_an_address_that_is_none_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written or sent for it, and a password in it is not shown."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
    with pytest.raises(InputError, match="cannot be used: it must begin with https://") as caught:
        Client()

    assert "secret" not in str(caught.value)


def test_a_key_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's own variables are what counts."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    given, _ = client_of(answer())

    assert Client().origin == "https://api.anthropic.com"
    assert Client().fingerprint(b"s") == given.fingerprint(b"s")


def test_a_profile_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the SDK says about it is passed on, as an error of ours."""
    monkeypatch.setenv("ANTHROPIC_PROFILE", "nowhere")
    with pytest.raises(CredentialsError, match=r"cannot use: .*profile 'nowhere'") as caught:
        Client()

    assert caught.value.__context__ is None


@pytest.mark.parametrize("other", [object(), "sk-ant-key", 5], ids=["object", "text", "number"])
def test_what_is_no_client_is_refused(other: Any) -> None:
    """The error says what to pass, and never shows what was passed."""
    with pytest.raises(InputError, match=r"cannot be used: pass an anthropic\.Anthropic") as caught:
        Client(other)

    assert "sk-ant-key" not in str(caught.value)


# Against the emulator


def test_a_batch_from_creation_to_results(
    emulator: Emulator, connect: Connect, clock: Any, tmp_path: Path
) -> None:
    """Create, look, list, download: what the client reads is what the server holds."""
    params = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
    path = tmp_path / "body.json"
    path.write_text(json.dumps({"requests": [{"custom_id": "a-1", "params": params}]}))
    client = Client(connect(emulator))
    created = client.create(Body(path))
    clock.advance(60.0)
    ended = client.retrieve(created.id)
    listed = client.list()
    (line,) = b"".join(client.download(created.id)).splitlines()

    assert (created.processing_status, created.counts.total) == ("in_progress", 1)
    assert (ended.processing_status, ended.counts) == ("ended", Counts(succeeded=1))
    assert listed.batches == [ended]
    assert json.loads(line)["custom_id"] == "a-1"
    with pytest.raises(APIError, match="400 invalid_request_error"):
        client.cancel(created.id)


def test_results_that_are_not_there_yet_are_an_error(clock: Any, connect: Connect) -> None:
    """The error comes at the first block."""
    fault = Fault(method="GET", path=r".*/results", status=404)
    client = Client(connect(Emulator(clock=clock.now, faults=[fault])))

    with pytest.raises(APIError, match="404 not_found_error") as caught:
        next(client.download("msgbatch_1"))
    assert caught.value.status == 404


@pytest.mark.parametrize("key", ["sk-secret\n", "sk-secret\x00"], ids=ascii)
def test_a_key_that_http_cannot_carry_is_told_of(key: str) -> None:
    """Nothing was sent, waiting does not help, and the key is not shown."""
    with serve(emulator=Emulator()) as url:
        client = Client(anthropic.Anthropic(api_key=key, base_url=url))
        with pytest.raises(APIError, match=r"a header that HTTP cannot carry.* Strip it") as caught:
            client.list(limit=1)

    assert is_refusal(caught.value)
    assert judge(caught.value, 0.0) is Verdict.PAUSE
    assert "secret" not in str(caught.value)
