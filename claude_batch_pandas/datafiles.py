"""Files of rows -> a frame, as a shell names them: what stands in a cell is what is asked about."""

from __future__ import annotations

import contextlib
import json
import math
import runpy
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.reading import documents

CHUNK = 20_000  # rows
# "007" is no 7, and "NA" may be a country: only an empty cell is missing.
AS_TEXT: Any = {
    "dtype": str,
    "keep_default_na": False,
    "na_values": [""],
    "index_col": False,  # else a comma at the end of each row makes the first column the index
}
Chunked = Callable[[Path, int], Iterator[pd.DataFrame]]


def read_rows(path: Path) -> pd.DataFrame:
    """Read a file of rows.

    Parameters
    ----------
    path : Path
        ``.csv`` or ``.tsv`` (every cell as its text; an empty one is missing), ``.json`` (an array
        of objects), ``.jsonl`` (an object a line), ``.parquet``; a folder of documents, as
        `documents` reads it; or a Python script with a function ``rows()`` that returns a
        DataFrame, or dicts.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    InputError
        When there is no such file, or it is not what its name says.
    """
    if path.is_dir():
        return documents(path)
    read = READERS.get(path.suffix.lower())
    if read is None:
        msg = f"{path} is no file of rows. There are: {', '.join(READERS)}, and folders of texts."
        raise InputError(msg)
    with _told(path):
        return read(path)


def read_chunks(path: Path, rows: int = CHUNK) -> Iterator[pd.DataFrame]:
    """Yield a file of rows in order, some rows at a time: the same cells as `read_rows` gives.

    Where the format allows (CSV, TSV, JSONL, Parquet), no more of it is held than that; what is in a
    column is found out first, so that the chunks have the same columns of the same types.

    Parameters
    ----------
    path : Path
        As for `read_rows`.
    rows : int

    Raises
    ------
    InputError
        When there is no such file, or it is not what its name says.
    """
    read = CHUNKED.get(path.suffix.lower())
    if read is None or path.is_dir():
        whole = read_rows(path)
        yield from (whole.iloc[i : i + rows] for i in range(0, len(whole), rows))
        return
    chunks, count = read(path, rows), 0
    while True:
        with _told(path):
            chunk = next(chunks, None)
        if chunk is None:
            break
        count += 1
        # One that only counts rows begins anew; a named one, such as Parquet may have, stays.
        yield chunk.reset_index(drop=True) if isinstance(chunk.index, pd.RangeIndex) else chunk
    if not count:  # its columns, at least
        yield read_rows(path)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Tell what is wrong with a file as it is read."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        msg = f"There is no file {path}."
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror or error}."
    except (ValueError, ImportError) as error:  # of pandas, whatever the format; Unicode's, too
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        msg = f"{path} is not what its name says: {told}."
    else:
        return
    raise InputError(msg)


def _texts(separator: str) -> Callable[[Path], pd.DataFrame]:
    def read(path: Path) -> pd.DataFrame:
        with _no_field_lost():
            whole: pd.DataFrame = pd.read_csv(path, sep=separator, **AS_TEXT)
            return whole

    return read


def _text_chunks(separator: str) -> Chunked:
    def read(path: Path, rows: int) -> Iterator[pd.DataFrame]:
        with pd.read_csv(path, sep=separator, chunksize=rows, **AS_TEXT) as chunks:
            while True:
                with _no_field_lost():
                    chunk = next(chunks, None)
                if chunk is None:
                    return
                yield chunk

    return read


@contextlib.contextmanager
def _no_field_lost() -> Iterator[None]:
    """Refuse rows that have more fields than there are names, of which pandas only warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            yield
        except pd.errors.ParserWarning as lost:
            msg = "rows have more fields than the first line has names"
            raise ValueError(msg) from lost


def _json(path: Path) -> pd.DataFrame:
    return _frame(json.loads(path.read_text(encoding="utf-8-sig")), path)


def _json_lines(path: Path) -> pd.DataFrame:
    return _frame(list(_parsed(path)), path)


def _json_line_chunks(path: Path, rows: int) -> Iterator[pd.DataFrame]:
    kinds = _kinds(_parsed(path), path)
    parsed = _parsed(path)
    while part := list(islice(parsed, rows)):
        columns = {
            name: pd.Series([row.get(name, math.nan) for row in part], dtype=object).astype(kind)
            for name, kind in kinds.items()
        }
        yield pd.DataFrame(columns, index=range(len(part)))


def _kinds(parsed: Iterator[Any], path: Path) -> dict[str, Any]:
    """Return the dtypes that pandas gives the columns of many objects, from the first to the last."""
    seen: dict[str, dict[Any, Any]] = {}  # by name, one value of each kind
    count = 0
    times: Counter[str] = Counter()
    while part := list(islice(parsed, CHUNK)):
        _frame(part, path)
        for row in part:
            for name, value in row.items():
                kinds = seen.setdefault(name, {})
                # Of whole numbers, the least and the largest tell whether they fit a column.
                kinds[type(value)] = value
                if type(value) is int:
                    kinds["least"] = min(value, kinds.get("least", value))
                    kinds["most"] = max(value, kinds.get("most", value))
        times.update(chain.from_iterable(part))
        count += len(part)
    kinds_of: dict[str, Any] = {}
    for name, kinds in seen.items():
        gap: list[dict[str, Any]] = [{}] * (times[name] < count)  # some rows have no such cell
        rows = [{name: value} for value in kinds.values()]
        kinds_of[name] = pd.DataFrame(rows + gap)[name].dtype
    return kinds_of


def _parsed(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            try:
                if line.strip():
                    yield json.loads(line)
            except ValueError as error:
                msg = f"line {number} is no JSON ({error})"
                raise ValueError(msg) from None


def _parquet_chunks(path: Path, rows: int) -> Iterator[pd.DataFrame]:
    with pq.ParquetFile(path) as file:
        gaps: Counter[str] = Counter()
        for batch in file.iter_batches(batch_size=rows):
            gaps.update({name: batch[name].null_count for name in batch.schema.names})
        for batch in file.iter_batches(batch_size=rows):
            chunk = pa.Table.from_batches([batch]).to_pandas()
            # As the whole column is, if it has a gap anywhere.
            kinds = {name: _with_gaps(chunk[name].dtype) for name in chunk if gaps[str(name)]}
            yield chunk.astype(kinds)


def _with_gaps(dtype: Any) -> Any:
    """Return the dtype that a column of a dtype has in pandas when a value is missing."""
    if isinstance(dtype, np.dtype) and dtype.kind in "iu":
        return np.dtype("float64")
    return np.dtype(object) if dtype == np.dtype(bool) else dtype


def _frame(rows: Any, path: Path) -> pd.DataFrame:
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        msg = f"{path} must hold objects, one a row."
        raise InputError(msg)
    return pd.DataFrame(rows)


def _script(path: Path) -> pd.DataFrame:
    """Run a script of the user's own, and take what its function returns; its words are no data."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            found = runpy.run_path(str(path)).get("rows")
            rows: Any = found() if callable(found) else None
            if not isinstance(rows, pd.DataFrame | None):
                rows = list(rows)
    except Exception as error:
        if isinstance(error, OSError) and not path.is_file():
            raise
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        where = f" at line {lines[-1]}" if lines else ""
        msg = f"{path} raised {type(error).__name__}{where}: {error}. Mend the script."
        raise InputError(msg) from error
    if rows is None:
        msg = f"{path} has no function rows() that returns a DataFrame, or dicts."
        raise InputError(msg)
    return rows if isinstance(rows, pd.DataFrame) else _frame(rows, path)


READERS: Mapping[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": _texts(","),
    ".tsv": _texts("\t"),
    ".json": _json,
    ".jsonl": _json_lines,
    ".parquet": pd.read_parquet,
    ".py": _script,
}
CHUNKED: Mapping[str, Chunked] = {
    ".csv": _text_chunks(","),
    ".tsv": _text_chunks("\t"),
    ".jsonl": _json_line_chunks,
    ".parquet": _parquet_chunks,
}
