"""Examples of good answers, shown to the model before every row: few-shot prompts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from claude_batch_pandas import frames
from claude_batch_pandas.blocks import Loader
from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.outputs import Output
from claude_batch_pandas.rendering import Recipe, Renderer
from claude_batch_pandas.schemas import VALUE
from claude_batch_pandas.slots import Column
from claude_batch_pandas.templates import as_messages

NO_PARAMS = {"model": "-", "max_tokens": 1}


def with_examples(template: Any, examples: Any, output: Output, loader: Loader) -> list[Any]:
    """Return a template that shows examples first, each as a turn of the user and its answer.

    Parameters
    ----------
    template : str or list
    examples : pandas.DataFrame
        The template's columns, and the output's with the answers that are wanted.
    output : Output
    loader : Loader
        Of the examples' images and documents.

    Raises
    ------
    InputError
        When they lack a column or a value, or the template is not known before.
    """
    if callable(template) or isinstance(template, Column):
        msg = (
            "examples= needs a template that is text or messages; a function, or a column of "
            "messages, returns its examples itself."
        )
        raise InputError(msg)
    df = frames.as_frame(examples)
    if not len(df):
        msg = "examples= is an empty frame. Give it a row, or leave it out."
        raise InputError(msg)
    answers = _answers(df, output)
    recipe = Recipe(template=template, params=NO_PARAMS, on_missing="error")
    renderer = Renderer(frames.Source(df), recipe, loader)
    messages: list[Any] = []
    for position, request in enumerate(_requests(renderer)):
        messages += map(_literal, request["messages"])
        messages.append({"role": "assistant", "content": _doubled(answers[position])})
    own = [{"role": "user", "content": template}] if isinstance(template, str) else template
    return [*messages, *as_messages(own)]


def _requests(renderer: Renderer) -> Iterator[dict[str, Any]]:
    position = 0
    for block in renderer.blocks():
        for i, tail in enumerate(block.tails):
            if tail is None or i in block.reasons:
                msg = f"The example at position {position} cannot be shown: {block.reasons[i].why}."
                raise InputError(msg)
            yield orjson.loads(renderer.head + tail)
            position += 1


def _answers(df: Any, output: Output) -> list[str]:
    """Return what the model would answer for each example."""
    wanted = [field.name for field in output.fields]
    lacking = [name for name in wanted if name not in df.columns]
    if lacking:
        msg = (
            f"examples= lacks the columns {lacking}, which hold the answers. "
            f"It has: {', '.join(map(repr, df.columns))}."
        )
        raise InputError(msg)
    columns = {name: df[name].tolist() for name in wanted}
    gaps = [name for name in wanted if output.schema is None and df[name].isna().any()]
    if gaps:
        msg = (
            f"examples= has no answer in column {gaps[0]!r} of some row. Fill it, or drop the row."
        )
        raise InputError(msg)
    rows = [{name: cells[i] for name, cells in columns.items()} for i in range(len(df))]
    return [_answer(row, output) for row in rows]


def _answer(row: Mapping[str, Any], output: Output) -> str:
    if output.schema is None:
        return str(row[output.name])
    if output.flags:
        value: Any = {VALUE: [flag for flag in output.flags if row[flag]]}
    elif output.schema.is_wrapped:
        value = {VALUE: _plain(row[output.name])}
    elif output.expand:
        value = {name: _plain(cell) for name, cell in row.items()}
    else:
        value = _plain(row[output.name])
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        msg = f"examples= holds an answer that is no JSON ({error}); use plain values."
        raise InputError(msg) from None


def _plain(cell: Any) -> Any:
    """Return a cell as JSON has it; what is missing is null."""
    if hasattr(cell, "isoformat"):
        return cell.isoformat() if cell == cell else None  # noqa: PLR0124 - NaT
    if type(cell).__name__ == "NAType" or (isinstance(cell, float) and cell != cell):  # noqa: PLR0124
        return None
    return cell.tolist() if hasattr(cell, "tolist") else cell


def _literal(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message in which braces are braces when it is read as a template."""
    content = message["content"]
    if not isinstance(content, str):
        content = [
            {**block, "text": _doubled(block["text"])} if "text" in block else block
            for block in content
        ]
    else:
        content = _doubled(content)
    return {**message, "content": content}


def _doubled(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
