"""What a model will refuse is told before anything is spent, in a sentence that names the fix."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import anthropic
import numpy as np
import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas.abilities import shipped, told
from claude_batch_pandas.emulator import Emulator
from claude_batch_pandas.emulator.faults import Fault
from claude_batch_pandas.emulator.params import params_error
from claude_batch_pandas.refusals import refusal
from tests.conftest import JumpingClock
from tests.test_verbs import MODELS

HAIKU = "claude-haiku-5-5"
TOOL = {"name": "t", "description": "d", "input_schema": {"type": "object", "properties": {}}}
USER = [{"role": "user", "content": "a"}]
BEGUN = [*USER, {"role": "assistant", "content": "It is"}]

CASES: list[tuple[dict[str, Any], str]] = [
    ({"temperature": 0.5}, "temperature is an error for every model since .* 2026-10-21"),
    ({"top_p": 1}, "top_p is an error"),
    ({"top_k": 5}, "top_k is an error"),
    ({"stream": True}, "stream does not exist in batches; leave it out"),
    ({"speed": "fast"}, "speed does not exist in batches"),
    ({"max_tokens": 0}, "max_tokens=0 asks for no answer"),
    ({"messages": BEGUN}, r"does not go on from a message of the assistant \(prefill\)"),
    ({"thinking": {"type": "maybe"}}, "does not take thinking of the type 'maybe'; use one of"),
    ({"output_config": {"effort": "none"}}, "does not know the effort 'none'; use one of"),
    ({"tool_choice": {"type": "any"}}, "tool_choice is given without tools="),
    (
        {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "u"}},
        r"tool_choice names the tool 'u', and tools= has \['t'\]",
    ),
]


@pytest.mark.parametrize(("params", "why"), CASES)
def test_what_is_refused_is_told(params: dict[str, Any], why: str) -> None:
    whole = {"model": HAIKU, "max_tokens": 10, "messages": USER, **params}
    found = refusal(whole, shipped(HAIKU))
    with pytest.raises(cbp.InputError, match=why):
        raise cbp.InputError(found)
    assert found.endswith("force=True sends it all the same.")


@pytest.mark.parametrize(
    ("model", "params", "why"),
    [
        ("claude-opus-5-5", {"tools": [TOOL], "tool_choice": {"type": "any"}}, "cannot be forced"),
        ("claude-sonnet-5-5", {"thinking": {"type": "disabled"}}, "use one of 'adaptive', 'betw"),
        ("claude-fable-5", {"thinking": {"type": "enabled", "budget_tokens": 5}}, "'enabled'"),
        ("claude-haiku-4-5", {"output_config": {"effort": "low"}}, "does not take an effort"),
        (
            "claude-opus-5",
            {"thinking": {"type": "disabled"}, "output_config": {"effort": "max"}},
            "does not turn thinking off at the effort 'max'",
        ),
        (
            "claude-haiku-4-5",
            {"thinking": {"type": "enabled", "budget_tokens": 2048}},
            "budget_tokens=2,048 leaves nothing of max_tokens=10",
        ),
        (
            "claude-opus-4-1",
            {"output_config": {"format": {}}},
            "gives no answers by a JSON schema",
        ),
    ],
)
def test_models_differ(model: str, params: dict[str, Any], why: str) -> None:
    whole = {"model": model, "max_tokens": 10, "messages": USER, **params}
    assert why in refusal(whole, shipped(model))


def test_a_model_that_nobody_knows_is_sent_as_asked() -> None:
    whole = {
        "model": "house-model",
        "max_tokens": 10,
        "messages": BEGUN,
        "thinking": {"type": "new"},
        "output_config": {"effort": "extreme"},
        "tools": [TOOL],
        "tool_choice": {"type": "any"},
    }
    assert refusal(whole, shipped("house-model")) == ""


@pytest.mark.parametrize("model", MODELS)
def test_the_table_refuses_nothing_that_the_emulator_takes(model: str) -> None:
    """And takes nothing that it refuses: the two were written apart from each other."""
    thinking: list[dict[str, Any]] = [
        {"type": kind} for kind in ("adaptive", "between_tools", "disabled")
    ]
    thinking.append({"type": "enabled", "budget_tokens": 1024})
    asked: list[dict[str, Any]] = [
        {"messages": BEGUN},
        {"tools": [TOOL], "tool_choice": {"type": "any"}},
        *({"thinking": kind} for kind in thinking),
    ]
    for params in asked:
        whole = {"model": model, "max_tokens": 2000, "messages": USER, **params}
        assert bool(refusal(whole, shipped(model))) == (params_error(whole) is not None), params


def test_the_api_knows_better_than_the_table() -> None:
    """What it tells of a model rules; where it is silent, the table stands."""
    info = {
        "max_tokens": 64_000,
        "lifecycle": "active",
        "retires_at": "2027-01-01T00:00:00Z",
        "capabilities": {
            "structured_outputs": {"supported": False},
            "image_input": {"supported": False},
            "thinking": {"types": {"adaptive": {"supported": True}, "odd": {"supported": True}}},
        },
    }
    found = told(info, HAIKU)
    assert found.thinking == {"adaptive", "odd"}
    assert not found.structured
    assert found.efforts == shipped(HAIKU).efforts
    assert found.retires_at == "2027-01-01"
    whole: dict[str, Any] = {"model": HAIKU, "max_tokens": 64_001, "messages": USER}
    assert "max_tokens=64,001 is more than the 64,000" in refusal(whole, found)
    assert refusal({**whole, "max_tokens": 64_000}, found) == ""
    image = [{"role": "user", "content": [{"type": "image"}]}]
    assert "does not read images" in refusal({**whole, "max_tokens": 1, "messages": image}, found)
    retired = dataclasses.replace(found, retired=True)
    assert "is retired and answers nothing" in refusal(whole, retired)
    beta = ["output-300k-2026-03-24"]
    assert refusal(whole, found, beta) == ""


@pytest.mark.parametrize(
    "odd", [{}, {"capabilities": 3}, {"capabilities": {"thinking": []}, "max_tokens": "many"}]
)
def test_an_odd_description_changes_nothing(odd: dict[str, Any]) -> None:
    assert told(odd, HAIKU) == shipped(HAIKU)


# Through the whole way


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"params": {"temperature": 0}}, "temperature is an error"),
        ({"params": {"speed": "fast"}}, "speed does not exist"),
        ({"thinking": {"type": "enabled"}, "max_tokens": 9}, "thinking of the type 'enabled'"),
        ({"max_tokens": 10_000_000}, "is more than the 64,000 that claude-haiku-5-5 writes"),
        ({"tool_choice": {"type": "any"}}, "tool_choice is given without tools="),
        ({"tools": {}}, "tools must be a list of tools"),
        (
            {"effort": "low", "params": {"output_config": {"effort": "low"}}},
            "effort= is given, and",
        ),
        ({"tools": [TOOL], "params": {"tools": []}}, "tools= is given, and params holds it"),
    ],
)
def test_a_call_that_would_be_refused_sends_nothing(
    options: dict[str, Any], why: str, queries: pd.DataFrame, client: Any, emulator: Emulator
) -> None:
    with pytest.raises(cbp.InputError, match=why):
        queries.claude.batch("{text}", client=client, **options)
    assert all(call.method == "GET" for call in emulator.calls)


def test_force_sends_it_all_the_same(queries: pd.DataFrame, client: anthropic.Anthropic) -> None:
    out = queries.claude.batch(
        "{text}", params={"temperature": 0}, force=True, canary=False, client=client
    )
    assert set(out["answer_status"]) == {"errored"}
    assert "temperature: Extra inputs" in out["answer_error"].iloc[0]


def test_the_api_is_asked_about_a_model_once_a_day(
    queries: pd.DataFrame, client: anthropic.Anthropic, emulator: Emulator, clock: JumpingClock
) -> None:
    def asked() -> int:
        return sum(call.path.startswith("/v1/models/") for call in emulator.calls)

    queries.claude.batch("1 {text}", client=client)
    queries.claude.batch("2 {text}", client=client)
    assert asked() == 1
    clock.advance(86_400.0)
    queries.claude.batch("3 {text}", client=client)
    assert asked() == 2


@pytest.mark.parametrize("status", [404, 500, 401])
def test_a_server_that_tells_nothing_of_models_is_good_enough(
    status: int, queries: pd.DataFrame, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    emulator.faults = [Fault(method="GET", path="/v1/models/.*", status=status, times=5)]
    out = queries.claude.batch("{text}", client=client)
    assert set(out["answer_status"]) == {"succeeded"}


def test_a_version_that_nobody_knows_yet_is_not_guessed_at() -> None:
    whole = {"model": "claude-opus-6", "max_tokens": 9, "messages": BEGUN}
    more = {"thinking": {"type": "disabled"}, "tools": [TOOL], "tool_choice": {"type": "any"}}
    assert refusal({**whole, **more}, shipped("claude-opus-6")) == ""


def _tell(emulator: Emulator, info: dict[str, Any]) -> None:
    body = json.dumps(info).encode()
    emulator.faults = [Fault(method="GET", path="/v1/models/.*", status=200, body=body, times=None)]


def test_rows_of_a_model_without_schemas_are_asked_otherwise(
    client: anthropic.Anthropic, emulator: Emulator
) -> None:
    """By the API's word, though the table says otherwise; and though parameters vary by row."""
    _tell(emulator, {"capabilities": {"structured_outputs": {"supported": False}}})
    df = pd.DataFrame({"text": ["a", "b"], "limit": [50, 60]})
    out = df.claude.batch("{text}", schema=int, max_tokens=cbp.col("limit"), client=client)
    assert out["answer_status"].tolist() == ["succeeded"] * 2
    out = df.claude.batch(lambda row: row.text, schema=int, client=client, output="f")
    assert out["f_status"].tolist() == ["succeeded"] * 2


def test_an_answer_stays_when_its_model_goes(
    client: anthropic.Anthropic, emulator: Emulator, clock: JumpingClock
) -> None:
    """What was paid is joined, whatever the API says of the model since."""
    df = pd.DataFrame({"text": ["a", "b"], "m": ["claude-sonnet-5-5", "claude-haiku-5-5"]})
    run = df.claude.submit("{text}", model=cbp.col("m"), client=client)
    before = run.result(df)
    clock.advance(2 * 86_400.0)
    _tell(emulator, {"lifecycle": "retired"})
    df.claude.batch("other {text}", model=cbp.col("m"), client=client, output="o")
    pd.testing.assert_frame_equal(cbp.run(run.id, client=client).result(df), before)


def test_a_call_that_asks_nothing_needs_no_key() -> None:
    out = pd.DataFrame({"text": pd.Series([None, ""], dtype="str")}).claude.batch("{text}")
    assert out["answer_status"].tolist() == ["skipped", "skipped"]


def test_whole_numbers_of_numpy_are_numbers(queries: pd.DataFrame, client: Any) -> None:
    with pytest.raises(cbp.InputError, match="is more than the 64,000"):
        queries.claude.batch("{text}", max_tokens=np.int64(10_000_000), client=client)


def test_a_text_that_no_window_holds_is_not_sent(
    client: anthropic.Anthropic, emulator: Emulator
) -> None:
    """The others are; what may still fit is the API's business."""
    _tell(emulator, {"max_input_tokens": 1_000})
    df = pd.DataFrame({"text": ["a", "b" * 7_000, "c" * 9_000]})
    first = df.iloc[:1].claude.batch("{text}", client=client)
    out = df.claude.batch("{text}!", client=client)
    assert first["answer_status"].tolist() == ["succeeded"]
    assert out["answer_status"].tolist() == ["succeeded", "succeeded", "invalid"]
    assert "more than claude-haiku-5-5 can read (1,000 tokens)" in out["answer_error"].iloc[2]
