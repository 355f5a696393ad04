"""Rows -> encoded requests, with the reason for every row that is never sent."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_batch_pandas.exceptions import (
    InputError,
    MissingColumnError,
    MissingValueError,
    TemplateError,
)
from claude_batch_pandas.frames import Source
from claude_batch_pandas.records import RowStatus
from claude_batch_pandas.rendered import Reason
from claude_batch_pandas.rendering import Recipe, Renderer
from claude_batch_pandas.sharding import ENVELOPE, MAX_BATCH_BYTES
from claude_batch_pandas.stretches import Stretch
from tests.strategies import shown_texts, texts

PARAMS = {"model": "claude-haiku-5-5", "max_tokens": 16}
SPACES = ["", " ", "\n\t", "\u2003\u00a0"]


def renderer(df: pd.DataFrame, template: Any, **options: Any) -> Renderer:
    recipe = Recipe(template=template, params=PARAMS, **options)
    return Renderer(Source(df), recipe)


def items(made: Renderer) -> list[Reason | tuple[bytes, bytes]]:
    """Return (content hash, tail) of each row's request, or the reason why there is none."""
    found: list[Reason | tuple[bytes, bytes]] = []
    for block in made.blocks():
        assert len(block) == len(block.tails) == len(block.digests)
        for i, (digest, tail) in enumerate(zip(block.digests, block.tails, strict=True)):
            if i in block.reasons:
                found.append(block.reasons[i])
            else:
                assert digest is not None
                assert tail is not None
                found.append((digest, tail))
    return found


def sent(df: pd.DataFrame, template: Any, **options: Any) -> list[str | tuple[str, str]]:
    """Return the user text of each row's request, or its status and why it is not sent."""
    made = renderer(df, template, **options)
    found: list[str | tuple[str, str]] = []
    for item in items(made):
        if isinstance(item, Reason):
            found.append((str(item.status), item.why))
        else:
            params = json.loads(made.encoder.head + item[1])
            found.append(params["messages"][0]["content"])
    return found


@given(st.lists(st.tuples(shown_texts, st.integers(-5, 5)), max_size=6))
@settings(deadline=None, max_examples=100)
def test_each_row_is_rendered(rows: list[tuple[str, int]]) -> None:
    """Every row gives its own request, in order."""
    df = pd.DataFrame({"a": [a for a, _ in rows], "Order ID": [b for _, b in rows]}, dtype=object)

    assert sent(df, "{a}: {Order ID:+d}") == [f"{a}: {b:+d}" for a, b in rows]


@pytest.mark.parametrize("gap", [None, float("nan"), pd.NA, pd.NaT, np.datetime64("NaT", "ns")])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_missing_value_is_skipped(gap: Any, position: int) -> None:
    """A row with a missing value is skipped with the column's name; the others go."""
    cells: list[Any] = ["x", "y", "z"]
    cells[position] = gap
    expected: list[Any] = ["<x> 1", "<y> 1", "<z> 1"]
    expected[position] = ("skipped", "column 'a' is missing a value")

    assert (
        sent(pd.DataFrame({"a": pd.Series(cells, dtype=object), "n": 1}), "<{a}> {n}") == expected
    )


@pytest.mark.parametrize(
    "dtype",
    [
        "float64",
        "Float64",
        "Int64",
        "string",
        "object",
        "category",
        "datetime64[ns]",
        "boolean",
        "double[pyarrow]",
        "int64[pyarrow]",
        "string[pyarrow]",
    ],
)
def test_missing_never_reaches_the_wire(dtype: str) -> None:
    """A wholly missing column of any dtype sends nothing, or an empty text where that was asked."""
    df = pd.DataFrame({"a": pd.Series([None, None], dtype=dtype), "b": "x"})

    assert sent(df, "{a}{b}") == [("skipped", "column 'a' is missing a value")] * 2
    assert sent(df, "[{a}]{b}", on_missing="empty") == ["[]x", "[]x"]


@given(st.lists(st.one_of(st.none(), st.sampled_from(SPACES), texts), min_size=1, max_size=6))
@settings(deadline=None, max_examples=150)
def test_blank_text_is_skipped(cells: list[str | None]) -> None:
    """Rows without a value, or whose text is only white space, are skipped with the reason."""
    df = pd.DataFrame({"a": pd.Series(cells, dtype=object)})
    empty = ("skipped", "the rendered text is empty")
    gap = ("skipped", "column 'a' is missing a value")

    assert sent(df, "{a}") == [
        gap if cell is None else empty if not cell.strip() else cell for cell in cells
    ]
    assert sent(df, "{a}", on_missing="empty") == [
        cell if cell and cell.strip() else empty for cell in cells
    ]


def test_integers_with_gaps_render_as_integers() -> None:
    """An integer column that became float by its gaps renders 7, not 7.0, gaps or not."""
    df = pd.DataFrame({"n": [7, None, 8]})

    assert sent(df, "n={n}")[::2] == ["n=7", "n=8"]
    assert sent(df, "n={n:03d}", on_missing="empty") == ["n=007", "n=", "n=008"]


def test_missing_may_be_an_error() -> None:
    """on_missing="error" names the column and the position, in any block."""
    df = pd.DataFrame({"a": ["x"] * 1500 + [None]})

    with pytest.raises(MissingValueError, match="Column 'a' is missing a value at position 1500"):
        sent(df, "{a}", on_missing="error")


def test_other_on_missing_is_refused() -> None:
    """on_missing has three values."""
    with pytest.raises(InputError, match="on_missing must be one of skip, error, empty, not 'no'"):
        renderer(pd.DataFrame({"a": [1]}), "{a}", on_missing="no")


@pytest.mark.parametrize("on_missing", ["skip", "empty"])
def test_value_that_does_not_fit_is_named_by_its_position(on_missing: str) -> None:
    """The position in the error is the row's in the frame, whatever was skipped before it."""
    df = pd.DataFrame({"a": pd.Series([None] * 1100 + [1, "free"], dtype=object)})

    with pytest.raises(TemplateError, match="at position 1101, a str"):
        sent(df, "{a:.2f}", on_missing=on_missing)


def test_row_that_is_not_utf8_is_invalid() -> None:
    """A lone surrogate costs its own row, in any block; the others are sent."""
    cells = ["x"] * 1500
    cells[3] = cells[1200] = "\ud800"
    found = sent(pd.DataFrame({"a": pd.Series(cells, dtype=object)}), "{a}")
    broken = [i for i, item in enumerate(found) if item != "x"]

    assert broken == [3, 1200]
    assert found[3] == (
        "invalid",
        "the text holds a lone surrogate, which UTF-8 cannot encode (the row at position 3)",
    )


def test_row_too_large_for_a_batch_is_invalid() -> None:
    """A request of one byte too many is invalid; the largest that fits and small ones are sent."""
    made = renderer(pd.DataFrame({"a": ["x"]}), "{a}")
    [small] = items(made)
    assert not isinstance(small, Reason)
    [line] = Stretch.of("0" * 16, 1, 0, made.encoder.head, dict([small]))
    room = MAX_BATCH_BYTES - ENVELOPE - len(line) + 1
    df = pd.DataFrame({"a": pd.Series(["x", "y" * room, "y" * (room + 1)], dtype=object)})
    [first, largest, too_large] = items(renderer(df, "{a}"))

    assert first == small
    assert not isinstance(largest, Reason)
    assert isinstance(too_large, Reason)
    assert too_large.status is RowStatus.INVALID
    assert too_large.why.endswith(
        "bytes; a batch holds at most 256,000,000 (the row at position 2)"
    )


def test_constant_prompt_too_large_for_a_batch_is_never_sent() -> None:
    """A prompt without columns that no batch can hold is refused or invalid, but never sent."""
    df = pd.DataFrame({"a": [1]})
    try:
        found = items(renderer(df, "y" * MAX_BATCH_BYTES))
    except InputError:
        return

    assert [isinstance(item, Reason) for item in found] == [True]


def test_prompt_without_columns_is_one_request() -> None:
    """Without columns every row asks the same, and the frame's length is kept."""
    made = renderer(pd.DataFrame({"a": range(1500)}), "Tell a joke")
    found = items(made)
    [tail], [digest] = made.encoder.constant()

    assert len(found) == 1500
    assert set(found) == {(digest, tail)}


def test_frame_without_rows_gives_nothing() -> None:
    """No rows, no requests, with and without columns."""
    df = pd.DataFrame({"a": []})

    assert sent(df, "{a}") == []
    assert sent(df, "joke") == []


def test_recipe_is_checked_before_any_row() -> None:
    """Unknown and repeated columns and impossible params are refused when the recipe meets the frame."""
    df = pd.DataFrame([[1, 2, 3]], columns=["a", "a", "b"])

    with pytest.raises(MissingColumnError, match="lacks: 'c'"):
        renderer(df, "{c}")
    with pytest.raises(InputError, match="several columns of the same name"):
        renderer(df, "{a}")
    with pytest.raises(InputError, match="max_tokens must be"):
        Renderer(Source(df), Recipe(template="{b}", params={**PARAMS, "max_tokens": 0}))


def test_blocks_do_not_change_a_request() -> None:
    """A row's request does not depend on the rows around it."""
    df = pd.DataFrame({"a": [f"text {i}" for i in range(2500)]})
    whole = items(renderer(df, "{a}"))
    [alone] = items(renderer(df.iloc[[2400]], "{a}"))

    assert whole[2400] == alone
    assert len(set(whole)) == 2500


def test_recipe_comes_back_as_it_was() -> None:
    """A recipe survives the disk and renders the same bytes."""
    recipe = Recipe(
        template=[{"role": "user", "content": [{"type": "text", "text": "é {a}"}]}],
        params={**PARAMS, "tools": [{"name": "t", "z": 1, "a": None}]},
        system="Be {b}.",
        betas=("one", "two"),
        on_missing="empty",
    )
    again = Recipe.load(recipe.dump())
    df = pd.DataFrame({"a": ["x"], "b": ["brief"]})

    assert again == recipe
    assert items(Renderer(Source(df), again)) == items(Renderer(Source(df), recipe))
