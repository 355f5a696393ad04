"""What all rows share is marked for the cache, never the text that varies."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import claude_batch_pandas as cbp
from claude_batch_pandas.abilities import cache_minimum
from claude_batch_pandas.caching import mark, split
from claude_batch_pandas.emulator import Emulator
from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.rendering import Recipe
from tests.test_verbs import LABELS

LONG = "Answer as a bank clerk would. " * 200
FIVE = {"type": "ephemeral"}
HOUR = {"type": "ephemeral", "ttl": "1h"}


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame({"text": [f"row {i}" for i in range(6)]})


def marks(params: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the marked texts of a request, and their marks."""
    system = params.get("system", [])
    parts = [*(system if isinstance(system, list) else [])]
    for message in params["messages"]:
        parts += message["content"] if isinstance(message["content"], list) else []
    return [(part["text"], part["cache_control"]) for part in parts if "cache_control" in part]


@pytest.mark.parametrize(
    ("template", "system", "marked"),
    [
        ("Shared {{x}}: {text}", None, "Shared {x}: "),
        ("{text}", "The task.", "The task."),
        ("More. {text} and {text}", "The task.", "More. "),
        ("More. {text}", "For {text}.", "For "),
        ([{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"},
          {"role": "user", "content": "{text}"}], None, "A"),
        ([{"role": "user", "content": [{"type": "text", "text": "One."},
          {"type": "text", "text": "Two: {text}"}]}], None, "Two: "),
    ],
)  # fmt: skip
def test_the_mark_stands_before_what_varies(
    template: Any, system: Any, marked: str, frame: pd.DataFrame, client: Any
) -> None:
    """One mark per request, on a text that is the same in all of them."""
    shown = frame.claude.preview(template, n=3, system=system, cache="1h", client=client)

    assert [marks(params) for params in shown.requests] == [[(marked, HOUR)]] * 3


def test_what_is_said_stays_the_same(frame: pd.DataFrame, client: Any) -> None:
    plain = frame.claude.preview("Shared {{x}}: {text}!", n=1, client=client).requests[0]
    marked = frame.claude.preview("Shared {{x}}: {text}!", n=1, cache=True, client=client)
    content = marked.requests[0]["messages"][0]["content"]

    assert "".join(part["text"] for part in content) == plain["messages"][0]["content"]
    assert content[0]["cache_control"] == FIVE


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"template": "{text}", "cache": True}, "begins with a field"),
        ({"template": " \n{text}", "cache": True}, "begins with a field"),
        ({"template": "a {text}", "cache": "2h"}, "cache must be True, '5m' or '1h', not '2h'"),
        ({"template": lambda row: row.text, "cache": True}, "needs a template that is text or"),
    ],
)
def test_what_cannot_be_cached_is_told(
    how: dict[str, Any], match: str, frame: pd.DataFrame, client: Any, emulator: Emulator
) -> None:
    with pytest.raises(InputError, match=match):
        frame.claude.batch(**how, client=client)
    assert emulator.calls == []


def test_a_short_prefix_is_warned_of(frame: pd.DataFrame, client: Any, recwarn: Any) -> None:
    """The API says nothing, and caches nothing."""
    frame.claude.batch(LONG + "{text}", cache=True, client=client)
    assert not [warning for warning in recwarn if "cache" in str(warning.message)]
    with pytest.warns(UserWarning, match="claude-haiku-5-5 caches from 512 on"):
        frame.claude.batch("Short. {text}", cache=True, client=client)


def test_hits_are_told(frame: pd.DataFrame, client: Any, emulator: Emulator) -> None:
    """In tokens per row, and as a share in the report."""
    frame.claude.batch(LONG + "{text}", cache="1h", client=client)
    run = cbp.run(cbp.runs()["id"].iloc[0], client=client)
    details = run.details()

    assert details["cache_write_1h_tokens"].sum() > 0
    told = str(run.report())
    assert ("cache: " in told) == bool(details["cache_read_input_tokens"].sum())


def test_verbs_take_it_too(frame: pd.DataFrame, client: Any, emulator: Emulator) -> None:
    with pytest.warns(UserWarning, match="caches from 512 on"):
        frame.claude.classify("text", LABELS, cache=True, client=client)
    params = emulator.batches[0].requests[0]["params"]

    [(text, control)] = marks(params)
    assert text.startswith("Classify a text.")
    assert control == FIVE


@given(st.text("ab {}", max_size=12))
@settings(deadline=None, max_examples=200)
def test_a_template_is_split_before_its_first_field(text: str) -> None:
    """Nothing is lost, and no field is in the head."""
    head, tail = split(text)

    assert head + tail == text
    assert "{" not in head.replace("{{", "")
    assert not tail or (tail.startswith("{") and not tail.startswith("{{"))


def test_minimums_are_those_of_the_api() -> None:
    assert cache_minimum("claude-haiku-5-5") == 512
    assert cache_minimum("claude-haiku-4-5-20251001") == 4096
    assert cache_minimum("claude-fable-5-2") is None
    assert cache_minimum("gpt") is None


def test_a_marked_prompt_is_kept_on_disk() -> None:
    """Another kernel renders the same requests."""
    template, system, _ = mark("Shared: {text}", "Task", True)
    recipe = Recipe(template=template, system=system, params={"model": "m", "max_tokens": 1})

    assert Recipe.load(recipe.dump()).template == template


@pytest.mark.parametrize(
    ("template", "system"),
    [
        (["{text}", {"type": "text", "text": "the same"}], None),
        ([cbp.image("photo"), "the same"], None),
        ("the same {text}", cbp.col("text")),
        ([{"role": "user", "content": cbp.col("blocks")}], None),
    ],
)
def test_nothing_behind_what_varies_is_marked(template: Any, system: Any) -> None:
    """It would be written for every row, and read by none."""
    with pytest.raises(InputError, match="Nothing is the same in every row"):
        mark(template, system, cache=True)


def test_texts_before_an_image_are_marked() -> None:
    marked = mark(["A long rule.", cbp.image("photo"), "What?"], None, cache=True)
    first, image, last = marked.template[0]["content"]
    assert first["cache_control"] == {"type": "ephemeral"}
    assert image == cbp.image("photo")
    assert "cache_control" not in last


def test_examples_count_as_shared(client: Any) -> None:
    """They are the beginning of every request."""
    shots = pd.DataFrame({"text": ["word " * 2000], "answer": ["A"]})
    df: Any = pd.DataFrame({"text": ["b"]})
    shown = df.claude.preview("{text}", examples=shots, cache=True, client=client)
    messages = shown.requests[0]["messages"]
    assert messages[1]["content"][0]["cache_control"] == {"type": "ephemeral"}
    df.claude.batch("{text}", examples=shots, cache=True, client=client)  # and warns of nothing


def test_a_conversation_that_goes_on_is_not_marked(client: Any) -> None:
    df: Any = pd.DataFrame({"text": ["b"]})
    run = df.claude.submit("{text}", client=client).wait()
    with pytest.raises(InputError, match="Nothing is the same in every row"):
        df.claude.preview("More", history=run, cache=True, client=client)
