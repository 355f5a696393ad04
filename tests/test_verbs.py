"""Verbs: the right request, the right column, and no request that its model refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, get_args

import anthropic
import numpy as np
import pandas as pd
import pytest
from anthropic.types import model as models

import claude_batch_pandas as cbp
from claude_batch_pandas import session, verbs
from claude_batch_pandas.abilities import always_thinks, least_thinking
from claude_batch_pandas.emulator import Emulator, Rule
from claude_batch_pandas.exceptions import InputError, MissingColumnError
from tests.conftest import JumpingClock

Connect = Callable[..., Any]
LABELS = {
    "card_arrival": "asks where a card is",
    "lost_card": "",
    "top_up_failed": "money {not} in",
}
MODELS = [*get_args(get_args(models.Model)[0])]
VERBS: dict[str, dict[str, Any]] = {
    "classify": {"labels": LABELS},
    "extract": {"schema": {"city": str | None}},
    "score": {"rubric": "How urgent is it?"},
    "summarize": {},
    "translate": {"to": "German"},
    "filter": {"condition": "The customer is angry."},
}


@pytest.fixture
def frame() -> pd.DataFrame:
    texts = ["Where is my card?", "I lost my card!", "Top up failed"]
    return pd.DataFrame({"text": texts, "n": [1, 2, 3]}, index=[7, 7, 8])


def request(emulator: Emulator) -> dict[str, Any]:
    """Return the first request of the last batch."""
    params: dict[str, Any] = emulator.batches[-1].requests[0]["params"]
    return params


def test_one_label_is_a_category(frame: pd.DataFrame, client: Any, emulator: Emulator) -> None:
    """Task and labels are the prefix that all rows share; the row comes after it."""
    out = frame.claude.classify("text", labels=LABELS, client=client)
    params = request(emulator)

    assert out["label"].tolist() == ["card_arrival", "lost_card", "top_up_failed"]
    assert out["label"].cat.categories.tolist() == list(LABELS)
    assert not out["label"].cat.ordered
    assert out.index.tolist() == [7, 7, 8]
    assert list(out.columns) == ["text", "n", "label", "label_status", "label_error"]
    assert "- card_arrival: asks where a card is\n- lost_card\n" in params["system"]
    assert "money {not} in" in params["system"]
    assert params["messages"] == [{"role": "user", "content": "Where is my card?"}]
    form = params["output_config"]["format"]["schema"]["properties"]["value"]
    assert form["enum"] == list(LABELS)
    assert len({r["params"]["system"] for r in emulator.batches[0].requests}) == 1


def test_several_labels_are_a_column_each(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    emulator = Emulator(clock=clock.now, duration=60.0)
    emulator.rules = (
        Rule(outcome="succeeded", text='{"value": ["Lost Card", "card_arrival"]}', contains="lost"),
        Rule(outcome="succeeded", text='{"value": []}', contains="Where"),
        Rule(outcome="errored", error_type="permission_error", contains="failed"),
    )
    client = connect(emulator)
    out = frame.claude.classify("text", labels=LABELS, multi=True, client=client)

    assert list(out.columns)[2:] == [*LABELS, "label_status", "label_error"]
    assert out[list(LABELS)].dtypes.astype(str).eq("boolean").all()
    assert out["lost_card"].tolist() == [False, True, pd.NA]
    assert out["card_arrival"].tolist() == [False, True, pd.NA]
    again = cbp.run(cbp.runs()["id"].iloc[0], client=client).result(frame)
    assert again[list(LABELS)].equals(out[list(LABELS)])


def test_a_reason_comes_first(frame: pd.DataFrame, client: Any, emulator: Emulator) -> None:
    out = frame.claude.classify(
        "text", labels=LABELS, explain=True, allow_other=True, output="intent", client=client
    )

    schema = request(emulator)["output_config"]["format"]["schema"]
    assert list(schema["properties"]) == ["intent_reason", "intent"]
    assert list(out.columns)[2:] == ["intent_reason", "intent", "intent_status", "intent_error"]
    assert out["intent"].cat.categories.tolist() == [*LABELS, "other"]


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        ([], "labels is empty"),
        ({}, "labels is empty"),
        (["a", "b", "a"], "labels has 'a' twice"),
        (["a", None], "labels has a missing value at position 1"),
        (pd.Series(["a", np.nan]), "labels has a missing value at position 1"),
        (["a", pd.NA], "labels has a missing value at position 1"),
        (["a", " "], "labels has ' ' at position 1; a label is text or a whole number"),
        ([1.5], "labels has 1.5 at position 0"),
        ([True], "labels has True at position 0"),
        ("ab", "labels must be a list, or a dict of label -> description, not 'ab'"),
        (None, "labels must be a list"),
        (5, "labels must be a list"),
    ],
)
def test_labels_that_cannot_be_are_refused(
    labels: Any, match: str, frame: pd.DataFrame, client: Any, emulator: Emulator
) -> None:
    with pytest.raises(InputError, match=match):
        frame.claude.classify("text", labels=labels, client=client)
    assert emulator.calls == []


def test_labels_may_be_numbers(frame: pd.DataFrame, client: Any) -> None:
    out = frame.claude.classify("text", labels=np.array([1, 2]), client=client)

    assert out["label"].cat.categories.tolist() == [1, 2]
    assert out["label"].isin([1, 2]).all()


@pytest.mark.parametrize("verb", VERBS)
def test_a_series_needs_no_column(
    verb: str, frame: pd.DataFrame, client: Any, emulator: Emulator
) -> None:
    """The verb's own argument comes first, then; both ways ask the same."""
    own = VERBS[verb]
    series = getattr(frame["text"].claude, verb)
    first = series(*own.values(), client=client)
    second = series(**own, client=client)
    whole = getattr(frame.claude, verb)("text", **own, client=client)

    assert first.equals(second)
    assert whole[list(first.columns)].equals(first)
    assert len(emulator.batches) == 1


def test_a_first_argument_with_braces_is_a_template(
    frame: pd.DataFrame, client: Any, emulator: Emulator
) -> None:
    frame.claude.summarize("No. {n}: {text}", words=7, client=client)

    assert request(emulator)["messages"][0]["content"] == "No. 1: Where is my card?"
    assert "at most 7 words" in request(emulator)["system"]


def test_a_column_with_braces_in_its_name_is_that_column(client: Any, emulator: Emulator) -> None:
    pd.DataFrame({"a{b}": ["x"]}).claude.summarize("a{b}", client=client)

    assert request(emulator)["messages"][0]["content"] == "x"


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda df: df.claude.summarize("txt"), "lacks: 'txt'. .* Did you mean 'text'"),
        (lambda df: df.claude.summarize(), "Name the column, or write a template"),
        (lambda df: df["text"].claude.summarize("text"), "A Series has one column, so 'text'"),
        (lambda df: df.claude.summarize("text", words=0), "words must be a whole number"),
        (lambda df: df.claude.score("text", ""), "rubric must be text, not ''"),
        (lambda df: df.claude.score("text", "r", low=5, high=5), "low=5 must be less than high=5"),
        (lambda df: df.claude.score("text", "r", low="a"), "low must be a number, not 'a'"),
        (lambda df: df.claude.translate("text"), "to must be text, not None"),
        (lambda df: df.claude.filter("text", 5), "condition must be text, not 5"),
        (lambda df: df.claude.extract("text"), "schema= is needed"),
        (lambda df: df.claude.summarize("text", system="x"), "system= is the verb's own"),
        (lambda df: df.claude.summarize("text", modle="x"), "Did you mean 'model'"),
        (lambda df: df.claude.summarize("text", flags=("a",)), "There is no argument 'flags'"),
        (
            lambda df: df.claude.classify("text", ["a"], multi=True, explain=True),
            "explain=True is for one label per row",
        ),
    ],
)
def test_what_is_wrong_is_told(call: Any, match: str, frame: pd.DataFrame) -> None:
    with pytest.raises((InputError, MissingColumnError), match=match):
        call(frame)


@pytest.mark.parametrize(
    ("bounds", "dtype", "kind"), [({}, "Int64", "integer"), ({"high": 1.0}, "Float64", "number")]
)
def test_a_score_has_its_bounds(
    bounds: Any, dtype: str, kind: str, frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """They are checked here: the API does not."""
    emulator = Emulator(clock=clock.now, duration=60.0)
    emulator.rules = (
        Rule(outcome="succeeded", text='{"value": 1}', contains="Where"),
        Rule(outcome="succeeded", text='{"value": 11}', contains="lost"),
    )
    out = frame.claude.score("text", "How urgent?", client=connect(emulator), **bounds)

    assert str(out["score"].dtype) == dtype
    assert out["score_status"].tolist()[:2] == ["succeeded", "invalid"]
    schema = request(emulator)["output_config"]["format"]["schema"]
    assert schema["properties"]["value"]["type"] == kind


def test_what_the_caller_says_wins(frame: pd.DataFrame, client: Any, emulator: Emulator) -> None:
    thinking = {"type": "adaptive"}
    frame.claude.classify(
        "text", LABELS, max_tokens=99, params={"thinking": thinking}, client=client
    )

    assert request(emulator)["thinking"] == thinking
    assert request(emulator)["max_tokens"] == 99


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_asks_for_what_its_model_refuses(
    verb: str, model: str, frame: pd.DataFrame, client: Any
) -> None:
    """For every model that the SDK knows."""
    make = getattr(verbs, {"filter": "filter_"}.get(verb, verb))
    call = make("{text}", **VERBS[verb], model=model)
    [params] = session.preview(frame, call, 1).requests
    answer = client.post("/v1/messages", body=params, cast_to=object)

    assert answer["stop_reason"] == "end_turn", json.dumps(params)
    if always_thinks(model):
        assert params["output_config"]["effort"] == "low"
        assert params["max_tokens"] == 4096


def test_short_answers_are_not_thought_about() -> None:
    """From the API's page on thinking, by model."""
    found = {model: least_thinking(model) for model in MODELS}

    assert found["claude-haiku-5-5"] == {"thinking": {"type": "disabled"}}
    assert found["claude-sonnet-5-5"] == {"thinking": {"type": "between_tools"}}
    assert found["claude-opus-5-5"] == {"output_config": {"effort": "low"}}
    assert found["claude-fable-5"] == {"output_config": {"effort": "low"}}
    assert found["claude-haiku-4-5-20251001"] == {}
    assert least_thinking("a-model-of-tomorrow") == least_thinking("claude-haiku-9-9") == {}
    assert anthropic.__version__.startswith("2.")


def test_a_verb_can_be_previewed_sampled_and_submitted(
    client: anthropic.Anthropic, emulator: Emulator
) -> None:
    """What a verb sends can be seen, tried on a few rows, and held as a run."""
    frame: Any = pd.DataFrame({"text": list("abcdefgh")})
    how: Any = {"verb": "classify", "labels": ["x", "y"], "client": client}
    shown = frame.claude.preview("text", n=1, **how)
    assert shown.requests[0]["messages"][0]["content"] == "a"
    few = frame.claude.sample("text", n=2, **how)
    assert str(few["label"].dtype) == "category"
    whole = frame.claude.submit("text", **how).result(frame)
    assert sum(len(batch.requests) for batch in emulator.batches) == 6
    assert whole["label_status"].tolist() == ["succeeded"] * 8
    assert frame["text"].claude.sample(n=1, **how)["label_status"].tolist() == ["succeeded"]
    with pytest.raises(cbp.InputError, match=r"There is no verb .label.\. There are: classify"):
        frame.claude.submit("text", verb="label")
    with pytest.raises(cbp.InputError, match="translate needs to="):
        frame.claude.preview("text", verb="translate")


def test_a_verb_reads_documents(client: anthropic.Anthropic) -> None:
    frame = pd.DataFrame({"path": [b"A text."]})
    out = frame.claude.extract([cbp.document("path")], {"city": str}, client=client)
    assert out["extract_status"].tolist() == ["succeeded"]
    out = frame.claude.summarize(cbp.document("path"), client=client)
    assert out["summary_status"].tolist() == ["succeeded"]


def test_a_warning_of_a_verb_points_at_the_callers_line(client: anthropic.Anthropic) -> None:
    frame = pd.DataFrame({"text": ["a"]})
    with pytest.warns(UserWarning, match="cache= will most likely do nothing") as caught:
        frame.claude.classify("text", ["x", "y"], cache=True, client=client)
    assert caught[0].filename == __file__
