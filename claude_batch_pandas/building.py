"""A call over a frame -> request lines that any client of the API can send; nothing is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from claude_batch_pandas.calls import Call, recipe_of
from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.frames import row_hashes
from claude_batch_pandas.preparing import prepare
from claude_batch_pandas.rendering import AT

if TYPE_CHECKING:
    import pandas as pd

ROW_NAME = "row-%d-%016x"  # what a row's request is called: its position, and its cells' hash
ROW_ID = b'{"custom_id":"%b","params":'


def request_lines(
    chunks: Iterable[pd.DataFrame], call: Call, left_out: Counter[str]
) -> Iterator[bytes]:
    r"""Yield what each row of a call asks, as a line of JSON with its ``\n``.

    Parameters
    ----------
    chunks : iterable of pandas.DataFrame
        The rows in order.
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
    rows = 0  # before this chunk
    for chunk in chunks:
        renderer = prepare(chunk, recipe)
        hashes = row_hashes(chunk)
        position = 0
        for block in renderer.blocks():
            for i, tail in enumerate(block.tails):
                if tail is None or i in block.reasons:
                    status, why = block.reasons[i]
                    left_out[f"{status}: {why.removesuffix(AT.format(position + i))}"] += 1
                else:
                    name = (
                        ROW_ID % (ROW_NAME % (rows + position + i, hashes[position + i])).encode()
                    )
                    yield b"%b%b%b}\n" % (name, renderer.head, tail)
            position += len(block)
        rows += len(chunk)
