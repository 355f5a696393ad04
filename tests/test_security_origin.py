"""Where the key goes: to the configured scheme, host and port, encrypted, and nowhere else."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas import session
from claude_batch_pandas.addresses import server_of
from claude_batch_pandas.client import Client
from claude_batch_pandas.emulator import Emulator, serve
from claude_batch_pandas.exceptions import APIError, InputError, PausedError
from claude_batch_pandas.spool import Body
from tests.conftest import JumpingClock
from tests.hostile import Answer, answer_json, batch_json, hostile

KEY = "sk-ant-canary-origin"
OTHER = "sk-ant-canary-of-a-header"

Call = Callable[[Client, Body], Any]
CALLS: dict[str, Call] = {
    "create": lambda client, body: client.create(body),
    "retrieve": lambda client, _: client.retrieve("msgbatch_1"),
    "list": lambda client, _: client.list(),
    "list newer": lambda client, _: client.list(before_id="msgbatch_0"),
    "history": lambda client, _: list(client.history(0.0)),
    "scope": lambda client, _: client.scope(),
    "cancel": lambda client, _: client.cancel("msgbatch_1"),
    "delete": lambda client, _: client.delete("msgbatch_1"),
    "download": lambda client, _: list(client.download("msgbatch_1")),
}


@pytest.fixture
def body(tmp_path: Path) -> Body:
    """Return a request body with a private prompt."""
    path = tmp_path / "body.json"
    path.write_bytes(b'{"requests":["private"]}')
    return Body(path)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_no_redirect_is_followed(call: Call, status: int, body: Body) -> None:
    """No call takes the key, the custom headers or the prompts to another port."""
    with hostile(lambda _: answer_json(batch_json())) as decoy:
        to_decoy = Answer(status, {"Location": f"{decoy.url}/v1/messages/batches"})
        with hostile(lambda _: to_decoy) as server:
            sdk = anthropic.Anthropic(
                api_key=KEY, base_url=server.url, default_headers={"X-Relay-Key": OTHER}
            )
            with pytest.raises(APIError, match=f"The API answered {status}"):
                call(Client(sdk), body)

    assert decoy.asked == []
    assert len(server.asked) == 1
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_middleware_of_the_user_hides_no_error(call: Call, body: Body) -> None:
    """A client with middleware is told of errors like any other."""

    def passes(request: Any, call_next: Any) -> Any:
        return call_next(request)

    with hostile(lambda _: Answer(403)) as server:
        sdk = anthropic.Anthropic(api_key=KEY, base_url=server.url, middleware=[passes])
        with pytest.raises(APIError, match="The API answered 403") as caught:
            call(Client(sdk), body)

    assert caught.value.status == 403


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("{decoy}/results", 1),
        ("http://127.0.0.1@{host}/r", 1),
        ("//{host}/r", 1),
        ("file:///etc/passwd", 0),
        ("{{x}}", 0),
        ("../..", 0),
    ],
)
def test_results_come_from_the_base_url(
    place: str, told: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever host `results_url` names is not asked; one line of the log says so."""
    caplog.set_level(logging.DEBUG, "claude_batch_pandas")
    with hostile(lambda _: Answer()) as decoy:
        url = place.format(decoy=decoy.url, host=decoy.url.removeprefix("http://"))
        with hostile(lambda _: answer_json(batch_json(results_url=url))) as server:
            client = Client(anthropic.Anthropic(api_key=KEY, base_url=server.url))
            for _ in range(3):
                client.retrieve("msgbatch_1")
                list(client.download("msgbatch_1"))

    notes = [record for record in caplog.records if "Results are read from" in record.message]
    assert decoy.asked == []
    assert len(server.asked) == 6
    assert len(notes) == told


def test_results_of_our_own_host_need_no_note(caplog: pytest.LogCaptureFixture) -> None:
    """A port that is the scheme's own, written or not, is the same server."""
    caplog.set_level(logging.DEBUG)
    value = batch_json()
    with hostile(lambda _: answer_json(value)) as server:
        value["results_url"] = f"{server.url}/v1/messages/batches/msgbatch_1/results"
        Client(anthropic.Anthropic(api_key=KEY, base_url=server.url)).retrieve("msgbatch_1")

    assert "Results are read from" not in caplog.text
    assert server_of("https://a.example/x") == server_of("https://A.example:443")
    assert server_of("https://a.example:99999") == server_of("relative/path") == ""


@pytest.mark.parametrize(
    "url",
    [
        "http://api.anthropic.com",
        "http://10.0.0.7:8000/relay",
        "http://127.0.0.1.example.com",
        "HTTP://relay.example",
        "http://[2001:db8::1]:8000",
    ],
)
def test_an_address_that_is_not_encrypted_is_refused(
    url: str, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    """Of the environment or of a client; the error names the way to allow it, which works."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
    words = r"is not encrypted.*Use https://, or allow it with cbp\.options\.allow_http = True"
    df = pd.DataFrame({"text": ["private"]})
    with pytest.raises(InputError, match=words):
        df.claude.batch("{text}")
    with pytest.raises(InputError, match=words):
        df.claude.batch("{text}", client=anthropic.Anthropic())
    nothing_is_written = not home.exists()
    cbp.options.allow_http = True

    assert nothing_is_written
    assert session._client().origin == url.lower()
    cbp.options.allow_http = False
    with pytest.raises(InputError, match=words):
        session._client()


@pytest.mark.parametrize("user", ["user:pass-word", "user", ":pass-word", "api.anthropic.com"])
def test_a_user_in_the_address_is_refused(user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be sent in the key's place; it is not shown either."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", f"https://{user}@relay.example/prefix?token=pass-word")
    words = r"'https://relay.example/prefix' has a user or a password before its host"
    with pytest.raises(InputError, match=words) as caught:
        Client()

    assert "pass-word" not in str(caught.value)


def test_an_address_that_ends_in_v1_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request would go to /v1/v1."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "https://relay.example/v1/")

    with pytest.warns(UserWarning, match=r"ends in /v1, and requests will go to /v1/v1/messages"):
        Client()


def test_a_run_does_not_change_its_server(
    clock: JumpingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A base URL that changed in between gets neither the key nor the batch ids of the run."""
    df = pd.DataFrame({"text": ["private"]})
    with serve(emulator=Emulator(clock=clock.now, duration=60.0)) as url:
        run = df.claude.submit("{text}", client=anthropic.Anthropic(api_key=KEY, base_url=url))
        session.crew.stop()
    with hostile(lambda _: answer_json(batch_json())) as decoy:
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", decoy.url)
        again = cbp.run(run.id)
        for act in (again.result, again.cancel, lambda: again.purge(server=True)):
            with pytest.raises((PausedError, InputError), match=r"was sent to|cancel it"):
                act()

    assert decoy.asked == []


def test_a_decoy_is_asked_nothing_with_custom_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers of the environment go where the key goes."""
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", f"X-Relay-Key: {OTHER}")
    with hostile(lambda _: Answer()) as decoy:
        to_decoy = Answer(307, {"Location": decoy.url})
        with hostile(lambda _: to_decoy) as server:
            client = Client(anthropic.Anthropic(api_key=KEY, base_url=server.url))
            with pytest.raises(APIError, match="The API answered 307"):
                client.list()

    assert decoy.asked == []
    assert [asked.headers["x-relay-key"] for asked in server.asked] == [OTHER]
