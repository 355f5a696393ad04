from __future__ import annotations

from typing import Any, get_args

import anthropic
import httpx2
import pytest
from anthropic.types import Message, ModelInfo
from anthropic.types.model import Model

from claude_batch_pandas.emulator import Emulator, Fault, Rule, SimulatedClock
from claude_batch_pandas.emulator.models import THINKING_TYPES
from claude_batch_pandas.exceptions import InputError

MODEL = "claude-haiku-5-5"
NAMES: tuple[str, ...] = get_args(get_args(Model)[0])


def client_of(emulator: Emulator, key: str = "k") -> anthropic.Anthropic:
    web = httpx2.Client(transport=emulator.transport())
    return anthropic.Anthropic(
        api_key=key, http_client=web, max_retries=0, _strict_response_validation=True
    )


def params(**changes: Any) -> Any:
    messages = [{"role": "user", "content": "How is it?"}]
    return {"model": MODEL, "max_tokens": 1_000, "messages": messages, **changes}


def create(emulator: Emulator | None = None, **changes: Any) -> Message:
    message: Message = client_of(emulator or Emulator()).messages.create(**params(**changes))
    return message


def batched(**changes: Any) -> Message:
    """Return what a batch answers to the same params."""
    client = client_of(Emulator(duration=0))
    batch = client.messages.batches.create(
        requests=[{"custom_id": "a", "params": params(**changes)}]
    )
    (line,) = client.messages.batches.results(batch.id)
    assert line.result.type == "succeeded"
    return line.result.message


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"system": "Choose.\nlabels: a, b"},
        {"thinking": {"type": "disabled"}},
        {"max_tokens": 5},
        {"stop_sequences": ["is"]},
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "boolean"}}}},
        {
            "tools": [{"name": "t", "input_schema": {"type": "object"}}],
            "tool_choice": {"type": "any"},
        },
    ],
)
def test_a_message_is_what_a_batch_answers(changes: dict[str, Any]) -> None:
    """But for its ids and the service tier, an answer at once is the answer of a batch."""
    now: dict[str, Any] = create(**changes).to_dict()
    later: dict[str, Any] = batched(**changes).to_dict()
    assert now["usage"].pop("service_tier") == "standard"
    assert later["usage"].pop("service_tier") == "batch"
    for item in (now, later, *now["content"], *later["content"]):
        item.pop("id", None)
        item.pop("signature", None)

    assert now == later


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"temperature": 1.0}, "temperature: Extra inputs are not permitted"),
        ({"max_tokens": -1}, "max_tokens: Input should be greater than or equal to 0"),
        ({"messages": []}, "messages: at least one message is required"),
        (
            {"model": "claude-opus-5-5", "thinking": {"type": "disabled"}},
            "thinking.type: 'disabled'",
        ),
        (
            {"thinking": {"type": "sometimes"}},
            "thinking.type: Input should be one of .*'sometimes'",
        ),
        ({"stream": True}, "stream: the emulator does not stream"),
    ],
)
def test_bad_params_are_refused_at_once(changes: dict[str, Any], problem: str) -> None:
    """What fails a row at the end of a batch is a 400 here."""
    with pytest.raises(anthropic.BadRequestError, match=problem):
        client_of(Emulator()).messages.create(**params(), extra_body=changes)


def test_a_model_that_does_not_exist_is_not_found() -> None:
    with pytest.raises(anthropic.NotFoundError, match="model: claude-haiku-9"):
        create(model="claude-haiku-9")


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"'])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with httpx2.Client(transport=Emulator().transport(), base_url="http://sim") as web:
        response = web.post("/v1/messages", content=body)

    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_a_body_over_32_megabytes_is_too_large() -> None:
    with pytest.raises(anthropic.RequestTooLargeError, match="maximum size of 32000000 bytes"):
        create(messages=[{"role": "user", "content": "x" * 32_000_000}])


@pytest.mark.parametrize(
    ("error_type", "expected"),
    [
        ("overloaded_error", anthropic.OverloadedError),
        ("rate_limit_error", anthropic.RateLimitError),
        ("invalid_request_error", anthropic.BadRequestError),
        ("api_error", anthropic.InternalServerError),
        ("an_error_of_tomorrow", anthropic.InternalServerError),
    ],
)
def test_an_errored_rule_is_an_http_error(
    error_type: str, expected: type[anthropic.APIStatusError]
) -> None:
    """The rule that errors a row answers a message with the status of its error type."""
    rule = Rule(outcome="errored", error_type=error_type, message="Not now")
    with pytest.raises(expected, match="Not now") as caught:
        create(Emulator(rules=[rule]))

    assert caught.value.type == error_type


def test_rules_count_messages_and_skip_what_only_batches_do() -> None:
    """`every` counts the calls; an outcome that needs a batch is no rule for a message."""
    rules = [Rule(outcome="expired"), Rule(outcome="refusal", every=2)]
    emulator = Emulator(rules=rules)

    assert [create(emulator).stop_reason for _ in range(4)] == [
        "end_turn",
        "refusal",
        "end_turn",
        "refusal",
    ]


def test_faults_strike_messages_too() -> None:
    emulator = Emulator(faults=[Fault(method="POST", path="/v1/messages", status=529)])
    with pytest.raises(anthropic.OverloadedError, match="A fault of the emulator"):
        create(emulator)

    assert create(emulator).stop_reason == "end_turn"


def test_message_ids_differ_and_repeat_with_the_seed() -> None:
    clock = SimulatedClock()
    first = [create(emulator).id for emulator in [Emulator(clock=clock, seed=1)] for _ in range(2)]
    again = [create(emulator).id for emulator in [Emulator(clock=clock, seed=1)] for _ in range(2)]

    assert first == again
    assert len({*first, create(Emulator(clock=clock, seed=2)).id}) == 3


def test_tokens_are_counted_as_a_message_counts_them() -> None:
    """The count is the usage's input, thinking and limits notwithstanding."""
    changes: dict[str, Any] = {
        "system": "Be kind.",
        "tools": [{"name": "t", "description": "d" * 300, "input_schema": {"type": "object"}}],
    }
    client = client_of(Emulator())
    count = client.messages.count_tokens(
        model=MODEL, messages=params()["messages"], **changes
    ).input_tokens

    assert count == create(**changes).usage.input_tokens
    assert (
        count
        > client.messages.count_tokens(model=MODEL, messages=params()["messages"]).input_tokens
    )


def test_token_counts_refuse_what_messages_refuse() -> None:
    client = client_of(Emulator())
    with pytest.raises(anthropic.BadRequestError, match="max_tokens: Extra inputs"):
        client.messages.count_tokens(
            model=MODEL, messages=params()["messages"], extra_body={"max_tokens": 9}
        )
    with pytest.raises(anthropic.BadRequestError, match="messages: Field required"):
        client.post("/v1/messages/count_tokens", cast_to=object, body={"model": MODEL})


def test_every_model_of_the_sdk_is_there() -> None:
    """The names in the SDK's list of models are known, aliases by the id they stand for."""
    client = client_of(Emulator())
    found = {name: client.models.retrieve(name) for name in NAMES}

    assert found["claude-haiku-4-5"].id == "claude-haiku-4-5-20251001"
    assert {model.id for model in client.models.list()} == {model.id for model in found.values()}
    assert all(model.id in NAMES for model in found.values())


def test_a_model_says_everything_the_sdk_knows() -> None:
    """No field of ModelInfo and what is below it is missing."""

    def check(value: Any) -> None:
        assert value.model_fields_set == set(type(value).model_fields)
        for name in value.model_fields_set:
            if hasattr(part := getattr(value, name), "model_fields_set"):
                check(part)

    for model in client_of(Emulator()).models.list(limit=1_000):
        assert isinstance(model, ModelInfo)
        check(model)


# The SDK warns of models that go, and of thinking with a budget.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", NAMES)
def test_models_say_which_thinking_they_take(name: str) -> None:
    """A type is supported exactly when a request with it is not refused."""
    capabilities = client_of(Emulator()).models.retrieve(name).capabilities
    assert capabilities is not None
    said = {kind for kind in THINKING_TYPES if getattr(capabilities.thinking.types, kind).supported}
    taken = set()
    for kind in THINKING_TYPES:
        try:
            create(model=name, thinking={"type": kind, "budget_tokens": 1_024})
        except anthropic.BadRequestError:
            continue
        taken.add(kind)

    assert said == taken


def test_an_unknown_model_is_not_found() -> None:
    with pytest.raises(anthropic.NotFoundError, match="model: claude-9") as caught:
        client_of(Emulator()).models.retrieve("claude-9")

    assert caught.value.type == "not_found_error"


def test_models_are_listed_newest_first_in_both_directions() -> None:
    client = client_of(Emulator())
    ids = [model.id for model in client.models.list(limit=1_000)]
    older = client.models.list(after_id=ids[2], limit=2)
    newer = client.models.list(before_id=ids[2], limit=1)

    assert ids[0] == "claude-fable-5-2"
    assert [model.id for model in older.data] == ids[3:5]
    assert [model.id for model in newer.data] == [ids[1]]
    assert (older.has_more, newer.has_more) == (True, True)
    assert [model.id for model in client.models.list(limit=4)] == ids


def test_models_can_be_listed_by_lifecycle() -> None:
    client = client_of(Emulator())
    deprecated = list(client.models.list(lifecycle=["deprecated"]))

    assert "claude-sonnet-4-5-20250929" in [model.id for model in deprecated]
    assert all(model.retires_at for model in deprecated)
    assert client.models.list(lifecycle=["retired"]).data == []
    with pytest.raises(anthropic.BadRequestError, match=r"lifecycle: .* not 'new'"):
        client.models.list(extra_query={"lifecycle": "new"})
    with pytest.raises(anthropic.BadRequestError, match="after_id: no model 'claude-9'"):
        client.models.list(after_id="claude-9")


@pytest.mark.parametrize("start", [0.0, 1_795_000_000.0])
def test_a_simulated_clock_stands_still_until_it_is_moved(start: float) -> None:
    clock = SimulatedClock(start=start)
    client = client_of(Emulator(clock=clock, duration=60))
    batch = client.messages.batches.create(requests=[{"custom_id": "a", "params": params()}])
    clock.advance(59)
    early = client.messages.batches.retrieve(batch.id).processing_status
    clock.advance(1)

    assert batch.created_at.timestamp() == start
    assert early == "in_progress"
    assert client.messages.batches.retrieve(batch.id).processing_status == "ended"


def test_a_simulated_clock_does_not_go_back() -> None:
    with pytest.raises(InputError, match=r"advance\(-1\) would turn time back"):
        SimulatedClock().advance(-1)
