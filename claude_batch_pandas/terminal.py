"""What commands print: tables for people, JSON for scripts."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import typer

from claude_batch_pandas.spool import Writing, writable
from claude_batch_pandas.words import plain

if TYPE_CHECKING:
    import pandas as pd

BLOCK = 512  # lines that are written at once
SMALL = 0.001  # below which four digits say too little
WIDE = 48  # characters of a cell that may be cut
PIPE_WIDTH = 10_000  # characters: a table in a file or a pipe is not cut at all


def say(words: str) -> None:
    """Print a line for people on standard error, which no script reads."""
    typer.echo(plain(words), err=True)


def show(text: str) -> None:
    """Print text of several lines."""
    typer.echo("\n".join(plain(line) for line in text.splitlines()))


def show_json(value: Any) -> None:
    """Print a value as a line of JSON."""
    typer.echo(orjson.dumps(value, default=str).decode())


def write(lines: Iterable[bytes], path: Path | None) -> int:
    """Write lines to a file that appears when it is whole, or to standard output; return how many.

    Raises
    ------
    LedgerError
        When the file cannot be written.
    """
    rest, count = iter(lines), 0
    with contextlib.ExitStack() as whole:
        is_kept = path is not None and (path.is_file() or not path.exists())
        file: Any = sys.stdout.buffer
        if path is not None and is_kept:
            file = whole.enter_context(Writing(writable(path)))
        elif path is not None:  # a pipe or a device: it takes the lines as they come
            file = whole.enter_context(path.open("wb"))
        while block := list(islice(rest, BLOCK)):
            file.write(b"".join(block))
            count += len(block)
        if is_kept:
            file.keep()
        else:
            file.flush()
    return count


def show_frame(found: pd.DataFrame, *, as_json: bool) -> None:
    """Print a frame: a table, or a JSON array of objects."""
    if as_json:
        typer.echo(found.to_json(orient="records", date_format="iso", date_unit="s"))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in found.columns:
        is_number = found[name].dtype.kind in "iuf"
        # What people copy from here, such as an id, is never cut.
        longest = max(map(len, map(_cell, found[name])), default=0)
        width = longest if longest <= WIDE or is_number else None
        justify: Any = "right" if is_number else "left"
        table.add_column(name, justify=justify, no_wrap=True, min_width=width)
    for row in found.itertuples(index=False):
        table.add_row(*(Text(_cell(value)) for value in row))  # a name is no markup
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PIPE_WIDTH)
    console.print(table)


def _cell(value: Any) -> str:
    import pandas as pd

    if isinstance(value, pd.Timestamp):
        return value.strftime("%Y-%m-%d %H:%M UTC")
    if pd.isna(value):
        return "-"
    if isinstance(value, float):
        return f"{value:,.4f}" if not 0 < value < SMALL else f"{value:.2g}"
    return f"{value:,}" if isinstance(value, int) else plain(str(value))
