"""The emulator for other people's clients: made-up ids, and a path below which a relay answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types.messages import MessageBatch, MessageBatchIndividualResponse

from claude_batch_pandas.emulator import Emulator, Fault, serve
from claude_batch_pandas.exceptions import InputError

PATH = "/v1/messages/batches"
MADE_UP = "message_batch_id"
REQUEST: Any = {
    "custom_id": "my-custom-id-1",
    "params": {
        "model": "claude-opus-5",
        "max_tokens": 1_024,
        "messages": [{"role": "user", "content": "Hello, world"}],
    },
}
EVERYTHING: Any = {
    "custom_id": "my-custom-id-1",
    "params": {
        **REQUEST["params"],
        "cache_control": {"type": "ephemeral", "ttl": "5m"},
        "inference_geo": "inference_geo",
        "metadata": {"user_id": "13803d75"},
        "output_config": {
            "effort": "low",
            "format": {"type": "json_schema", "schema": {"foo": "bar"}},
        },
        "service_tier": "auto",
        "stop_sequences": ["string"],
        "stream": False,
        "system": [{"type": "text", "text": "Today's date is 2024-06-01."}],
        "thinking": {"type": "adaptive", "display": "summarized"},
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "tools": [{"name": "name", "input_schema": {"type": "object"}, "type": "custom"}],
    },
}
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("create", {"requests": [REQUEST]}),
    ("create", {"requests": [EVERYTHING], "user_profile_id": "profile"}),
    ("retrieve", {"message_batch_id": MADE_UP}),
    ("list", {}),
    ("list", {"after_id": "after_id", "before_id": "before_id", "limit": 1}),
    ("list", {"before_id": "before_id"}),
    ("delete", {"message_batch_id": MADE_UP}),
    ("cancel", {"message_batch_id": MADE_UP}),
]
BY_ID = ["retrieve", "delete", "cancel", "results"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Serve an emulator that takes any id."""
    with serve(permissive_ids=True, speed=1_000) as served:
        yield served


@pytest.fixture(params=[False, True], ids=["loose", "strict"])
def client(url: str, request: pytest.FixtureRequest) -> Iterator[anthropic.Anthropic]:
    """Return a client that takes what comes, then one that validates it."""
    with anthropic.Anthropic(
        api_key="k", base_url=url, max_retries=0, _strict_response_validation=request.param
    ) as made:
        yield made


@asynccontextmanager
async def async_client(url: str) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        api_key="k", base_url=url, max_retries=0, _strict_response_validation=True
    ) as made:
        yield made


@pytest.mark.parametrize(("method", "arguments"), CALLS)
def test_every_method_answers(
    client: anthropic.Anthropic, method: str, arguments: dict[str, Any]
) -> None:
    """Plain, raw and streaming, each method parses what it gets for an id that was made up."""
    batches = client.messages.batches
    plain = getattr(batches, method)(**arguments)
    raw = getattr(batches.with_raw_response, method)(**arguments)
    with getattr(batches.with_streaming_response, method)(**arguments) as streamed:
        closed = streamed.is_closed
        parsed = streamed.parse()

    assert raw.is_closed
    assert not closed
    assert streamed.is_closed
    assert type(plain) is type(raw.parse()) is type(parsed)
    if isinstance(plain, MessageBatch) and method != "create":
        assert plain.id == MADE_UP


def test_results_answer(client: anthropic.Anthropic) -> None:
    """Results of a batch that never was are one plausible line, plain, raw and streaming."""
    batches = client.messages.batches
    plain = list(batches.results(MADE_UP))
    raw = list(batches.with_raw_response.results(MADE_UP).parse())
    with batches.with_streaming_response.results(MADE_UP) as streamed:
        lines = list(streamed.parse())

    assert plain == raw == lines
    assert [type(line) for line in lines] == [MessageBatchIndividualResponse]
    assert [line.result.type for line in lines] == ["succeeded"]


@pytest.mark.parametrize("method", BY_ID)
def test_an_empty_id_is_refused_by_the_sdk(client: anthropic.Anthropic, method: str) -> None:
    expected = "Expected a non-empty value for `message_batch_id` but received ''"
    with pytest.raises(ValueError, match=expected):
        getattr(client.messages.batches.with_raw_response, method)("")


@pytest.mark.parametrize(("method", "arguments"), CALLS)
def test_every_method_answers_asynchronously(
    url: str, method: str, arguments: dict[str, Any]
) -> None:
    async def call() -> None:
        async with async_client(url) as client:
            batches = client.messages.batches
            plain = await getattr(batches, method)(**arguments)
            raw = await getattr(batches.with_raw_response, method)(**arguments)
            async with getattr(batches.with_streaming_response, method)(**arguments) as streamed:
                parsed = await streamed.parse()

            assert type(plain) is type(await raw.parse()) is type(parsed)

    asyncio.run(call())


def test_results_answer_asynchronously(url: str) -> None:
    async def call() -> list[str]:
        async with async_client(url) as client:
            lines = await client.messages.batches.results(MADE_UP)
            return [line.result.type async for line in lines]

    assert asyncio.run(call()) == ["succeeded"]


def test_beta_methods_answer_too(client: anthropic.Anthropic) -> None:
    batch = client.beta.messages.batches.retrieve(MADE_UP, betas=["message-batches-2024-09-24"])

    assert batch.id == MADE_UP


def test_a_made_up_batch_has_ended_and_can_still_be_canceled(client: anthropic.Anthropic) -> None:
    """Each call finds it as if it were the first; nothing of it is kept."""
    batches = client.messages.batches
    ended = batches.retrieve(MADE_UP)

    assert (ended.processing_status, ended.request_counts.succeeded) == ("ended", 1)
    assert ended.results_url
    assert batches.cancel(MADE_UP).processing_status == "canceling"
    assert batches.delete(MADE_UP).type == "message_batch_deleted"
    assert batches.retrieve(MADE_UP).processing_status == "ended"
    assert MADE_UP not in {batch.id for batch in batches.list()}


def test_batches_that_exist_are_themselves() -> None:
    """Made-up ids do not soften what is known of real ones."""
    web = httpx2.Client(transport=Emulator(permissive_ids=True, duration=60).transport())
    client = anthropic.Anthropic(api_key="k", http_client=web, max_retries=0)
    batch = client.messages.batches.create(requests=[REQUEST])

    assert client.messages.batches.retrieve(batch.id).processing_status == "in_progress"
    with pytest.raises(anthropic.BadRequestError, match="still processing"):
        client.messages.batches.delete(batch.id)


def relayed(prefix: str = "/relay", **options: Any) -> tuple[Emulator, anthropic.Anthropic]:
    emulator = Emulator(prefix=prefix, duration=0, **options)
    web = httpx2.Client(transport=emulator.transport())
    base_url = f"http://relay.example{prefix}"
    return emulator, anthropic.Anthropic(
        api_key="k", base_url=base_url, http_client=web, max_retries=0
    )


@pytest.mark.parametrize("prefix", ["/relay", "/api/anthropic"])
def test_everything_is_below_the_prefix(prefix: str) -> None:
    """Batches, messages and models answer there, results too, for those who ask there."""
    _, client = relayed(prefix)
    batch = client.messages.batches.create(requests=[REQUEST])
    message = client.messages.create(**REQUEST["params"])
    lines = client.get(f"{PATH}/{batch.id}/results", cast_to=httpx2.Response).text

    assert message.stop_reason == "end_turn"
    assert client.models.retrieve("claude-opus-5").id == "claude-opus-5"
    assert client.messages.batches.list().data[0].id == batch.id
    assert lines.count("\n") == 1


def test_a_results_url_leads_past_the_relay() -> None:
    """It names the origin, as the API wrote it; who follows it leaves the relay and finds nothing."""
    _, client = relayed()
    batch = client.messages.batches.create(requests=[REQUEST])
    ended = client.messages.batches.retrieve(batch.id)

    assert ended.results_url == f"http://relay.example{PATH}/{batch.id}/results"
    with pytest.raises(anthropic.NotFoundError, match="answers below /relay only"):
        client.messages.batches.results(batch.id)


@pytest.mark.parametrize("path", [PATH, "/relay", "/relayed/v1/models", "/"])
def test_nothing_is_outside_of_the_prefix(path: str) -> None:
    emulator, _ = relayed()
    with httpx2.Client(transport=emulator.transport(), base_url="http://sim") as web:
        response = web.get(path)

    assert response.status_code == 404
    assert response.json()["error"]["type"] == "not_found_error"


def test_faults_and_calls_leave_the_prefix_out() -> None:
    """A script of faults is the same behind a relay."""
    emulator, client = relayed(faults=[Fault(method="GET", path=PATH, status=503)])
    with pytest.raises(anthropic.InternalServerError, match="A fault of the emulator"):
        client.messages.batches.list()

    assert [(call.path, call.status) for call in emulator.calls] == [(PATH, 503)]


def test_serve_names_the_prefix() -> None:
    with (
        serve(prefix="/relay", duration=0) as url,
        anthropic.Anthropic(api_key="k", base_url=url, max_retries=0) as client,
    ):
        batch = client.messages.batches.create(requests=[REQUEST])
        ended = client.messages.batches.retrieve(batch.id)

    assert url.endswith("/relay")
    assert ended.results_url == f"{url.removesuffix('/relay')}{PATH}/{batch.id}/results"


@pytest.mark.parametrize("prefix", ["relay", "/relay/", "/", "/a b", "/a//b", "/a?b"])
def test_a_prefix_is_the_beginning_of_a_path(prefix: str) -> None:
    with pytest.raises(InputError, match=r"is not the beginning of a path\. Pass one"):
        Emulator(prefix=prefix)
