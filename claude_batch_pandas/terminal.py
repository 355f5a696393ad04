"""What commands print: tables for people, JSON for scripts."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import typer

from claude_batch_pandas.exceptions import InputError
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


def is_shown(path: Path | None) -> bool:
    """Tell whether what a command writes goes to standard output."""
    return path is None or str(path) == "-"


def write(lines: Iterable[bytes], path: Path | None) -> int:
    """Write lines to a file that appears when it is whole; return how many.

    Parameters
    ----------
    lines : iterable of bytes
    path : Path or None
        None or ``-`` is standard output; a pipe or a device takes the lines as they come.

    Raises
    ------
    InputError, LedgerError
        When nothing can be written there.
    """
    if path is None or is_shown(path):
        count = _pour(lines, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return count
    if path.exists() and not path.is_file() and not path.is_dir():
        try:
            with path.open("wb") as pipe:
                return _pour(lines, pipe)
        except OSError as error:
            msg = f"{path} cannot be written: {error.strerror or error}."
            raise InputError(msg) from None
    with Writing(writable(path)) as file:
        count = _pour(lines, file)
        file.keep()
    return count


def _pour(lines: Iterable[bytes], file: Any) -> int:
    """Write lines, some at a time; return how many."""
    rest, count = iter(lines), 0
    while block := list(islice(rest, BLOCK)):
        file.write(b"".join(block))
        count += len(block)
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
