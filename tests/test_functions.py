"""A function as template: called once a row, its answers checked, its mistakes told by position."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_batch_pandas.emulator import Emulator
from claude_batch_pandas.exceptions import InputError, MissingValueError, TemplateError
from claude_batch_pandas.frames import Source
from claude_batch_pandas.functions import FunctionRenderer, renderer_for
from claude_batch_pandas.rendered import Rendered
from claude_batch_pandas.rendering import Recipe, Renderer

PARAMS = {"model": "claude-haiku-5-5", "max_tokens": 9}


def render(frame: pd.DataFrame, template: Any, **recipe: Any) -> list[Rendered]:
    """Render a frame by a function or a text."""
    made = Recipe(template=template, **{"params": PARAMS, **recipe})
    return list(renderer_for(Source(frame), made).blocks())


def params_of(frame: pd.DataFrame, template: Any, **recipe: Any) -> list[Any]:
    """Return the params of each row, or (status, why)."""
    made = Recipe(template=template, **{"params": PARAMS, **recipe})
    renderer = renderer_for(Source(frame), made)
    found: list[Any] = []
    for block in renderer.blocks():
        for i, tail in enumerate(block.tails):
            told = tuple(block.reasons[i]) if i in block.reasons else None
            found.append(told or json.loads(renderer.head + (tail or b"")))
    return found


FRAME = pd.DataFrame({"text": ["a", None, "c"], "n": [1.0, 2.0, None]})


def test_text_messages_and_params_are_taken() -> None:
    """Whatever a function returns becomes the params of its row, merged over the call's."""
    answers = {
        "a": "Say a",
        "b": [{"role": "user", "content": "b"}, {"role": "system", "content": "c"}],
        "c": {"messages": [{"role": "user", "content": "c"}], "max_tokens": 5, "system": "S"},
    }
    frame = pd.DataFrame({"text": list("abc")})
    one, two, three = params_of(frame, lambda row: answers[row.text])

    assert one == {**PARAMS, "messages": [{"role": "user", "content": "Say a"}]}
    assert two == {**PARAMS, "messages": answers["b"]}
    assert three == {**PARAMS, **answers["c"]}  # type: ignore[dict-item]


def test_it_is_called_once_per_row_in_order() -> None:
    """A function may count, draw or look things up."""
    seen: list[str] = []

    def ask(row: Any) -> str:
        seen.append(row.text)
        return "x"

    frame = pd.DataFrame({"text": [f"t{i}" for i in range(2_500)]})
    render(frame, ask)

    assert seen == frame["text"].tolist()


def test_braces_of_a_function_are_braces() -> None:
    """What it returns is final: nothing is substituted in it."""
    [asked] = params_of(pd.DataFrame({"text": ["{text} {{x}}"]}), lambda row: row.text)

    assert asked["messages"][0]["content"] == "{text} {{x}}"


def test_what_a_function_returns_says_itself_whether_it_is_uploaded() -> None:
    with pytest.raises(InputError, match=r"return cbp\.image\(path, upload=True\)"):
        FRAME.claude.preview(lambda row: row.text, upload=True)


def test_missing_cells_go_the_way_of_every_missing_value() -> None:
    """Only a row whose function needs the missing cell is skipped."""
    skipped = ("skipped", "column 'text' is missing a value")
    one, two, three = params_of(FRAME, lambda row: f"{row.text} {row.get('n', 'no')}")

    assert one["messages"][0]["content"] == "a 1"
    assert two == skipped
    assert three["messages"][0]["content"] == "c no"


def test_on_missing_empty_and_error_hold_for_functions() -> None:
    """As for a text: nothing in the cell's place, or a refusal that names the position."""
    told = params_of(FRAME, lambda row: f"<{row.text}>", on_missing="empty")

    assert [asked["messages"][0]["content"] for asked in told] == ["<a>", "<>", "<c>"]
    with pytest.raises(MissingValueError, match="'text' is missing a value at position 1"):
        params_of(FRAME, lambda row: row.text, on_missing="error")


@pytest.mark.parametrize("blank", [" \n", [{"role": "user", "content": ""}]], ids=["text", "list"])
def test_blank_and_nothing_are_skipped(blank: Any) -> None:
    """The API refuses empty text, and None asks nothing."""
    frame = pd.DataFrame({"n": [0, 1]})
    told = params_of(frame, lambda row: blank if row.n else None)

    assert told == [
        ("skipped", "the template function returned None"),
        ("skipped", "the rendered text is empty"),
    ]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (3, "a int. Return text, a list of messages, a dict"),
        ([], "it has no messages"),
        ({"system": "x"}, "it has no messages"),
        ([{"role": "user"}], 'message 0 is not {"role": ..., "content": ...}'),
        ([{"role": "king", "content": "x"}], "message 0 has the role 'king'"),
        ([{"role": "user", "content": 3}], "the content of message 0 is neither text nor a list"),
        ([{"role": "user", "content": [{"x": {1}}]}], "it cannot be sent as JSON"),
        ([{"role": "user", "content": [{"x": float("nan")}]}], "it cannot be sent as JSON"),
        ({"messages": [{"role": "user", "content": "x"}], "max_tokens": 0}, "max_tokens must be"),
        ({"messages": [{"role": "user", "content": "x"}], "betas": ["b"]}, "it has betas, which"),
    ],
)
def test_what_is_no_prompt_is_refused_by_position(answer: Any, words: str) -> None:
    """Before anything is sent, with the row that it was returned for."""
    frame = pd.DataFrame({"n": [0, 1]})

    with pytest.raises(
        TemplateError, match=re.escape(f"returned at position 1 is no prompt: {words}")
    ):
        render(frame, lambda row: answer if row.n else "fine")


def test_exceptions_name_the_position_and_no_cell() -> None:
    """The message tells the kind and the row; what the function said is chained."""

    def fail(row: Any) -> str:
        if row.n == 1:
            msg = f"secret {row.text}"
            raise KeyError(msg)
        return "fine"

    frame = pd.DataFrame({"n": [0, 1], "text": ["a", "b"]})
    with pytest.raises(TemplateError, match="raised KeyError for the row at position 1") as caught:
        render(frame, fail)

    assert "secret" not in str(caught.value)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_typo_in_a_function_names_the_near_miss() -> None:
    """As in a text template."""
    with pytest.raises(TemplateError, match=r"failed at position 0: .*Did you mean 'text'"):
        render(pd.DataFrame({"text": ["a"]}), lambda row: row["txet"])


def test_a_lone_surrogate_costs_its_row_only() -> None:
    """The others go."""
    frame = pd.DataFrame({"n": [0, 1]})
    one, two = params_of(frame, lambda row: "\ud800" if row.n else "fine")

    assert one["messages"][0]["content"] == "fine"
    assert two[0] == "invalid"
    assert "at position 1" in two[1]


def test_system_beside_a_function_is_plain() -> None:
    """A system prompt with columns belongs into what the function returns."""
    frame = pd.DataFrame({"text": ["a"]})
    [asked] = params_of(frame, lambda row: row.text, system="Be {{brief}}")

    assert asked["system"] == "Be {brief}"
    with pytest.raises(TemplateError, match=r"system= uses the columns \['text'\], but template="):
        render(frame, lambda row: row.text, system="{text}")


@given(st.lists(st.text(alphabet=st.characters(codec="utf-8")), min_size=1, max_size=20))
def test_a_function_and_a_text_that_ask_the_same_hash_alike(texts: list[str]) -> None:
    """So an answer that one of them paid for serves the other."""
    frame = pd.DataFrame({"text": pd.Series(texts, dtype=object)})
    [by_text] = render(frame, "Q: {text}!")
    [by_function] = render(frame, lambda row: f"Q: {row.text}!")

    assert by_text.digests == by_function.digests
    assert by_text.reasons == by_function.reasons


def test_columns_of_one_name_and_bytes_are_the_functions_business() -> None:
    """Bytes may be read, and a name that stands twice may be left alone."""
    frame = pd.DataFrame([[b"raw", 1, 2]], columns=["data", "a", "a"])
    [asked] = params_of(frame, lambda row: row.data.decode())

    assert asked["messages"][0]["content"] == "raw"
    with pytest.raises(TemplateError, match=r"failed at position 0: .*several columns named 'a'"):
        render(frame, lambda row: row.a)


def test_a_function_is_not_shown_what_the_call_writes(client: Any, emulator: Emulator) -> None:
    """With replace=True, a function that reads whole rows would ask about its own answers."""
    df = pd.DataFrame({"text": ["a", "b"]})
    for _ in range(3):
        df = df.claude.batch(lambda row: json.dumps(dict(row)), replace=True, client=client)

    assert len(emulator.batches) == 1
    assert df["answer"].tolist() == ['[simulated] {"text": "a"}', '[simulated] {"text": "b"}']


def test_a_function_cannot_start_a_run(client: Any) -> None:
    """It would wait for the lock that it is called under."""
    frame = pd.DataFrame({"text": [str(i) for i in range(2_000)]})

    def ask(row: Any) -> Any:
        if row.text == "1999":
            frame.head(1).claude.batch("{text}", client=client)
        return row.text

    with pytest.raises(TemplateError, match="failed at position 1999: A run is being planned by"):
        frame.claude.batch(ask, client=client)


def test_columns_called_like_methods_are_warned_of() -> None:
    """``row.items`` is a method, and would read as one in the prompt."""
    frame = pd.DataFrame({"items": ["a"]})
    with pytest.warns(
        UserWarning, match=r"\['items'\] are called like methods.*row\['items'\], not"
    ):
        [asked] = params_of(frame, lambda row: row["items"])

    assert asked["messages"][0]["content"] == "a"


def test_what_renders_is_chosen_by_the_template() -> None:
    """A function or a text; anything else is refused with what there is."""
    source = Source(pd.DataFrame({"text": ["a"]}))

    assert isinstance(renderer_for(source, Recipe(template=str, params=PARAMS)), FunctionRenderer)
    assert isinstance(renderer_for(source, Recipe(template="{text}", params=PARAMS)), Renderer)
    with pytest.raises(InputError, match="text, a list of messages or a function, not a int"):
        renderer_for(source, Recipe(template=3, params=PARAMS))


def test_what_a_function_does_to_a_list_stays_out_of_the_frame() -> None:
    """The frame is never modified, not even through what its cells hold."""
    tags, sizes = ["a"], np.array([1, 2])
    frame = pd.DataFrame({"tags": [tags], "sizes": [sizes]})

    def template(row: Any) -> str:
        row.tags.append("b")
        row.sizes[0] = 9
        return f"{row.tags} {row.sizes[0]}"

    assert params_of(frame, template)[0]["messages"][0]["content"] == "['a', 'b'] 9"
    assert (tags, sizes.tolist()) == (["a"], [1, 2])


def test_a_row_without_a_system_prompt_has_none() -> None:
    """Null is no system prompt to the API; it is left out, also where system= gives one."""
    messages = [{"role": "user", "content": "Hi"}]
    frame = pd.DataFrame({"a": [1]})

    def template(_row: Any) -> dict[str, Any]:
        return {"system": None, "messages": messages}

    asked = params_of(frame, template, system="Be kind.")

    assert "system" not in asked[0]


def test_a_number_and_its_digits_are_told_apart_or_refused() -> None:
    """Never does row[0] give what stands under "0"."""
    frame = pd.DataFrame([[1, 2]], columns=pd.Index([0, "0"], dtype=object))

    with pytest.raises(TemplateError, match="several columns named '0'; rename them"):
        render(frame, lambda row: f"{row[0]}")
