"""A frame -> a file for other programs, in which no text is taken for a formula.

Spreadsheets compute what begins with ``=``, ``+``, ``-`` or ``@``, and an answer of a model, or a
cell of a stranger, can begin so. The file is written beside its place and renamed when it is whole.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.spool import Writing, writable

SEPARATORS: Mapping[str, str] = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (*SEPARATORS, ".parquet")

# Blanks and unseen characters are skipped by some programs, and full-width signs taken for others.
NUMBER = re.compile(
    r"[+-]\d+([.,]\d+)*([eE][+-]?\d+)?%?"
)  # which begins like a formula, and is none
FORMULA = re.compile(
    r"[\t\r]|[\s\x00-\x1f\ufeff\u200b-\u200f\u2060]*[=+\-@\uff1d\uff0b\uff0d\uff20]"
)


def export(df: Any, path: str | PathLike[str], *, formulas: bool = False) -> Path:
    """Write a frame to a file that is safe to open in a spreadsheet.

    Text that a spreadsheet would compute (cells, column names, index labels) gets a leading
    apostrophe in CSV and TSV; numbers stay as they are. All text is quoted. The index is written
    unless it is the default one. The file is readable by you alone.

    Parameters
    ----------
    df : pandas.DataFrame or pandas.Series
    path : str or path
        Ends in ``.csv``, ``.tsv`` or ``.parquet``. A file that is there is replaced, in one step.
    formulas : bool, default False
        Write text that begins like a formula as it is. Parquet always is: nothing computes it.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    InputError
        For another suffix, or a frame that the format cannot hold.
    LedgerError
        When the file cannot be written; what was there stays.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> import claude_batch_pandas as cbp
    >>> df = pd.DataFrame({"answer": ["=1+1", "two"]})
    >>> print(cbp.export(df, tempfile.mkdtemp() + "/out.csv").read_text(), end="")
    "answer"
    "'=1+1"
    "two"
    """
    if not isinstance(df, pd.DataFrame | pd.Series):
        msg = f"export writes a DataFrame or a Series, not a {type(df).__name__}."
        raise InputError(msg)
    if not isinstance(formulas, bool):
        msg = f"formulas must be True or False, not {formulas!r}."
        raise InputError(msg)
    place = _place(path)
    frame = df if isinstance(df, pd.DataFrame) else df.to_frame()
    try:
        data = _encode(frame, place.suffix.lower(), formulas=formulas)
    except (ValueError, TypeError, NotImplementedError) as error:  # also Arrow's, which are these
        msg = f"The frame cannot be written as {place.suffix}: {error}"
        raise InputError(msg) from error
    with Writing(place) as file:
        file.write(data)
        file.keep()
    return place


def export_chunks(
    chunks: Iterable[pd.DataFrame],
    path: str | PathLike[str],
    *,
    formulas: bool = False,
    numbers: bool = False,
) -> int:
    """Write frames of the same columns into one file, one below the other, as `export` does.

    Parameters
    ----------
    chunks : iterable of pandas.DataFrame
    path : str or path
    formulas : bool, default False
    numbers : bool, default False
        Write a text that is a number, such as ``-5``, as it is: it was read from a file of text.

    Returns
    -------
    int
        How many rows were written.

    Raises
    ------
    InputError, LedgerError
        What was there stays then.
    """
    place = _place(path)
    suffix, rows, chunks_before = place.suffix.lower(), 0, 0
    with Writing(place) as file, contextlib.ExitStack() as whole:
        table: Any = None
        for chunk in chunks:
            try:
                if suffix == ".parquet":
                    table = table or whole.enter_context(_Table(file, chunk))
                    table.add(chunk)
                else:
                    how = {"formulas": formulas, "numbers": numbers, "header": not chunks_before}
                    file.write(_encode(chunk, suffix, **how))
            except (ValueError, TypeError, NotImplementedError) as error:  # also Arrow's
                msg = f"The rows cannot be written as {place.suffix}: {error}"
                raise InputError(msg) from error
            rows, chunks_before = rows + len(chunk), chunks_before + 1
        whole.close()
        file.keep()
    return rows


class _Table:
    """A Parquet file that grows; its columns have the types of the first frame."""

    def __init__(self, file: Writing, frame: pd.DataFrame) -> None:
        schema = pa.Schema.from_pandas(frame, preserve_index=_kept(frame.index))
        for i, field in enumerate(schema):
            if pa.types.is_null(field.type):  # nothing but gaps so far: text, most likely
                schema = schema.set(i, field.with_type(pa.large_string()))
        self._writer = pq.ParquetWriter(pa.PythonFile(_Sink(file), "w"), schema)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def add(self, frame: pd.DataFrame) -> None:
        """Write some more rows."""
        is_kept = _kept(frame.index)
        table = pa.Table.from_pandas(frame, schema=self._writer.schema, preserve_index=is_kept)
        self._writer.write_table(table)


class _Sink(io.RawIOBase):
    """A file on its way, as Arrow writes to files."""

    def __init__(self, file: Writing) -> None:
        self._out = file

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._out.size

    def write(self, data: Any) -> int:
        self._out.write(bytes(data))
        return len(data)


def _kept(index: pd.Index) -> bool | None:
    """Return whether Arrow keeps an index as a column, in its own words."""
    return False if _is_default(index) else None


def _place(path: Any) -> Path:
    try:
        place = Path(fspath(path)).expanduser()
    except TypeError as error:
        msg = f"path must name a file, such as 'out.csv', not {path!r}."
        raise InputError(msg) from error
    if place.suffix.lower() not in SUFFIXES:
        msg = (
            f"export cannot write {place.name!r}: its suffix is {place.suffix!r}. "
            f"Use one of: {', '.join(SUFFIXES)}."
        )
        raise InputError(msg)
    return writable(place)


def _encode(
    frame: pd.DataFrame,
    suffix: str,
    *,
    formulas: bool,
    numbers: bool = False,
    header: bool = True,
) -> bytes:
    if suffix == ".parquet":
        buffer = io.BytesIO()
        frame.to_parquet(buffer)
        return buffer.getvalue()
    if not formulas:
        frame = _without_formulas(frame, numbers=numbers)
    # Quotes keep a cell whole for programs that part cells at other signs, such as ";".
    text = frame.to_csv(
        sep=SEPARATORS[suffix],
        index=not _is_default(frame.index),
        header=header,
        quoting=csv.QUOTE_NONNUMERIC,
        lineterminator="\n",
    )
    return text.encode()


def _without_formulas(frame: pd.DataFrame, *, numbers: bool) -> pd.DataFrame:
    mend = _harmless_cell if numbers else _harmless
    columns = [_harmless_column(frame.iloc[:, i], mend) for i in range(frame.shape[1])]
    # By position, because names may stand twice.
    found = pd.concat(columns, axis=1) if columns else frame.copy(deep=False)
    found.columns = _harmless_labels(frame.columns)
    found.index = _harmless_labels(frame.index)
    return found


def _harmless_column(column: Any, mend: Callable[[Any], Any]) -> Any:
    if column.dtype.kind in "biufcmM":  # numbers and times
        return column
    return column.astype(object).map(mend, na_action="ignore").astype(object)


def _harmless_labels(labels: pd.Index) -> pd.Index:
    names = [_harmless(name) for name in labels.names]
    if isinstance(labels, pd.MultiIndex):
        rows = [tuple(_harmless(part) for part in label) for label in labels]
        return pd.MultiIndex.from_tuples(rows, names=names) if rows else labels.set_names(names)
    if labels.dtype.kind in "biufcmM":
        return labels.set_names(names)
    made = pd.Index([_harmless(label) for label in labels], dtype=object, tupleize_cols=False)
    return made.set_names(names)


def _harmless(value: Any) -> Any:
    """Return text that no spreadsheet computes; what is no text is returned as it is."""
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def _harmless_cell(value: Any) -> Any:
    """Return what `_harmless` does, but a number that is written as text as it is."""
    return value if isinstance(value, str) and NUMBER.fullmatch(value) else _harmless(value)


def _is_default(index: pd.Index) -> bool:
    return (
        isinstance(index, pd.RangeIndex)
        and index.name is None
        and index.start == 0
        and (index.step == 1)
    )
