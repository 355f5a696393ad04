"""pandas in and out: rows by column and block, answers back by position.

The only engine file with pandas. Going in, a frame becomes blocks of plain Python values with a
mask of what is missing; coming back, answers become new columns of a new frame.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from html import escape
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from claude_batch_pandas.answers import Answers
from claude_batch_pandas.columns import CODES, STATUSES, Columns
from claude_batch_pandas.exceptions import InputError, OutputExistsError
from claude_batch_pandas.outputs import Field, Kind, Output
from claude_batch_pandas.rendering import Recipe
from claude_batch_pandas.report import TOKENS
from claude_batch_pandas.results import Result
from claude_batch_pandas.templates import missing_columns
from claude_batch_pandas.texts import Texts

# pandas 3 copies on write and has a string dtype of its own; 2.x needs a real copy.
PANDAS_3 = int(pd.__version__.split(".")[0]) >= 3  # noqa: PLR2004
STRING: Any = "str" if PANDAS_3 else "string"
DTYPES: dict[Kind, Any] = {
    Kind.TEXT: STRING,
    Kind.INTEGER: "Int64",
    Kind.NUMBER: "Float64",
    Kind.BOOLEAN: "boolean",
}
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
        self, columns: Sequence[str], size: int, *, raw: Collection[str] = ()
    ) -> Iterator[Block]:
        """Yield the rows in order, `size` at a time.

        Parameters
        ----------
        columns : sequence of str
        size : int
        raw : collection of str
            Columns that may hold bytes.

        Raises
        ------
        InputError
            When another column holds bytes, which a text template cannot render.
        """
        series = {column: self._df.iloc[:, self._positions[column][0]] for column in columns}
        holed = {column for column, values in series.items() if values.hasnans}
        whole = {column for column in holed if _is_whole(series[column])}
        dense = {column for column in {*series} - holed if not _may_hide_nan(series[column].dtype)}
        mixed = {column for column, values in series.items() if not _is_uniform(values.dtype)}
        for start in range(0, len(self._df), size):
            length = min(size, len(self._df) - start)
            values: dict[str, list[Any]] = {}
            missing: dict[str, list[bool]] = {}
            for column, cells in series.items():
                some = cells.iloc[start : start + length]
                part = some.tolist()
                gaps = None if column in dense else _gaps(some, part)
                part = _short(some.dtype, part, gaps)
                may_be_bytes = column not in raw and column in mixed
                if may_be_bytes and bytes in map(type, part):
                    raise InputError(BYTES.format(column))
                if column in whole:
                    part = [cell if cell != cell else int(cell) for cell in part]  # noqa: PLR0124
                values[column] = part
                if gaps is not None:
                    missing[column] = gaps
            yield Block(start, length, values, missing)


def source_of(data: Any, recipe: Recipe) -> Source:
    """Return a frame or Series as the engine reads it for a call.

    A function may read whole rows, so it is not shown the columns that the call itself writes:
    with ``replace=True``, a rerun would ask about its own answers.
    """
    hidden = recipe.output.columns if callable(recipe.template) else ()
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


def check_output(data: Any, output: Output, *, replace: bool) -> None:
    """Refuse to write columns that are there; the answers of a Series are a frame of their own.

    Raises
    ------
    InputError, OutputExistsError
    """
    df = as_frame(data)
    if isinstance(data, pd.Series):
        return
    existing = [name for name in output.columns if name in df.columns]
    if existing and not replace:
        fields = {field.name for field in output.fields} - {output.name}
        other = "Choose another output="
        if fields & {*existing}:
            other = "Rename those columns or the schema's fields"
        msg = (
            f"The DataFrame already has the columns {existing}. "
            f"{other}, or pass replace=True to rewrite them."
        )
        raise OutputExistsError(msg)
    twice = [name for name in existing if list(df.columns).count(name) > 1]
    if twice:
        msg = f"The DataFrame has several columns named {twice[0]!r}; rename them before replace=True."
        raise InputError(msg)


def check_rejoin(data: Any, output: Output) -> None:
    """Refuse to rewrite a column that no run wrote: one without its status and error.

    Raises
    ------
    OutputExistsError
    """
    if isinstance(data, pd.Series):
        return
    existing = [name for name in output.columns if name in as_frame(data).columns]
    if existing and len(existing) < len(output.columns):
        msg = (
            f"The DataFrame already has the columns {existing}, which are not a run's. Rename them "
            f"to join the answers as {output.name!r}."
        )
        raise OutputExistsError(msg)


def join(data: Any, output: Output, rows: Columns | Sequence[Result]) -> pd.DataFrame:
    """Return a new frame with the columns of an output, by position.

    Parameters
    ----------
    data : pandas.DataFrame or pandas.Series
        Left as it is.
    output : Output
    rows : Columns or sequence of Result
        One result per row.

    Returns
    -------
    pandas.DataFrame
        The same index, rows and columns, and those of the output: the answers, ``_status``
        (categorical) and ``_error`` (string). Of a Series, only those.
    """
    columns = arrays(output, rows)
    if isinstance(data, pd.Series):
        return on_index(data.index, columns)
    out: pd.DataFrame = snapshot(data)
    for name, values in columns.items():
        out[name] = _as_is(values, out.index)
    return out


def row_hashes(df: pd.DataFrame) -> list[int]:
    """Return a hash of the cells of each row, as text: 64 bits that its place does not change."""
    hashes: list[int] = pd.util.hash_pandas_object(df.astype(str), index=False).tolist()
    return hashes


def spread(data: Any, n: int) -> Any:
    """Return at most `n` rows of a frame or Series, spread evenly over it, in their order."""
    if len(as_frame(data)) <= n:
        return data
    return data.iloc[np.linspace(0, len(data) - 1, n).round().astype(int)]


def snapshot(data: Any) -> Any:
    """Return a frame or Series as it is now, whatever is done to the original in place."""
    return data.copy(deep=not PANDAS_3)


def arrays(output: Output, rows: Columns | Sequence[Result]) -> dict[str, Any]:
    """Return the arrays of an output by their column names."""
    if not isinstance(rows, Columns):
        rows = Columns.of(output, rows)
    *names, status, error = output.columns
    found = [*map(_array, output.fields, rows.cells)]
    if output.votes > 1:
        found.append(pd.array(rows.agreement, dtype="Float64"))
    return {
        **dict(zip(names, found, strict=True)),
        status: _statuses(rows.codes),
        error: pd.array(rows.errors.array, dtype=STRING),
    }


def _array(field: Field, cells: Texts | list[Any]) -> Any:
    """Return a column of answers in the dtype that fits it."""
    if isinstance(cells, Texts):
        return pd.array(cells.array, dtype=STRING)
    if field.kind in DTYPES:
        return pd.array(cells, dtype=DTYPES[field.kind])
    if field.kind is Kind.CATEGORY:
        return pd.Categorical(cells, categories=list(field.choices))
    if field.kind is Kind.DATETIME:
        return _moments(cells)
    array = np.empty(len(cells), dtype=object)
    array[:] = cells
    return array


def _moments(cells: list[Any]) -> Any:
    """Return a column of dates and times: in UTC as soon as one of them has a time zone."""
    has_zone = any(getattr(cell, "tzinfo", None) is not None for cell in cells)
    return pd.to_datetime(pd.Series(cells, dtype=object), utc=has_zone).dt.as_unit("us").array


def details(index: pd.Index, answers: Answers, dollars: Sequence[Decimal | None]) -> pd.DataFrame:
    """Return one row of facts per row of a run, or per vote of each row."""
    results, origins, _ = answers
    index = index.repeat(len(results) // max(1, len(index)))
    usages = [result.usage for result in results]
    codes = np.array([CODES[result.status] for result in results], np.int8)
    columns: dict[str, Any] = {"status": _statuses(codes)}
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


def _statuses(codes: Any) -> Any:
    kinds: Any = pd.CategoricalDtype([*map(str, STATUSES)])
    return pd.Categorical.from_codes(codes, dtype=kinds)


def on_index(index: pd.Index, columns: Mapping[str, Any]) -> pd.DataFrame:
    """Return a frame of columns over an index."""
    arrays = {name: _as_is(values, index) for name, values in columns.items()}
    return pd.DataFrame(arrays, index=index)


def _as_is(values: Any, index: pd.Index) -> Any:
    """Return a column that stays what it is: of bare objects, pandas 3 would guess the dtype."""
    is_objects = isinstance(values, np.ndarray) and values.dtype == object
    return pd.Series(values, index=index, dtype=object) if is_objects else values


TABLE_DTYPES = {"text": STRING, "count": "int64", "number": "float64"}


def table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    """Return a small frame of records.

    Parameters
    ----------
    rows : sequence of mapping
    columns : mapping of str to str
        Each column's kind: ``text``, ``count``, ``number`` or ``time`` (seconds since 1970, UTC).
    """
    frame = pd.DataFrame(list(rows), columns=list(columns))
    for name, kind in columns.items():
        if kind == "time":
            seconds = frame[name].astype("float64") // 1
            frame[name] = pd.to_datetime(seconds, unit="s", utc=True).dt.as_unit("s")
        else:
            frame[name] = frame[name].astype(TABLE_DTYPES[kind])
    return frame


def tally(values: Any, most: int) -> pd.DataFrame:
    """Return how often each answer was given: ``answer`` (string) and ``rows`` (int64).

    The most frequent come first; what is beyond `most` is counted together.
    """
    counts = pd.Series(values, dtype=object).dropna().map(str).value_counts()
    shown, rest = counts.head(most), int(counts.iloc[most:].sum())
    answers, rows = [*shown.index], [*shown.tolist()]
    if rest:
        answers.append(f"{len(counts) - most:,} others")
        rows.append(rest)
    return pd.DataFrame({"answer": pd.array(answers, dtype=STRING), "rows": rows})


QUANTILES = {"least": 0.0, "quarter": 0.25, "median": 0.5, "three quarters": 0.75, "most": 1.0}


def are_flags(df: pd.DataFrame, columns: Sequence[str]) -> bool:
    """Tell whether some columns hold nothing but true and false."""
    return all(str(df[name].dtype) in {"boolean", "bool"} for name in columns)


def tally_flags(df: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return in how many rows each of some columns is true, as `tally` does."""
    rows = [int(df[name].fillna(value=False).sum()) for name in columns]
    table = pd.DataFrame({"answer": pd.array([*columns], dtype=STRING), "rows": rows})
    return table.sort_values("rows", ascending=False, kind="stable", ignore_index=True)


def quantiles(df: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return quantiles of some columns: ``kind``, ``quantile`` (string) and ``value`` (float64)."""
    rows = [
        {"kind": column, "quantile": name, "value": float(values.quantile(share))}
        for column in columns
        for values in (df[column].dropna().astype("float64"),)
        for name, share in QUANTILES.items()
        if len(values)
    ]
    return pd.DataFrame(rows, columns=["kind", "quantile", "value"])


def numbers(values: pd.Series) -> list[float]:
    """Return the numbers of a column, without what is missing."""
    return values.dropna().astype("float64").tolist()


def plain_html(words: str, df: pd.DataFrame) -> str:
    """Return words and a small table as HTML, in which every value is text."""
    table: str = df.to_html(index=False, notebook=True, border=0)
    return f"<p>{escape(words)}</p>{table}"


def _is_uniform(dtype: Any) -> bool:
    """Tell whether a column holds texts only, or numbers only."""
    return isinstance(dtype, pd.StringDtype) or pd.api.types.is_numeric_dtype(dtype)


def _is_whole(series: pd.Series) -> bool:
    """Tell whether a column with gaps holds integers, and became float only by those."""
    is_category = isinstance(series.dtype, pd.CategoricalDtype)
    cells = series.cat.categories if is_category else series
    if not isinstance(cells.dtype, np.dtype) or cells.dtype.kind != "f":
        return False
    present = cells.dropna().to_numpy()
    is_whole = (np.abs(present) < EXACT_INTEGER) & (present == np.floor(present))
    return len(present) > 0 and bool(np.all(is_whole))


def _may_hide_nan(dtype: Any) -> bool:
    """Tell whether a column can hold a NaN that isna() does not call missing."""
    is_numpy = isinstance(dtype, np.dtype)  # masked and Arrow floats are not
    return pd.api.types.is_float_dtype(dtype) and not is_numpy


def _gaps(series: pd.Series, cells: Sequence[Any]) -> list[bool] | None:
    """Return which cells of some rows are missing; None when none is."""
    mask = series.isna().to_numpy()
    if _may_hide_nan(series.dtype):
        nans = [cell is not pd.NA and cell != cell for cell in cells]  # noqa: PLR0124
        mask = np.logical_or(mask, np.array(nans, dtype=bool))
    return mask.tolist() if mask.any() else None


def _short(dtype: Any, cells: list[Any], gaps: Sequence[bool] | None) -> list[Any]:
    """Return floats of fewer than 64 bits as their digits say, and all other cells as they are.

    Widened to 64 bits, 0.1 would read 0.10000000149011612.
    """
    name = str(dtype).lower().removesuffix("[pyarrow]").replace("halffloat", "float16")
    kind = {"float32": np.float32, "float": np.float32, "float16": np.float16}.get(name)
    if kind is None:
        return cells
    are_gaps = repeat(False) if gaps is None else gaps
    return [
        cell if is_gap else float(str(kind(cell)))
        for cell, is_gap in zip(cells, are_gaps, strict=False)
    ]
