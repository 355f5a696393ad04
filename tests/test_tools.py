"""Tools: what a model calls one with is the value; and typed answers without JSON schemas."""

from __future__ import annotations

import json
from typing import Any, Literal

import anthropic
import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas.abilities import Abilities, shipped
from claude_batch_pandas.asking import ask_for
from claude_batch_pandas.emulator import Emulator, Rule
from claude_batch_pandas.outputs import output_of
from claude_batch_pandas.results import read
from tests.conftest import JumpingClock

WEATHER = {
    "name": "weather",
    "description": "Tell the weather.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
    },
}
SEARCH = {"type": "web_search_20250305", "name": "web_search"}


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame({"text": ["a", "b"]})


def test_a_tools_input_is_the_value(frame: pd.DataFrame, client: anthropic.Anthropic) -> None:
    out = frame.claude.batch(
        "{text}", tools=[WEATHER], tool_choice={"type": "any"}, output="x", client=client
    )
    assert out["x_status"].tolist() == ["succeeded"] * 2
    assert out["x"].dtype == object
    assert set(out["x"].iloc[0]) == {"city", "days"}
    run = cbp.run(cbp.runs()["id"].iloc[0], client=client)
    pd.testing.assert_frame_equal(run.result(frame), out)


def test_text_and_calls_may_be_mixed(clock: JumpingClock, connect: Any) -> None:
    emulator = Emulator(clock=clock.now, rules=[Rule(outcome="tool_use", contains="b")])
    df = pd.DataFrame({"text": ["a", "b"]})
    out = df.claude.batch("{text}", tools=[WEATHER], client=connect(emulator))
    assert isinstance(out["answer"].iloc[0], str)
    assert isinstance(out["answer"].iloc[1], dict)


def test_server_tools_give_text(frame: pd.DataFrame, client: anthropic.Anthropic) -> None:
    out = frame.claude.batch("{text}", tools=[SEARCH], client=client)
    assert pd.api.types.is_string_dtype(out["answer"])
    assert out["answer_status"].tolist() == ["succeeded"] * 2


def test_several_calls_are_a_list() -> None:
    def call(name: str) -> dict[str, Any]:
        return {"type": "tool_use", "id": "t", "name": name, "input": {"n": name}}

    def line(*content: dict[str, Any]) -> bytes:
        message = {"content": list(content), "stop_reason": "tool_use"}
        return json.dumps(
            {"custom_id": "a", "result": {"type": "succeeded", "message": message}}
        ).encode()

    def result(*content: dict[str, Any]) -> Any:
        ((_, found),) = next(read([line(*content)]))
        return found

    one = result({"type": "text", "text": "Let me see."}, call("x"))
    assert (one.value, one.tool, one.text) == ({"n": "x"}, "x", "Let me see.")
    two = result(call("x"), call("y"))
    assert two.value == [{"name": "x", "input": {"n": "x"}}, {"name": "y", "input": {"n": "y"}}]
    assert two.tool == "x, y"


def test_a_call_is_no_typed_answer(clock: JumpingClock, connect: Any) -> None:
    """With a schema, a row whose model called a tool instead has no answer, and says so."""
    emulator = Emulator(clock=clock.now, rules=[Rule(outcome="tool_use", contains="b")])
    df = pd.DataFrame({"text": ["a", "b"]})
    out = df.claude.batch("{text}", tools=[WEATHER], schema=int, client=connect(emulator))
    assert out["answer_status"].tolist() == ["succeeded", "invalid"]
    assert "called the tool 'weather' instead of answering" in out["answer_error"].iloc[1]


# Models without JSON schemas


def asked(model: Abilities, **params: Any) -> tuple[dict[str, Any], Any]:
    """Return what a typed answer is asked of a model with."""
    base = {"model": model.model, "max_tokens": 9, **params}
    return ask_for(output_of("x", Literal["a", "b"]), base, "Be {text}.", model)


def test_each_model_is_asked_as_it_can() -> None:
    new, system = asked(shipped("claude-haiku-5-5"))
    assert new["output_config"]["format"]["type"] == "json_schema"
    assert system == "Be {text}."

    old = shipped("claude-opus-4-1")
    params, system = asked(old)
    assert params["tool_choice"] == {"type": "tool", "name": "answer"}
    assert params["tools"][0]["input_schema"]["properties"]["value"]["enum"] == ["a", "b"]
    assert system == "Be {text}."

    for more in ({"tools": [WEATHER]}, {"thinking": {"type": "enabled", "budget_tokens": 1024}}):
        params, system = asked(old, **more)
        assert params == {"model": "claude-opus-4-1", "max_tokens": 9, **more}
        assert system.startswith("Be {text}.\n\nAnswer with one JSON object and nothing else")
        assert '{{"type": "object"' in system


def test_an_older_model_gives_typed_answers(
    clock: JumpingClock, connect: Any, frame: pd.DataFrame
) -> None:
    """Through a tool, or in words with JSON somewhere in them; the columns are the same."""
    words = 'Sure:\n```json\n{"value": "b"}\n```'
    emulator = Emulator(
        clock=clock.now, rules=[Rule(outcome="succeeded", text=words, contains="b")]
    )
    client = connect(emulator)
    told = {"capabilities": {"structured_outputs": {"supported": False}}}
    client_answers = _telling(emulator, told)
    out = frame.claude.classify("text", ["a", "b"], client=client)
    assert client_answers == 1
    assert str(out["label"].dtype) == "category"
    assert out["label_status"].tolist() == ["succeeded", "succeeded"]
    assert emulator.batches[0].requests[0]["params"]["tools"][0]["name"] == "answer"
    out = frame.claude.classify("text", ["a", "b"], tools=[SEARCH], client=client)
    assert out["label"].iloc[1] == "b"


def _telling(emulator: Emulator, info: dict[str, Any]) -> int:
    from claude_batch_pandas.emulator.faults import Fault

    body = json.dumps(info).encode()
    emulator.faults = [Fault(method="GET", path="/v1/models/.*", status=200, body=body, times=None)]
    return len(emulator.faults)


def test_two_schemas_are_refused(frame: pd.DataFrame) -> None:
    with pytest.raises(cbp.InputError, match="has an output_config with a format, and there is"):
        frame.claude.batch("{text}", schema=int, params={"output_config": {"format": {}}})
