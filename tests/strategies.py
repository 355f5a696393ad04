"""What several test files build: texts, result lines, frames' indexes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pandas as pd
from hypothesis import strategies as st

from claude_batch_pandas.results import Result, read, read_tags

# Any text that UTF-8 can hold; braces, controls, line separators and astral characters included.
texts = st.text(st.characters(exclude_categories=["Cs"]))
shown_texts = texts.filter(lambda text: bool(text) and not text.isspace())


def line(custom_id: Any, result: Any) -> bytes:
    """Return one line of a results file, without its newline."""
    return json.dumps({"custom_id": custom_id, "result": result}).encode()


def message(
    content: Any = None, *, model: str = "claude-haiku-5-5", **fields: Any
) -> dict[str, Any]:
    """Return a message as the API sends it; `content` may be the text of its one block."""
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [] if content is None else content,
        "stop_reason": "end_turn",
        "stop_sequence": None,
        **fields,
    }


def succeeded(content: Any = None, **fields: Any) -> dict[str, Any]:
    """Return a succeeded result as the API sends it."""
    return {"type": "succeeded", "message": message(content, **fields)}


def read_all(blocks: Iterable[bytes]) -> list[tuple[str, Result]]:
    """Return the readable results of some blocks of lines."""
    return [found for block in read(blocks) for found in block]


def tags_of(blocks: Iterable[bytes]) -> list[tuple[str, str] | None]:
    """Return the tags of the lines of some blocks."""
    return [tag for block in read_tags(blocks) for tag in block]


def read_one(result: Any) -> Result:
    """Return what `read` makes of one result."""
    [(name, found)] = read_all([line("a", result)])
    assert name == "a"
    return found


def usage(**tokens: Any) -> dict[str, Any]:
    """Return the usage of a message served by a batch."""
    return {"input_tokens": 0, "output_tokens": 0, "service_tier": "batch", **tokens}


def indexes(rows: int) -> st.SearchStrategy[pd.Index]:
    """Return indexes of every kind over that many rows: repeated, unsorted, dates, levels."""
    names = st.sampled_from([None, "id", 7])

    def lists(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
        return st.lists(values, min_size=rows, max_size=rows)

    numbers = lists(st.integers(-3, 3))
    words = lists(st.sampled_from(["a", "b", "", "é"]))
    days = lists(st.sampled_from(["2024-02-29", "1999-12-31", "2024-01-01"]))
    return st.one_of(
        st.builds(lambda cells, name: pd.Index(cells, name=name, dtype="int64"), numbers, names),
        st.builds(lambda cells, name: pd.Index(cells, name=name, dtype="float64"), numbers, names),
        st.builds(lambda cells, name: pd.Index(cells, name=name, dtype=object), words, names),
        st.builds(lambda cells, name: pd.Index(cells, name=name, dtype="string"), words, names),
        st.builds(lambda cells, name: pd.CategoricalIndex(cells, name=name), words, names),
        st.builds(lambda cells, name: pd.DatetimeIndex(cells, name=name), days, names),
        st.builds(lambda cells: pd.DatetimeIndex(cells, tz="Europe/Berlin"), days),
        st.builds(
            lambda first, second: pd.MultiIndex.from_arrays([first, second], names=["x", None]),
            numbers,
            words,
        ),
        st.just(pd.RangeIndex(rows)),
    )
