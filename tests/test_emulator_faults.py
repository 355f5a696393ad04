from __future__ import annotations

import importlib
import socket
import sys
import threading
from typing import Any

import anthropic
import httpx2
import pytest

import claude_batch_pandas.emulator as emulator_package
from claude_batch_pandas.emulator import Emulator, Fault, Rule, serve
from claude_batch_pandas.exceptions import InputError

PATH = "/v1/messages/batches"


def client_of(emulator: Emulator, **options: Any) -> anthropic.Anthropic:
    web = httpx2.Client(transport=emulator.transport())
    return anthropic.Anthropic(api_key="k", http_client=web, **{"max_retries": 0, **options})


def requests(count: int = 3) -> list[Any]:
    messages = [{"role": "user", "content": "Hello"}]
    params = {"model": "claude-haiku-5-5", "max_tokens": 100, "messages": messages}
    return [{"custom_id": f"r{number}", "params": params} for number in range(count)]


def create(client: anthropic.Anthropic, count: int = 3) -> str:
    return client.messages.batches.create(requests=requests(count)).id


@pytest.mark.parametrize(("after", "kept"), [(False, 0), (True, 1)])
def test_a_dropped_connection_may_have_worked(after: bool, kept: int) -> None:
    """With `after` the batch exists and nobody was told; without, nothing happened."""
    emulator = Emulator(faults=[Fault(method="POST", path=PATH, drop=True, after=after)])
    with pytest.raises(anthropic.APIConnectionError, match="Connection error"):
        create(client_of(emulator))

    assert len(emulator.batches) == kept
    assert [call.status for call in emulator.calls] == [0]


def test_the_sdk_pays_twice_when_an_answer_is_lost() -> None:
    """The fault that the engine is built around: accepted, lost, sent again by default."""
    emulator = Emulator(faults=[Fault(method="POST", path=PATH, drop=True, after=True)])
    create(client_of(emulator, max_retries=1))

    assert len(emulator.batches) == 2


@pytest.mark.parametrize(
    ("status", "error_type", "expected"),
    [
        (429, None, "rate_limit_error"),
        (500, None, "api_error"),
        (503, None, "api_error"),
        (529, None, "overloaded_error"),
        (418, None, "invalid_request_error"),
        (429, "billing_error", "billing_error"),
    ],
)
def test_a_status_comes_with_its_error_type(
    status: int, error_type: str | None, expected: str
) -> None:
    fault = Fault(method="GET", path=PATH, status=status, error_type=error_type)
    with pytest.raises(anthropic.APIStatusError, match="A fault of the emulator") as caught:
        client_of(Emulator(faults=[fault])).messages.batches.list()

    assert (caught.value.status_code, caught.value.type) == (status, expected)


def test_a_fault_can_answer_with_any_body_and_headers() -> None:
    """A captive portal: 200, a page, and headers of its own."""
    fault = Fault(
        method="GET", path=PATH, body=b"<html>Log in</html>", headers={"content-type": "text/html"}
    )
    emulator = Emulator(faults=[fault])
    with httpx2.Client(transport=emulator.transport(), base_url="http://sim") as web:
        response = web.get(PATH)

    assert (response.status_code, response.text) == (200, "<html>Log in</html>")
    assert response.headers["content-type"] == "text/html"


def test_a_redirect_has_no_error_body() -> None:
    fault = Fault(method="GET", path=PATH, status=307, headers={"location": "/elsewhere"})
    with httpx2.Client(transport=Emulator(faults=[fault]).transport(), base_url="http://s") as web:
        response = web.get(PATH)

    assert (response.status_code, response.content) == (307, b"")
    assert response.headers["location"] == "/elsewhere"


def test_headers_alone_leave_the_answer_right() -> None:
    fault = Fault(method="POST", path=PATH, headers={"anthropic-workspace-id": "wrkspc_other"})
    emulator = Emulator(faults=[fault])
    response = client_of(emulator).messages.batches.with_raw_response.create(requests=requests())

    assert response.headers["anthropic-workspace-id"] == "wrkspc_other"
    assert response.parse().id == emulator.batches[0].id


def test_faults_are_used_up() -> None:
    """`skip` lets calls through first, `times` ends it; other calls never notice."""
    emulator = Emulator(faults=[Fault(method="GET", path=PATH, status=500, skip=1, times=2)])
    with httpx2.Client(transport=emulator.transport(), base_url="http://sim") as web:
        seen = [web.get(PATH).status_code for _ in range(5)]
        other = web.get(f"{PATH}/x").status_code

    assert seen == [200, 500, 500, 200, 200]
    assert other == 404


def test_a_fault_can_last_for_ever() -> None:
    emulator = Emulator(faults=[Fault(method="GET", path=f"{PATH}.*", status=503, times=None)])
    with httpx2.Client(transport=emulator.transport(), base_url="http://sim") as web:
        seen = [web.get(PATH).status_code, web.get(f"{PATH}/x").status_code]

    assert seen == [503, 503]


@pytest.mark.parametrize("count", [3, 1_500])
def test_results_can_be_cut_with_correct_framing(count: int) -> None:
    """A truncating proxy: fewer bytes, and a Content-Length that agrees."""
    fault = Fault(method="GET", path=f"{PATH}/.*/results", truncate=100)
    client = client_of(Emulator(duration=0, faults=[fault]))
    batch_id = create(client, count)
    with client.messages.batches.with_streaming_response.results(batch_id) as response:
        body = b"".join(response.iter_bytes())

    assert len(body) == 100
    assert response.headers["content-length"] == "100"


def test_a_correct_answer_can_be_edited() -> None:
    fault = Fault(
        method="GET",
        path=f"{PATH}/.*",
        edit=lambda body: body.replace(b"in_progress", b"pondering"),
    )
    client = client_of(Emulator(duration=60, faults=[fault]))

    assert client.messages.batches.retrieve(create(client)).to_dict()["processing_status"] == (
        "pondering"
    )


def test_serve_answers_the_sdk_over_a_socket() -> None:
    """The real SDK over HTTP: create, end, stream 2,500 results, delete."""
    emulator = Emulator(duration=0)
    with (
        serve(emulator=emulator) as url,
        anthropic.Anthropic(api_key="k", base_url=url, max_retries=0) as client,
    ):
        batch_id = create(client, 2_500)
        batch = client.messages.batches.retrieve(batch_id)
        lines = list(client.messages.batches.results(batch_id))
        client.messages.batches.delete(batch_id)

    assert batch.results_url == f"{url}{PATH}/{batch_id}/results"
    assert len(lines) == 2_500
    assert [call.method for call in emulator.calls] == ["POST", "GET", "GET", "GET", "DELETE"]


def test_serve_sends_each_header_once() -> None:
    with serve(duration=0) as url, httpx2.Client() as web:
        response = web.get(f"{url}{PATH}")

    assert len(response.headers.get_list("date")) == 1
    assert response.headers["x-simulated"] == "claude_batch_pandas emulator"


def test_serve_drops_the_connection() -> None:
    """A dropped call ends without a byte, and the server goes on."""
    faults = [Fault(method="POST", path=PATH, drop=True, after=True)]
    emulator = Emulator(faults=faults)
    with (
        serve(emulator=emulator) as url,
        anthropic.Anthropic(api_key="k", base_url=url, max_retries=0) as client,
    ):
        with pytest.raises(anthropic.APIConnectionError, match="Connection error"):
            create(client)
        listed = client.messages.batches.list().data

    assert [batch.id for batch in listed] == [batch.id for batch in emulator.batches]
    assert len(listed) == 1


def test_serve_refuses_an_oversized_upload_with_413() -> None:
    """The whole body is read before the refusal, so that the client sees it."""
    with serve() as url, httpx2.Client() as web:
        blocks = (b" " * 1_000_000 for _ in range(257))
        headers = {"content-length": "257000000"}
        response = web.post(f"{url}{PATH}", content=blocks, headers=headers)

    assert response.status_code == 413
    assert response.json()["error"]["type"] == "request_too_large"


def test_serve_takes_the_emulators_options() -> None:
    rules = [Rule(outcome="refusal")]
    with (
        serve(duration=0, rules=rules) as url,
        anthropic.Anthropic(api_key="k", base_url=url) as client,
    ):
        (line,) = client.messages.batches.results(create(client, 1))

    assert line.result.to_dict()["message"]["stop_reason"] == "refusal"  # type: ignore[index]


def test_serve_is_gone_afterwards() -> None:
    """Leaving the block closes the port and ends the thread."""
    before = threading.active_count()
    with serve() as url:
        assert threading.active_count() > before
    port = int(url.rpartition(":")[2])

    assert not [thread for thread in threading.enumerate() if "serve_forever" in thread.name]
    with pytest.raises(ConnectionRefusedError, match="refused"):
        socket.create_connection(("127.0.0.1", port))


def test_a_port_in_use_is_explained() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(InputError, match=f"Cannot listen at 127.0.0.1:{port}"),
            serve(port=port),
        ):
            pass


def test_serve_takes_an_emulator_or_options() -> None:
    with pytest.raises(InputError, match=r"options for a new one: \['seed', 'speed'\]"):  # noqa: SIM117
        with serve(emulator=Emulator(), speed=2.0, seed=1):
            pass


def test_without_werkzeug_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "werkzeug", None)

    with pytest.raises(ImportError, match=r"pip install 'claude-batch-pandas\[emulator\]'"):
        importlib.reload(emulator_package)
