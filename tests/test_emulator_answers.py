from __future__ import annotations

import json
from typing import Any, Literal

import anthropic
import httpx2
import jsonschema
import pydantic
import pytest
from anthropic.types import Message
from hypothesis import given
from hypothesis import strategies as st

from claude_batch_pandas.emulator import Emulator, Rule
from claude_batch_pandas.emulator.labels import choose, labels_of
from claude_batch_pandas.emulator.schemas import instance

MODEL = "claude-haiku-5-5"


def line_of(text: Any, *rules: Rule, **changes: Any) -> Any:
    """Return the result of a batch of one request."""
    web = httpx2.Client(transport=Emulator(duration=0, rules=rules).transport())
    client = anthropic.Anthropic(api_key="k", http_client=web, max_retries=0)
    params: Any = {
        "model": MODEL,
        "max_tokens": 1_000,
        "messages": [{"role": "user", "content": text}],
        **changes,
    }
    batch = client.messages.batches.create(requests=[{"custom_id": "a", "params": params}])
    (line,) = client.messages.batches.results(batch.id)
    return line.result


def message_of(text: Any, *rules: Rule, **changes: Any) -> Message:
    result = line_of(text, *rules, **changes)
    assert result.type == "succeeded"
    message: Message = result.message
    return message


def text_of(text: Any, *rules: Rule, **changes: Any) -> str:
    message = message_of(text, *rules, **changes)
    return "".join(block.text for block in message.content if block.type == "text")


def json_of(text: str, schema: dict[str, Any]) -> Any:
    style = {"format": {"type": "json_schema", "schema": schema}}
    return json.loads(text_of(text, output_config=style))


def test_an_echo_says_that_it_is_simulated() -> None:
    assert text_of("How is\nit?") == "[simulated] How is\nit?"


def test_answers_are_deterministic() -> None:
    assert text_of("Same") == text_of("Same")


def test_a_message_has_every_field() -> None:
    """No field that the SDK's Message and Usage know is missing."""
    message = message_of("Hello")
    usage = message.usage

    assert message.model_fields_set == set(Message.model_fields)
    assert usage.model_fields_set == set(type(usage).model_fields)
    assert message.id.startswith("msg_sim_")
    assert message.stop_reason == "end_turn"
    assert usage.service_tier == "batch"


def test_usage_follows_the_texts_lengths() -> None:
    """Input tokens grow by bytes / 3.1, of system, messages, tools and schemas; images are flat."""
    base = message_of("x").usage.input_tokens
    image = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    block = {"type": "text", "text": "x"}

    assert message_of("é" * 155 + "x").usage.input_tokens == base + 100
    assert message_of("x", system="s" * 309).usage.input_tokens == base + 100
    assert message_of([block, image]).usage.input_tokens == base + 1_500
    assert message_of("x", tools=[{"name": "t" * 500}]).usage.input_tokens > base + 100


def test_models_that_think_begin_with_a_thinking_block() -> None:
    """Thinking has a signature, no text, and its tokens are counted among the output's."""
    message = message_of("Hello")
    thinking = message.content[0]
    assert thinking.type == "thinking"
    assert message.usage.output_tokens_details is not None
    thought = message.usage.output_tokens_details.thinking_tokens

    assert (thinking.thinking, bool(thinking.signature)) == ("", True)
    assert 0 < thought < message.usage.output_tokens


@pytest.mark.parametrize(
    ("model", "thinking", "thinks"),
    [
        ("claude-haiku-5-5", None, True),
        ("claude-haiku-5-5", "disabled", False),
        ("claude-sonnet-5-5", "between_tools", False),
        ("claude-opus-4-8", None, False),
        ("claude-opus-4-8", "adaptive", True),
        ("claude-haiku-4-5", None, False),
        ("unknown", None, False),
    ],
)
def test_thinking_depends_on_the_model(model: str, thinking: str | None, thinks: bool) -> None:
    changes: dict[str, Any] = {"thinking": {"type": thinking}} if thinking else {}
    types = [block.type for block in message_of("Hello", model=model, **changes).content]

    assert types == (["thinking", "text"] if thinks else ["text"])


def test_a_summary_of_the_thinking_is_simulated_too() -> None:
    block = message_of("Hi", thinking={"type": "adaptive", "display": "summarized"}).content[0]

    assert block.type == "thinking"
    assert block.thinking.startswith("[simulated]")


def test_thinking_can_use_max_tokens_up() -> None:
    """A small max_tokens leaves no answer on a model that thinks, as on the real API."""
    message = message_of("Hello", max_tokens=5)

    assert [block.type for block in message.content] == ["thinking"]
    assert message.stop_reason == "max_tokens"
    assert message.usage.output_tokens == 5


def test_a_long_answer_is_cut_at_max_tokens() -> None:
    rule = Rule(outcome="succeeded", text="é" * 100)
    message = message_of("Hello", rule, max_tokens=10, model="claude-haiku-4-5")

    assert message.stop_reason == "max_tokens"
    assert message.usage.output_tokens == 10
    assert message.content[0].to_dict()["text"] == "é" * 15


def test_stop_sequences_stop() -> None:
    rule = Rule(outcome="succeeded", text="one two three")
    message = message_of("x", rule, stop_sequences=["three", "two"])
    unmet = message_of("x", rule, stop_sequences=["four"])

    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "two")
    assert message.content[-1].to_dict()["text"] == "one "
    assert unmet.stop_reason == "end_turn"


def test_a_labels_line_is_a_choice() -> None:
    """The answer is exactly the label whose words the text shares."""
    prompt = "Which intent?\nI lost my card!\nLabels: card_lost, top up, refund."

    assert text_of(prompt) == "card_lost"


def test_labels_may_be_in_the_system_prompt_or_a_block() -> None:
    labels = "Choose.\nLABELS: card_lost, top_up"
    block = {"type": "text", "text": "I want topping up"}

    assert text_of("Topping my account up", system=labels) == "top_up"
    assert text_of([block], system=[{"type": "text", "text": labels}]) == "top_up"


@given(st.text(), st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_a_choice_is_always_one_of_the_labels(text: str, labels: list[str]) -> None:
    """Whatever the text, an answer is one of the labels, and the same each time."""
    chosen = choose(tuple(labels), text)

    assert chosen in labels
    assert choose(tuple(labels), text) == chosen


def test_a_long_text_is_no_harder() -> None:
    """Words are remembered up to a limit; beyond it they are still understood."""
    text = " ".join(f"w{number}" for number in range(50_001)) + " lost"

    assert choose(("found", "lost"), text) == "lost"


def test_texts_that_share_nothing_spread_over_the_labels() -> None:
    chosen = {choose(("alpha", "beta", "gamma"), f"text {n}") for n in range(50)}

    assert chosen == {"alpha", "beta", "gamma"}


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("labels: a, b", ("a", "b")),
        ("x\n  Labels : 'a b' , \"c\", a b.", ("a b", "c")),
        ("the labels: a, b", ()),
        ("labels:", ()),
    ],
)
def test_labels_are_read_from_a_line_of_their_own(text: str, labels: tuple[str, ...]) -> None:
    assert labels_of(text) == labels


class Address(pydantic.BaseModel):
    city: str
    since: str | None = None


class Ticket(pydantic.BaseModel):
    product: Literal["card", "account"]
    urgent: bool
    stars: int = pydantic.Field(ge=1, le=5)
    share: float = pydantic.Field(gt=0, lt=1)
    tags: list[Literal["lost", "late", "broken"]] = pydantic.Field(min_length=1, max_length=2)
    note: str = pydantic.Field(min_length=30, max_length=40)
    address: Address
    others: list[Address]
    kind: Literal["ticket"] = "ticket"


@given(st.text(max_size=60))
def test_a_pydantic_model_is_obeyed(text: str) -> None:
    """What transform_schema makes of a model is answered with what the model validates."""
    schema = anthropic.transform_schema(Ticket)

    ticket = Ticket.model_validate(instance(schema, text))
    assert list(ticket.model_dump()) == list(Ticket.model_fields)
    assert instance(schema, text) == instance(schema, text)


def test_a_schema_is_answered_in_its_own_order_and_with_the_texts_words() -> None:
    schema = {
        "type": "object",
        "properties": {
            "z": {"enum": ["found", "lost"]},
            "a": {"type": "integer"},
            "m": {"type": "string"},
            "k": {"const": 3},
        },
    }
    answer = json_of("I lost 7 cards", schema)

    assert list(answer.items()) == [
        ("z", "lost"),
        ("a", 7),
        ("m", "[simulated] I lost 7 cards"),
        ("k", 3),
    ]


def test_an_enum_alone_is_answered_with_json() -> None:
    assert json_of("I lost it", {"type": "string", "enum": ["found", "lost"]}) == "lost"
    assert json_of("x", {"enum": [1, None, 2.5]}) in {1, None, 2.5}


def test_the_older_output_format_is_obeyed_too() -> None:
    style = {"type": "json_schema", "schema": {"type": "boolean"}}

    assert text_of("x", output_format=style) in {"true", "false"}


@pytest.mark.parametrize(
    ("schema", "types"),
    [
        ({"type": ["string", "null"]}, (str, type(None))),
        ({"oneOf": [{"type": "number"}]}, (float,)),
        ({"anyOf": [{"type": "null"}]}, (type(None),)),
        ({"allOf": [{"type": "integer"}, {"minimum": 3}]}, (int,)),
        ({"properties": {}}, (dict,)),
        ({"items": {"type": "integer"}, "minItems": 3}, (list,)),
        ({"type": "string", "format": "date"}, (str,)),
        ({"type": "integer", "minimum": -5, "maximum": -5}, (int,)),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "boolean"}}}, (bool,)),
        ({"items": True}, (list,)),
        ({"$ref": "#"}, (str,)),
        ({"$ref": "#/a/b/c", "a": {"b": 1}}, (str,)),
        ({}, (str,)),
    ],
)
def test_every_keyword_is_understood(schema: dict[str, Any], types: tuple[type, ...]) -> None:
    assert type(instance(schema, "text")) in types


def test_bounds_hold() -> None:
    """Numbers of the text are used only where they fit; a required count is kept."""
    assert instance({"type": "integer", "minimum": 1, "maximum": 3}, "9 cards") in {1, 2, 3}
    assert instance({"type": "integer", "minimum": 900}, "9 cards") >= 900
    assert instance({"type": "number", "exclusiveMaximum": -2}, "9") < -2
    assert instance({"type": "array", "items": {"const": 1}, "minItems": 4}, "x") == [1] * 4


def test_a_schema_that_refers_to_itself_ends() -> None:
    """Below some depth only what is required is written."""
    node = {
        "type": "object",
        "properties": {
            "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "string"}]},
            "down": {"$ref": "#/$defs/node"},
            "many": {"type": "array", "items": {"$ref": "#/$defs/node"}},
        },
        "required": ["next", "many"],
    }

    assert "next" in instance({"$ref": "#/$defs/node", "$defs": {"node": node}}, "x")


def test_an_errored_row_has_the_apis_two_levels_or_one() -> None:
    two = line_of("x", Rule(outcome="errored", error_type="overloaded_error", message="Busy"))
    one = line_of("x", Rule(outcome="errored", flat=True))

    assert (two.error.error.type, two.error.error.message) == ("overloaded_error", "Busy")
    assert two.error.request_id.startswith("req_sim_")
    assert one.error.type == "api_error"
    assert one.error.message == "[simulated] Internal server error"


@pytest.mark.parametrize("outcome", ["expired", "canceled"])
def test_rows_can_end_unanswered(outcome: str) -> None:
    assert line_of("x", Rule(outcome=outcome)).type == outcome


def test_a_result_type_nobody_knows() -> None:
    assert line_of("x", Rule(outcome="unknown_type")).type == "simulated_unknown_type"


def test_a_refusal_is_empty_and_explained() -> None:
    message = message_of("x", Rule(outcome="refusal"))

    assert (message.content, message.stop_reason) == ([], "refusal")
    assert message.stop_details is not None
    assert message.stop_details.type == "refusal"
    assert (message.stop_details.explanation or "").startswith("[simulated]")


@pytest.mark.parametrize(
    ("outcome", "stop_reason"),
    [("max_tokens", "max_tokens"), ("context_window", "model_context_window_exceeded")],
)
def test_a_cut_answer_keeps_its_first_half(outcome: str, stop_reason: str) -> None:
    rule = Rule(outcome=outcome, text="partial answer")
    message = message_of("x", rule)

    assert message.stop_reason == stop_reason
    assert message.content[-1].to_dict()["text"] == "partial"
    assert (message.usage.output_tokens == 1_000) is (outcome == "max_tokens")


def test_an_answer_cut_to_nothing_has_no_text_block() -> None:
    rule = Rule(outcome="max_tokens", text="x")

    assert [block.type for block in message_of("x", rule).content] == ["thinking"]


def test_a_paused_turn_ends_in_a_server_tool() -> None:
    message = message_of("x", Rule(outcome="pause_turn"))

    assert message.stop_reason == "pause_turn"
    assert [block.type for block in message.content] == ["thinking", "text", "server_tool_use"]


def test_an_empty_answer_has_no_text() -> None:
    message = message_of("x", Rule(outcome="empty"))

    assert message.stop_reason == "end_turn"
    assert [block.type for block in message.content] == ["thinking"]


TOOLS = [
    {"name": "first", "input_schema": {"type": "object", "properties": {"n": {"type": "integer"}}}},
    {"name": "second", "input_schema": {"type": "object"}},
]


@pytest.mark.parametrize(
    ("rules", "changes", "name"),
    [
        ([Rule(outcome="tool_use")], {"tools": TOOLS}, "first"),
        ([Rule(outcome="tool_use")], {}, "simulated_tool"),
        ([], {"tools": TOOLS, "tool_choice": {"type": "any"}}, "first"),
        ([], {"tools": TOOLS, "tool_choice": {"type": "tool", "name": "second"}}, "second"),
        ([], {"tools": TOOLS, "tool_choice": {"type": "auto"}}, None),
        ([], {"tools": TOOLS}, None),
    ],
)
def test_a_tool_is_used_by_rule_or_when_forced(
    rules: list[Rule], changes: dict[str, Any], name: str | None
) -> None:
    """The input obeys the tool's schema; without rule or force the answer is text."""
    message = message_of("7 cards", *rules, **changes)
    used = [block for block in message.content if block.type == "tool_use"]

    assert [block.name for block in used] == ([name] if name else [])
    assert message.stop_reason == ("tool_use" if name else "end_turn")
    if name == "first":
        assert used[0].input == {"n": 7}


ADDRESS = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "zip": {"type": ["string", "null"]}},
    "required": ["city", "zip"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "t"}])
@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {
            "type": "object",
            "properties": {
                "kind": {"type": "string", "enum": ["card", "loan"]},
                "stars": {"type": "integer", "minimum": 1, "maximum": 5},
                "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2},
                "sent": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
            },
            "required": ["kind", "stars", "tags", "sent"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {"to": {"$ref": "#/$defs/Address"}},
            "required": ["to"],
            "$defs": {"Address": ADDRESS},
        },
    ],
)
def test_a_forced_tools_input_obeys_its_schema(
    schema: dict[str, Any], choice: dict[str, Any]
) -> None:
    """In a batch and at once, on models that think and on those that do not."""
    asked = {"tools": [{"name": "t", "input_schema": schema}], "tool_choice": choice}
    web = httpx2.Client(transport=Emulator().transport())
    client = anthropic.Anthropic(api_key="k", http_client=web)
    sent: Any = {"max_tokens": 900, "messages": [{"role": "user", "content": "12 cards"}], **asked}
    for model in (MODEL, "claude-opus-4-8"):
        for message in (
            message_of("12 cards", model=model, **asked),
            client.messages.create(model=model, **sent),
        ):
            used: Any = message.content[-1]

            assert message.stop_reason == "tool_use"
            assert used.type == "tool_use"
            assert used.name == "t"
            assert used.id.startswith("toolu_")
            jsonschema.validate(used.input, schema)


def test_the_first_rule_that_matches_wins() -> None:
    rules = [
        Rule(outcome="succeeded", contains="card", text="one"),
        Rule(outcome="succeeded", model="claude-opus-5", text="two"),
        Rule(outcome="succeeded", text="three"),
    ]

    assert text_of("a card", *rules, model="claude-opus-5") == "one"
    assert text_of("a phone", *rules, model="claude-opus-5") == "two"
    assert text_of("a phone", *rules) == "three"


def test_every_counts_by_position() -> None:
    """Of six requests, every=3 strikes the third and the sixth."""
    web = httpx2.Client(
        transport=Emulator(duration=0, rules=[Rule(outcome="errored", every=3)]).transport()
    )
    client = anthropic.Anthropic(api_key="k", http_client=web)
    params: Any = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    batch = client.messages.batches.create(
        requests=[{"custom_id": f"r{n}", "params": params} for n in range(6)]
    )
    errored = {
        line.custom_id
        for line in client.messages.batches.results(batch.id)
        if line.result.type == "errored"
    }
    counts = client.messages.batches.retrieve(batch.id).request_counts

    assert errored == {"r2", "r5"}
    assert (counts.errored, counts.succeeded) == (2, 4)
