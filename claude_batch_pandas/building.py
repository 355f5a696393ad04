"""A call over a frame -> request lines that any client of the API can send; nothing is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from claude_batch_pandas import frames
from claude_batch_pandas.calls import Call, recipe_of
from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.preparing import prepare
from claude_batch_pandas.rendering import AT

ROW_ID = b'{"custom_id":"row-%d","params":'


def request_lines(data: Any, call: Call, left_out: Counter[str]) -> Iterator[bytes]:
    r"""Yield what each row of a call asks, as a line of JSON with its ``\n``.

    Parameters
    ----------
    data : pandas.DataFrame or pandas.Series
    call : Call
    left_out : Counter of str
        Why rows ask nothing, and how many; filled while lines are taken.

    Raises
    ------
    InputError
        For whatever is wrong with the call.
    """
    recipe = recipe_of(call)
    if recipe.output.votes > 1 or recipe.history or call.upload:
        msg = "votes, history and uploads are for runs; requests that are only built have none."
        raise InputError(msg)
    renderer = prepare(frames.as_frame(data), recipe)
    position = 0
    for block in renderer.blocks():
        for i, tail in enumerate(block.tails, start=position):
            if tail is None or i - position in block.reasons:
                status, why = block.reasons[i - position]
                left_out[f"{status}: {why.removesuffix(AT.format(i))}"] += 1
            else:
                yield b"%b%b%b}\n" % (ROW_ID % i, renderer.head, tail)
        position += len(block)
