from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx2
import pytest

from claude_batch_pandas.emulator import Emulator

PATH = "/v1/messages/batches"


def client_of(emulator: Emulator) -> anthropic.Anthropic:
    web = httpx2.Client(transport=emulator.transport())
    return anthropic.Anthropic(api_key="k", http_client=web, max_retries=0)


def params(**changes: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Hello"}]
    return {"model": "claude-haiku-5-5", "max_tokens": 100, "messages": messages, **changes}


def request(custom_id: Any = "a", **more: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "params": params(), **more}


def error_of(**changes: Any) -> str | None:
    """Return the message of a one-row batch's errored row; None when it succeeded."""
    without = {name for name, value in changes.items() if value is ...}
    row = {name: value for name, value in params(**changes).items() if name not in without}
    client = client_of(Emulator(duration=0))
    sent: Any = [{"custom_id": "a", "params": row}]
    batch = client.messages.batches.create(requests=sent)
    (line,) = client.messages.batches.results(batch.id)
    if line.result.type != "errored":
        return None
    assert line.result.error.error.type == "invalid_request_error"
    return line.result.error.error.message


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"requests": []}, "requests: List should have at least 1 item after validation, not 0"),
        ({}, "requests: Field required"),
        ({"requests": {}}, "requests: Input should be a valid list"),
        ({"requests": [request()], "name": "x"}, "name: Extra inputs are not permitted"),
        ([], "Input should be a valid dictionary"),
        ({"requests": [1]}, "requests.0: Input should be a valid dictionary"),
        ({"requests": [{"params": params()}]}, "requests.0.custom_id: Field required"),
        ({"requests": [request(7)]}, "requests.0.custom_id: Input should be a valid string"),
        (
            {"requests": [request(), request("b c")]},
            "requests.1.custom_id: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'",
        ),
        ({"requests": [request("")]}, "requests.0.custom_id: String should match pattern"),
        ({"requests": [request("a\n")]}, "requests.0.custom_id: String should match pattern"),
        (
            {"requests": [request("a" * 65)]},
            "requests.0.custom_id: String should have at most 64 characters",
        ),
        ({"requests": [request(), request()]}, "requests.1.custom_id: duplicate custom_id 'a'"),
        (
            {"requests": [request(original_row={})]},
            "requests.0.original_row: Extra inputs are not permitted",
        ),
        ({"requests": [{"custom_id": "a"}]}, "requests.0.params: Field required"),
        (
            {"requests": [{"custom_id": "a", "params": 1}]},
            "requests.0.params: Input should be a valid dictionary",
        ),
    ],
)
def test_a_bad_frame_refuses_the_whole_batch(body: Any, problem: str) -> None:
    """What surrounds the params is checked at once, with the API's words, and nothing is kept."""
    emulator = Emulator()
    with httpx2.Client(transport=emulator.transport(), base_url="http://sim") as web:
        response = web.post(PATH, json=body)

    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert response.json()["error"]["message"].startswith(problem)
    assert emulator.batches == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"requests": [',
        json.dumps({"requests": [request() | {"params": params(system="\ud800")}]}).encode(),
        b'{"requests": [{"custom_id": "\xff", "params": {}}]}',
        b'{"requests": [{"custom_id": "a", "params": {"system": "\xff"}}]}',
        b'{"requests": [{"custom_id": "a", "params": {"max_tokens": NaN}}]}',
        b'{"requests": [{"custom_id": "a", "params": {"x": %b}}]}' % (b"[" * 9_000),
    ],
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    """Broken JSON, lone surrogates, broken UTF-8 and absurd nesting are a 400."""
    with httpx2.Client(transport=Emulator().transport(), base_url="http://sim") as web:
        response = web.post(PATH, content=body)

    assert response.status_code == 400
    assert "The request body is not valid JSON" in response.json()["error"]["message"]


def test_more_than_100_000_requests_are_too_many() -> None:
    with httpx2.Client(transport=Emulator().transport(), base_url="http://sim") as web:
        body = json.dumps({"requests": [request(f"r{i}") for i in range(100_001)]})
        response = web.post(PATH, content=body.encode())

    assert response.status_code == 413
    assert response.json()["error"]["type"] == "request_too_large"
    assert "not 100001" in response.json()["error"]["message"]


def test_more_than_256_megabytes_are_too_much() -> None:
    """The limit holds to the byte, and the SDK has its own exception for it."""
    body = b'{"requests": [' + b" " * 256_000_000
    with pytest.raises(anthropic.RequestTooLargeError, match="maximum size of 256000000 bytes"):
        client_of(Emulator()).post(PATH, cast_to=object, content=body)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model": ...}, "model: Field required"),
        ({"max_tokens": ...}, "max_tokens: Field required"),
        ({"messages": ...}, "messages: Field required"),
        ({"model": ""}, "model: Input should be a valid string"),
        ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
        ({"max_tokens": "9"}, "max_tokens: Input should be a valid integer"),
        ({"stream": True}, "stream: not supported in the Message Batches API"),
        ({"temperature": 1.0}, "temperature: Extra inputs are not permitted"),
        ({"top_p": 1.0}, "top_p: Extra inputs are not permitted"),
        ({"top_k": 1}, "top_k: Extra inputs are not permitted"),
        ({"foo": 1}, "foo: Extra inputs are not permitted"),
        ({"tools": 1}, "tools: Input should be a valid list"),
        ({"stop_sequences": [1]}, "stop_sequences: Input should be a valid list"),
        ({"system": 1}, "system: Input should be a valid string or list"),
        ({"thinking": "on"}, "thinking: Input should be a valid dictionary"),
        ({"messages": {}}, "messages: Input should be a valid list"),
        ({"messages": []}, "messages: at least one message is required"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role: Input should be"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages: first message must"),
        ({"messages": [{"role": "user"}]}, "messages.0.content: Input should be a valid string"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages.0.content: text content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages.0.content: at least one"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages.0.content: each content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]},
            "messages.0.content: text content blocks must be non-empty",
        ),
    ],
)
def test_bad_params_fail_their_row_at_the_end(changes: dict[str, Any], problem: str) -> None:
    """Params are validated per row: the batch is accepted, the row ends as errored."""
    message = error_of(**changes)

    assert message is not None
    assert message.startswith(problem)


@pytest.mark.parametrize(
    ("model", "changes", "problem"),
    [
        ("claude-opus-5-5", {"thinking": {"type": "disabled"}}, "thinking.type: 'disabled'"),
        ("claude-fable-5", {"thinking": {"type": "enabled"}}, "thinking.type: 'enabled'"),
        ("claude-sonnet-5-5", {"thinking": {"type": "disabled"}}, "use 'between_tools'"),
        ("claude-opus-4-8", {"thinking": {"type": "enabled"}}, "use 'disabled' or 'adaptive'"),
        ("claude-haiku-4-5", {"thinking": {"type": "adaptive"}}, "use 'enabled' or 'disabled'"),
        (
            "claude-opus-5",
            {"thinking": {"type": "disabled"}, "output_config": {"effort": "max"}},
            "thinking.type: 'disabled' is not supported with effort 'max'",
        ),
        ("claude-opus-5-5", {"tool_choice": {"type": "any"}}, "tool_choice: forced tool use"),
        ("claude-mythos-5-1", {"tool_choice": {"type": "tool", "name": "t"}}, "tool_choice: "),
        ("claude-opus-4-6", {"prefill": "The"}, "does not support assistant message prefill"),
    ],
)
def test_models_refuse_what_they_dropped(model: str, changes: dict[str, Any], problem: str) -> None:
    """What only some models refuse fails the row on those."""
    if prefill := changes.pop("prefill", None):
        user = {"role": "user", "content": "Hello"}
        changes = {"messages": [user, {"role": "assistant", "content": prefill}]}

    assert problem in (error_of(model=model, **changes) or "")


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("claude-haiku-5-5", {"thinking": {"type": "disabled"}}),
        ("claude-sonnet-5-5", {"thinking": {"type": "between_tools"}}),
        ("claude-fable-5", {"tool_choice": {"type": "any"}}),
        ("claude-haiku-5-5", {"tool_choice": {"type": "any"}}),
        ("a-model-of-tomorrow", {}),
        ("claude-haiku-5-5", {"metadata": {"user_id": "u"}, "service_tier": "auto"}),
    ],
)
def test_models_take_what_they_take(model: str, changes: dict[str, Any]) -> None:
    assert error_of(model=model, **changes) is None


USER = {"role": "user", "content": "Hello"}
SYSTEM = {"role": "system", "content": "Be brief."}
ASSISTANT = {"role": "assistant", "content": "Hello"}
SEARCHED = {
    "role": "assistant",
    "content": [{"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}],
}


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ([USER, SYSTEM], None),
        ([USER, SYSTEM, ASSISTANT, USER], None),
        ([USER, SEARCHED, SYSTEM], None),
        ([SYSTEM, USER], "messages.0: use the top-level 'system' parameter"),
        ([USER, SYSTEM, USER], "messages.1: role 'system' must precede an 'assistant' message"),
        ([USER, SYSTEM, SYSTEM], "messages.1: role 'system' must precede an 'assistant' message"),
        ([USER, ASSISTANT, SYSTEM], "messages.2: role 'system' must follow a 'user' message"),
        ([USER, {"role": "system", "content": ""}], "messages.1.content: text content blocks"),
    ],
)
def test_system_messages_have_their_places(messages: list[Any], problem: str | None) -> None:
    """One may follow a user's turn and precede the assistant's, or end the conversation."""
    message = error_of(messages=messages, model="claude-haiku-5-5")

    assert (message is None) if problem is None else (message or "").startswith(problem)


@pytest.mark.parametrize(
    ("model", "taken"),
    [
        ("claude-opus-4-8", True),
        ("claude-fable-5", True),
        ("a-model-of-tomorrow", True),
        ("claude-opus-4-7", False),
        ("claude-haiku-4-5", False),
    ],
)
def test_system_messages_depend_on_the_model(model: str, taken: bool) -> None:
    problem = error_of(messages=[USER, SYSTEM], model=model)

    assert problem == (None if taken else "role 'system' is not supported on this model")


def test_a_paused_turn_can_be_handed_back() -> None:
    """An assistant turn that ends in a server tool is no prefill: that is how a pause goes on."""
    search = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    user = {"role": "user", "content": "Hello"}

    assert error_of(messages=[user, {"role": "assistant", "content": [search]}]) is None


def test_old_models_take_a_prefill() -> None:
    user = {"role": "user", "content": "Hello"}
    turns = [user, {"role": "assistant", "content": "The answer is"}]

    assert error_of(model="claude-haiku-4-5-20251001", messages=turns) is None
