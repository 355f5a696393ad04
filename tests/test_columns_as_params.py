"""``col``: parameters and whole conversations that differ by row."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import numpy as np
import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas.emulator import Emulator
from claude_batch_pandas.slots import UnfitError, encode_value


def sent(emulator: Emulator) -> list[dict[str, Any]]:
    """Return the params of every request, in their order."""
    return [request["params"] for batch in emulator.batches for request in batch.requests]


def test_each_row_has_its_own_model_and_limit(
    client: anthropic.Anthropic, emulator: Emulator
) -> None:
    df = pd.DataFrame(
        {
            "text": list("abcd"),
            "model": ["claude-haiku-5-5", "claude-opus-5-5", "claude-haiku-5-5", None],
            "limit": [100, 200, 0, 50],
            "effort": ["low", "high", "low", "low"],
        }
    )
    out = df.claude.batch(
        "Say {text}",
        model=cbp.col("model"),
        max_tokens=cbp.col("limit"),
        effort=cbp.col("effort"),
        client=client,
    )

    found = [
        (p["messages"][0]["content"], p["model"], p["max_tokens"], p["output_config"]["effort"])
        for p in sent(emulator)
    ]
    assert found == [
        ("Say a", "claude-haiku-5-5", 100, "low"),
        ("Say b", "claude-opus-5-5", 200, "high"),
    ]
    assert out["answer_status"].tolist() == ["succeeded", "succeeded", "invalid", "skipped"]
    assert "max_tokens must be a whole number of at least 1, not 0" in out["answer_error"].iloc[2]
    calls = len(emulator.calls)
    again = df.claude.batch(
        "Say {text}",
        model=cbp.col("model"),
        max_tokens=cbp.col("limit"),
        effort=cbp.col("effort"),
        client=client,
    )
    pd.testing.assert_frame_equal(out, again)
    assert len(emulator.calls) == calls


def test_a_row_that_its_model_refuses_is_told_before_it_is_sent(
    client: anthropic.Anthropic, emulator: Emulator
) -> None:
    """The others go out."""
    df = pd.DataFrame({"text": ["a", "b"], "model": ["claude-haiku-5-5", "claude-opus-5-5"]})
    out = df.claude.batch(
        "{text}", model=cbp.col("model"), thinking={"type": "disabled"}, client=client
    )
    assert out["answer_status"].tolist() == ["succeeded", "invalid"]
    assert "claude-opus-5-5 does not take thinking of the type 'disabled'" in out.iloc[1, 4]
    assert len(sent(emulator)) == 1
    forced = df.claude.batch(
        "{text}",
        model=cbp.col("model"),
        thinking={"type": "disabled"},
        force=True,
        client=client,
        output="forced",
    )
    assert forced["forced_status"].tolist() == ["succeeded", "errored"]


def test_a_column_of_conversations(client: anthropic.Anthropic, emulator: Emulator) -> None:
    """Lists, arrays as Parquet gives them, and JSON text."""
    turns = [{"role": "user", "content": "Hi"}]
    longer = [*turns, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "?"}]
    cells = pd.Series(
        [turns, np.array(longer, dtype=object), json.dumps(turns), "nonsense", [], None, [3]],
        dtype=object,
    )
    df = pd.DataFrame({"messages": cells})
    out = df.claude.batch(cbp.col("messages"), system="Be short.", client=client)

    assert [params["messages"] for params in sent(emulator)] == [turns, longer]
    statuses = ["succeeded"] * 3 + ["invalid", "invalid", "skipped", "invalid"]
    assert out["answer_status"].tolist() == statuses
    assert "text that is no JSON list of messages" in out["answer_error"].iloc[3]
    assert 'message 0 is not {"role"' in out["answer_error"].iloc[6]
    later = cbp.run(cbp.runs()["id"].iloc[0], client=client).result(df)
    pd.testing.assert_frame_equal(out, later)


def test_contents_and_system_prompts_may_be_columns(
    client: anthropic.Anthropic, emulator: Emulator
) -> None:
    blocks = [{"type": "text", "text": "a"}]
    systems = ["Be kind.", "Be short.", "Be it."]
    df = pd.DataFrame({"content": [blocks, "b", " "], "system": systems})
    template: Any = [{"role": "user", "content": cbp.col("content")}]
    out = df.claude.batch(template, system=cbp.col("system"), client=client)
    assert out["answer_status"].tolist() == ["succeeded", "succeeded", "skipped"]
    found = [(params["system"], params["messages"][0]["content"]) for params in sent(emulator)]
    assert found == [("Be kind.", blocks), ("Be short.", "b")]


def test_a_conversation_that_ends_with_the_assistant_is_the_models_business(
    client: anthropic.Anthropic,
) -> None:
    ends = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "It is"}]
    df = pd.DataFrame({"messages": [ends]})
    out = df.claude.batch(cbp.col("messages"), client=client)
    assert out["answer_status"].tolist() == ["invalid"]
    assert "does not go on from a message of the assistant" in out["answer_error"].iloc[0]
    old = df.claude.batch(
        cbp.col("messages"), model="claude-haiku-4-5", client=client, output="old"
    )
    assert old["old_status"].tolist() == ["succeeded"]


@pytest.mark.parametrize(
    ("name", "cell", "why"),
    [
        ("max_tokens", 1.5, "max_tokens must be a whole number of at least 1, not 1.5"),
        ("max_tokens", True, "whole number of at least 1, not True"),
        ("max_tokens", "9", "whole number of at least 1, not a str"),
        ("model", 3, "model must be a name such as 'claude-haiku-5-5', not a int"),
        ("metadata", {"user_id": float("nan")}, "a dict cannot be sent as JSON"),
        ("metadata", object(), "a object cannot be sent as JSON"),
        ("metadata", "\ud800", "lone surrogate"),
    ],
)
def test_a_cell_that_is_no_such_parameter(name: str, cell: Any, why: str) -> None:
    with pytest.raises(UnfitError, match=why):
        encode_value(name, cell)


def test_whole_floats_are_whole_numbers() -> None:
    """A column of counts with a gap is one of floats."""
    assert encode_value("max_tokens", 12.0) == (12, b"12")
    assert encode_value("max_tokens", np.int64(12)) == (12, b"12")


def test_a_column_that_is_not_there(client: anthropic.Anthropic) -> None:
    df = pd.DataFrame({"text": ["a"], "limit": [5]})
    with pytest.raises(cbp.InputError, match=r"'limits'.*Did you mean 'limit'"):
        df.claude.batch("{text}", max_tokens=cbp.col("limits"), client=client)
    with pytest.raises(cbp.InputError, match=r"col\(\) takes the name of a column"):
        cbp.col("")
    with pytest.raises(cbp.InputError, match=r"template= is a function\. Return it from"):
        df.claude.batch(lambda row: row.text, max_tokens=cbp.col("limit"), client=client)
