"""Examples before a row, what was said before it, and turns that go on."""

from __future__ import annotations

from typing import Any

import anthropic
import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas.emulator import Emulator, Rule
from tests.conftest import JumpingClock


def sent(emulator: Emulator) -> list[dict[str, Any]]:
    """Return the params of every request, in their order."""
    return [request["params"] for batch in emulator.batches for request in batch.requests]


# Examples


def test_examples_come_first(client: anthropic.Anthropic, emulator: Emulator) -> None:
    """Braces in them are braces, and every row has the same ones."""
    shots = pd.DataFrame({"text": ["a {x}", "b"], "intent": ["A{", "B"]})
    df = pd.DataFrame({"text": ["c", "d"]})
    df.claude.batch("Say {text}", examples=shots, output="intent", client=client)

    first, second = (params["messages"] for params in sent(emulator))
    assert first == [
        {"role": "user", "content": "Say a {x}"},
        {"role": "assistant", "content": "A{"},
        {"role": "user", "content": "Say b"},
        {"role": "assistant", "content": "B"},
        {"role": "user", "content": "Say c"},
    ]
    assert first[:4] == second[:4]


def test_typed_examples_are_what_the_model_shall_write(
    client: anthropic.Anthropic, emulator: Emulator
) -> None:
    shots = pd.DataFrame({"text": ["a"], "label": pd.Categorical(["x"])})
    df = pd.DataFrame({"text": ["c"]})
    df.claude.classify("text", ["x", "y"], examples=shots, client=client)
    assert sent(emulator)[0]["messages"][1]["content"] == '{"value": "x"}'

    shots = pd.DataFrame({"text": ["a", "b"], "city": ["Köln", None], "n": pd.array([1, None])})
    schema = {"city": str | None, "n": int | None}
    df.claude.extract("text", schema, examples=shots, client=client)
    answers = [message["content"] for message in sent(emulator)[1]["messages"][1::2]]
    assert answers == ['{"city": "Köln", "n": 1}', '{"city": null, "n": null}']

    shots = pd.DataFrame({"text": ["a"], "x": [True], "y": [False]})
    df.claude.classify("text", ["x", "y"], multi=True, examples=shots, client=client)
    assert sent(emulator)[2]["messages"][1]["content"] == '{"value": ["x"]}'


@pytest.mark.parametrize(
    ("shots", "why"),
    [
        (pd.DataFrame({"text": ["a"]}), r"examples= lacks the columns \['answer'\]"),
        (pd.DataFrame({"answer": ["a"]}), r"columns that the DataFrame lacks: 'text'"),
        (pd.DataFrame({"text": [], "answer": []}), "examples= is an empty frame"),
        (pd.DataFrame({"text": [None], "answer": ["a"]}), "missing a value at position 0"),
        (pd.DataFrame({"text": ["a"], "answer": [None]}), "has no answer in column 'answer'"),
        (pd.DataFrame({"text": [" "], "answer": ["a"]}), "position 0 cannot be shown: the render"),
        (3, "DataFrame or Series is needed, not a int"),
    ],
)
def test_examples_that_cannot_be_shown(
    shots: Any, why: str, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    df = pd.DataFrame({"text": ["c"]})
    with pytest.raises(cbp.InputError, match=why):
        df.claude.batch("{text}", examples=shots, client=client)
    assert emulator.calls == []


def test_examples_need_a_template_that_is_known(client: anthropic.Anthropic) -> None:
    df = pd.DataFrame({"text": ["c"]})
    shots = pd.DataFrame({"text": ["a"], "answer": ["b"]})
    for template in (lambda row: row.text, cbp.col("text")):
        with pytest.raises(cbp.InputError, match="examples= needs a template that is text"):
            df.claude.batch(template, examples=shots, client=client)


# What was said before


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame({"text": ["a", "b", None, "a"]}, index=[1, 1, 2, 3])


def test_a_finished_run_goes_on(
    frame: pd.DataFrame, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    """Each row with its own conversation, the system prompt too, and only what is new is paid."""
    first = frame.claude.submit("Say {text}", system="Be {text}.", client=client).wait()
    said = first.result()["answer"]
    out = frame.claude.batch("Shorter!", history=first, output="short", client=client)

    assert out["short_status"].tolist() == ["succeeded", "succeeded", "skipped", "succeeded"]
    later = [params for params in sent(emulator) if len(params["messages"]) == 3]
    assert [params["messages"] for params in later] == [
        [
            {"role": "user", "content": f"Say {text}"},
            {"role": "assistant", "content": [{"type": "text", "text": said.iloc[i]}]},
            {"role": "user", "content": "Shorter!"},
        ]
        for i, text in enumerate("ab")
    ]
    assert [params["system"] for params in later] == ["Be a.", "Be b."]
    calls = len(emulator.calls)
    again = frame.claude.batch("Shorter!", history=first.id, output="short", client=client)
    pd.testing.assert_frame_equal(out, again)
    assert len(emulator.calls) == calls


def test_rows_are_found_by_what_they_asked(
    frame: pd.DataFrame, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    """A frame that was sorted since gets each row's own conversation, in the next kernel too."""
    first = frame.claude.submit("Say {text}", client=client).wait()
    second = frame.iloc[::-1].claude.submit("{text}?", history=first.id, client=client)
    out = second.result(frame.iloc[::-1])
    for params in sent(emulator)[2:]:
        assert params["messages"][0]["content"][-1] == params["messages"][2]["content"][0]
    later = cbp.run(second.id, client=client).result(frame)
    pd.testing.assert_frame_equal(out.iloc[::-1], later)


def test_conversations_go_on_and_on(
    frame: pd.DataFrame, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    first = frame.claude.submit("Say {text}", client=client).wait()
    second = frame.claude.submit("Again", history=first, client=client).wait()
    frame.claude.submit("And {text}", history=second, client=client).wait()
    assert max(len(params["messages"]) for params in sent(emulator)) == 5
    function = frame.claude.submit(lambda row: f"F {row.text}", history=second, client=client)
    assert function.wait().result()["answer_status"].tolist()[2] == "skipped"


def test_a_row_without_an_answer_has_no_conversation(
    frame: pd.DataFrame, clock: JumpingClock, connect: Any
) -> None:
    emulator = Emulator(clock=clock.now, rules=[Rule(outcome="refusal", contains="Say a")])
    client = connect(emulator)
    first = frame.claude.submit("Say {text}", client=client).wait()
    out = frame.claude.batch("Shorter!", history=first, client=client)
    assert out["answer_status"].tolist() == ["skipped", "succeeded", "skipped", "skipped"]
    assert "no full answer for this row" in out["answer_error"].iloc[0]


def test_a_history_that_cannot_go_on(
    frame: pd.DataFrame, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    with pytest.raises(cbp.InputError, match="history must be a run, or the id of one"):
        frame.claude.batch("x", history=3, client=client)
    with pytest.raises(cbp.RunNotFoundError, match="There is no run 'nope'"):
        frame.claude.batch("x", history="nope", client=client)
    first = frame.claude.submit("Say {text}", client=client).wait()
    with pytest.raises(cbp.ChangedFrameError, match="No row of this frame asks what run"):
        frame.iloc[:1].assign(text="zz").claude.batch("x", history=first, client=client)
    with pytest.raises(cbp.InputError, match="history= goes before a message that you write"):
        frame.claude.batch(cbp.col("text"), history=first, client=client)
    lean = frame.claude.submit("L {text}", keep_requests=False, client=client).wait()
    with pytest.raises(cbp.InputError, match="has no requests on this disk"):
        frame.claude.batch("x", history=lean, client=client)


# Turns that the model paused


def test_a_paused_turn_goes_on(clock: JumpingClock, connect: Any) -> None:
    """What it said goes back as it came, the rest is added, and both are paid once."""
    emulator = Emulator(clock=clock.now, rules=[Rule(outcome="pause_turn", contains="slow")])
    client = connect(emulator)
    df = pd.DataFrame({"text": ["slow", "fast"]})
    tools = [{"type": "web_search_20250305", "name": "web_search"}]
    run = df.claude.submit("Say {text}", tools=tools, client=client)
    out = run.result(df)
    assert out["answer_status"].tolist() == ["truncated", "succeeded"]
    assert "resume_turns() of its run goes on" in out["answer_error"].iloc[0]

    part = run.resume_turns().result(df)["answer"].iloc[0]
    assert part.startswith(out["answer"].iloc[0])
    emulator.rules = ()
    whole = run.resume_turns().result(df)
    assert whole["answer_status"].tolist() == ["succeeded", "succeeded"]
    assert whole["answer"].iloc[0].startswith(part)
    turns = [params["messages"] for params in sent(emulator) if len(params["messages"]) > 1]
    assert [len(messages) for messages in turns] == [2, 2]
    assert [messages[-1]["role"] for messages in turns] == ["assistant"] * 2
    assert len(turns[1][-1]["content"]) > len(turns[0][-1]["content"])
    assert run.details()["attempts"].tolist() == [3, 1]
    with pytest.warns(UserWarning, match="No answer of this run is paused"):
        run.resume_turns()


def test_a_continuation_that_failed_says_nothing_twice(clock: JumpingClock, connect: Any) -> None:
    emulator = Emulator(clock=clock.now, rules=[Rule(outcome="pause_turn", contains="slow")])
    client = connect(emulator)
    df = pd.DataFrame({"text": ["slow"]})
    run = df.claude.submit("{text}", client=client)
    run.result(df)
    emulator.rules = (Rule(outcome="errored", error_type="authentication_error"),)
    assert run.resume_turns().result(df)["answer_status"].tolist() == ["truncated"]
    emulator.rules = ()
    assert run.resume_turns().result(df)["answer_status"].tolist() == ["succeeded"]
    first, second = (params["messages"][-1] for params in sent(emulator)[1:])
    assert first == second


def test_a_winner_goes_on(clock: JumpingClock, connect: Any) -> None:
    """Of several votes, the conversation goes on from the answer that the row got."""
    emulator = Emulator(clock=clock.now, rules=[Rule(outcome="refusal", every=2)])
    client = connect(emulator)
    df = pd.DataFrame({"text": ["a", "b", "c"]})
    first = df.claude.submit("{text}", votes=3, client=client)
    before = first.result(df)
    emulator.rules = ()
    out = df.claude.batch("Go on", history=first, output="more", client=client)
    assert out["more_status"].tolist() == before["answer_status"].tolist()
    said = [params["messages"][1]["content"][0]["text"] for params in sent(emulator)[9:]]
    assert said == before["answer"].dropna().tolist()


def test_a_purged_source_has_no_conversation(client: anthropic.Anthropic) -> None:
    df = pd.DataFrame({"text": ["a"]})
    first = df.claude.submit("{text}", client=client, output="x").wait()
    second = df.claude.submit("{text}", client=client, output="y").wait()
    first.purge()
    out = df.claude.batch("Go on", history=second, client=client)
    assert out["answer_status"].tolist() == ["skipped"]
