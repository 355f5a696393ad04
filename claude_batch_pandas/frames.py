"""pandas in and out: rows by column and block, answers back by position.

The only engine file with pandas. Going in, a frame becomes blocks of plain Python values with a
mask of what is missing; coming back, answers become new columns of a new frame.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from claude_batch_pandas.answers import Answers
from claude_batch_pandas.exceptions import InputError, OutputExistsError
from claude_batch_pandas.records import RowStatus
from claude_batch_pandas.rendering import Recipe
from claude_batch_pandas.report import TOKENS
from claude_batch_pandas.results import Result
from claude_batch_pandas.templates import missing_columns

# pandas 3 copies on write and has a string dtype of its own; 2.x needs a real copy.
PANDAS_3 = int(pd.__version__.split(".")[0]) >= 3  # noqa: PLR2004
STRING: Any = "str" if PANDAS_3 else "string"
STATUSES = [str(status) for status in RowStatus]
CODES = {status: code for code, status in enumerate(RowStatus)}
BYTES = (
    "Column {0!r} holds bytes, which a template cannot render. "
    "Decode it first: df[{0!r}].str.decode('utf-8')."
)
EXACT_INTEGER = 2**53  # above it a float no longer tells one integer from the next


class Block(NamedTuple):
    """Consecutive rows of some columns."""

    start: int  # position of the first row
    length: int
    values: dict[str, list[Any]]
    missing: dict[str, list[bool]]  # only columns that have gaps in this block


class Source:
    """A frame as the engine reads it.

    Parameters
    ----------
    df : pandas.DataFrame
    hidden : collection of str
        Columns that are not shown.

    Attributes
    ----------
    names : list of str
        What a template may name: string names, and integer names as their digits.

    Raises
    ------
    InputError
        When the columns are a MultiIndex.
    """

    def __init__(self, df: pd.DataFrame, hidden: Collection[str] = ()) -> None:
        if isinstance(df.columns, pd.MultiIndex):
            msg = (
                "The columns are a MultiIndex, which a template cannot name. Flatten them first: "
                'df.columns = ["_".join(map(str, name)) for name in df.columns].'
            )
            raise InputError(msg)
        self._df = df
        self._positions: dict[str, list[int]] = {}
        for position, label in enumerate(df.columns):
            is_whole = isinstance(label, int | np.integer) and not isinstance(label, bool)
            if isinstance(label, str) or is_whole:
                self._positions.setdefault(str(label), []).append(position)
        for name in hidden:
            self._positions.pop(name, None)
        self.names = list(self._positions)

    def __len__(self) -> int:
        return len(self._df)

    @property
    def index(self) -> pd.Index:
        """The frame's index."""
        return self._df.index

    @property
    def ambiguous(self) -> frozenset[str]:
        """Names that several columns have."""
        return frozenset(name for name, found in self._positions.items() if len(found) > 1)

    def check(self, columns: Sequence[str]) -> None:
        """Refuse columns that are missing or stand twice.

        Raises
        ------
        MissingColumnError, InputError
        """
        unknown = [column for column in columns if column not in self._positions]
        if unknown:
            raise missing_columns(unknown, self.names)
        twice = [column for column in columns if column in self.ambiguous]
        if twice:
            msg = (
                "The DataFrame has several columns of the same name (0 and '0' are the same here), "
                f"and the template uses it: {twice}. Rename them, for example with "
                "df.set_axis([...], axis=1)."
            )
            raise InputError(msg)

    def blocks(
        self, columns: Sequence[str], size: int, *, refuse_bytes: bool = True
    ) -> Iterator[Block]:
        """Yield the rows in order, `size` at a time.

        Raises
        ------
        InputError
            When a column holds bytes, which a text template cannot render.
        """
        series = {column: self._df.iloc[:, self._positions[column][0]] for column in columns}
        whole = {column for column, values in series.items() if _is_whole_with_gaps(values)}
        for start in range(0, len(self._df), size):
            length = min(size, len(self._df) - start)
            values: dict[str, list[Any]] = {}
            missing: dict[str, list[bool]] = {}
            for column, cells in series.items():
                part, gaps = _read(cells.iloc[start : start + length])
                if refuse_bytes and any(type(cell) is bytes for cell in part):
                    raise InputError(BYTES.format(column))
                if column in whole:
                    part = [cell if cell != cell else int(cell) for cell in part]  # noqa: PLR0124
                values[column] = part
                if gaps is not None:
                    missing[column] = gaps
            yield Block(start, length, values, missing)


def source_of(data: Any, recipe: Recipe, output: str) -> Source:
    """Return a frame or Series as the engine reads it for a call.

    A function may read whole rows, so it is not shown the columns that the call itself writes:
    with ``replace=True``, a rerun would ask about its own answers.
    """
    hidden = column_names(output) if callable(recipe.template) else ()
    return Source(as_frame(data), hidden)


def as_frame(data: Any) -> pd.DataFrame:
    """Return a frame as it is, and a Series as a frame whose one column is called ``value``.

    Raises
    ------
    InputError
        For anything else.
    """
    if isinstance(data, pd.DataFrame):
        return data
    if isinstance(data, pd.Series):
        return data.to_frame(name="value")
    msg = f"A pandas DataFrame or Series is needed, not a {type(data).__name__}."
    raise InputError(msg)


def check_output(df: pd.DataFrame | None, output: Any, *, replace: bool) -> None:
    """Refuse an output name that cannot be a new column; None for a frame of its own.

    Raises
    ------
    InputError, OutputExistsError
    """
    if not isinstance(output, str) or not output.strip():
        msg = f"output must be the name of the new column, not {output!r}."
        raise InputError(msg)
    if not output.isprintable():
        msg = f"output={output!r} has characters that cannot be printed; use a plain name."
        raise InputError(msg)
    if df is None:
        return
    existing = [name for name in column_names(output) if name in df.columns]
    if existing and not replace:
        msg = (
            f"The DataFrame already has the columns {existing}. "
            f"Choose another output=, or pass replace=True to rewrite them."
        )
        raise OutputExistsError(msg)
    twice = [name for name in existing if list(df.columns).count(name) > 1]
    if twice:
        msg = f"The DataFrame has several columns named {twice[0]!r}; rename them before replace=True."
        raise InputError(msg)


def check_rejoin(data: Any, output: str) -> None:
    """Refuse to rewrite a column that no run wrote: one without its status and error.

    Raises
    ------
    OutputExistsError
    """
    if isinstance(data, pd.Series):
        return
    existing = [name for name in column_names(output) if name in as_frame(data).columns]
    if existing and len(existing) < len(column_names(output)):
        msg = (
            f"The DataFrame already has the columns {existing}, which are not a run's. Rename them "
            f"to join the answers as {output!r}."
        )
        raise OutputExistsError(msg)


def column_names(output: str) -> list[str]:
    """Return the names of the three columns of an output."""
    return [output, f"{output}_status", f"{output}_error"]


def join(data: Any, output: str, rows: Sequence[Result]) -> pd.DataFrame:
    """Return a new frame with the three columns of an output, by position.

    Parameters
    ----------
    data : pandas.DataFrame or pandas.Series
        Left as it is.
    output : str
    rows : sequence of Result
        One per row.

    Returns
    -------
    pandas.DataFrame
        The same index, rows and columns, and the columns ``output`` (string),
        ``output_status`` (categorical) and ``output_error`` (string). Of a Series, only those.
    """
    columns = answer_columns(output, rows)
    if isinstance(data, pd.Series):
        return on_index(data.index, columns)
    out: pd.DataFrame = snapshot(data)
    for name, values in columns.items():
        out[name] = values
    return out


def snapshot(data: Any) -> Any:
    """Return a frame or Series as it is now, whatever is done to the original in place."""
    return data.copy(deep=not PANDAS_3)


def answer_columns(output: str, rows: Sequence[Result]) -> dict[str, Any]:
    """Return the three arrays of an output by their column names."""
    answer, status, error = column_names(output)
    texts = [_value(row) for row in rows]
    return {
        answer: pd.array(texts, dtype=STRING),
        status: _statuses(rows),
        error: pd.array([row.error for row in rows], dtype=STRING),
    }


def details(index: pd.Index, answers: Answers, dollars: Sequence[Decimal | None]) -> pd.DataFrame:
    """Return one row of facts per row of a run."""
    results, origins, _ = answers
    usages = [result.usage for result in results]
    columns: dict[str, Any] = {"status": _statuses(results)}
    for name in ("error", "text", "stop_reason", "model", "request_id"):
        columns[name] = pd.array([getattr(result, name) for result in results], dtype=STRING)
    sent = [origin.attempts > 0 for origin in origins]
    runs = [origin.run_id if was else None for origin, was in zip(origins, sent, strict=True)]
    shards = [origin.shard if was else None for origin, was in zip(origins, sent, strict=True)]
    columns["run"] = pd.array(runs, dtype=STRING)
    columns["shard"] = pd.array(shards, dtype="Int64")
    columns["attempts"] = pd.array([origin.attempts for origin in origins], dtype="Int64")
    whys = [", ".join(origin.retried) or None for origin in origins]
    columns["retried"] = pd.array(whys, dtype=STRING)
    for kind in TOKENS:
        counts = [None if usage is None else getattr(usage, kind) for usage in usages]
        columns[kind] = pd.array(counts, dtype="Int64")
    prices = [None if price is None else float(price) for price in dollars]
    columns["dollars"] = pd.array(prices, dtype="Float64")
    return on_index(index, columns)


def _statuses(results: Sequence[Result]) -> Any:
    codes: Any = np.array([CODES[result.status] for result in results], dtype=np.int8)
    kinds: Any = pd.CategoricalDtype(STATUSES)
    return pd.Categorical.from_codes(codes, dtype=kinds)


def _value(row: Result) -> str | None:
    """Return the answer of a row: what was cut is kept, everything else that failed is missing."""
    if row.status is RowStatus.SUCCEEDED:
        return row.text
    return row.text or None if row.status is RowStatus.TRUNCATED else None


def on_index(index: pd.Index, columns: Mapping[str, Any]) -> pd.DataFrame:
    """Return a frame of columns over an index."""
    return pd.DataFrame(dict(columns), index=index)


def table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    """Return a small frame of records.

    Parameters
    ----------
    rows : sequence of mapping
    columns : mapping of str to str
        Each column's kind: ``text``, ``count`` or ``time`` (seconds since 1970, UTC).
    """
    frame = pd.DataFrame(list(rows), columns=list(columns))
    for name, kind in columns.items():
        if kind == "time":
            seconds = frame[name].astype("float64") // 1
            frame[name] = pd.to_datetime(seconds, unit="s", utc=True).dt.as_unit("s")
        else:
            frame[name] = frame[name].astype("int64" if kind == "count" else STRING)
    return frame


def _is_whole_with_gaps(series: pd.Series) -> bool:
    """Tell whether a float column holds integers and became float only by its missing values."""
    if not series.hasnans:
        return False
    is_category = isinstance(series.dtype, pd.CategoricalDtype)
    cells = series.cat.categories if is_category else series
    if not isinstance(cells.dtype, np.dtype) or cells.dtype.kind != "f":
        return False
    present = cells.dropna().to_numpy()
    is_whole = (np.abs(present) < EXACT_INTEGER) & (present == np.floor(present))
    return len(present) > 0 and bool(np.all(is_whole))


def _short_float(dtype: Any) -> Any:
    """Return the NumPy type of a float dtype with fewer than 64 bits, None for others."""
    name = str(dtype).lower().removesuffix("[pyarrow]")
    return {"float32": np.float32, "float": np.float32, "float16": np.float16}.get(
        name.replace("halffloat", "float16")
    )


def _read(series: pd.Series) -> tuple[list[Any], list[bool] | None]:
    cells = series.tolist()
    mask = series.isna().to_numpy()
    if pd.api.types.is_float_dtype(series.dtype) and not isinstance(series.dtype, np.dtype):
        # Masked and Arrow floats can hold a NaN that isna() does not call missing.
        nans = [cell is not pd.NA and cell != cell for cell in cells]  # noqa: PLR0124
        mask = np.logical_or(mask, np.array(nans, dtype=bool))
    short = _short_float(series.dtype)
    if short is not None:  # widened to 64 bits, 0.1 would read 0.10000000149011612
        cells = [
            cell if is_gap else float(str(short(cell)))
            for cell, is_gap in zip(cells, mask.tolist(), strict=True)
        ]
    return cells, mask.tolist() if mask.any() else None
