"""Files of rows -> a frame, as a shell names them: what stands in a cell is what is asked about."""

from __future__ import annotations

import contextlib
import json
import runpy
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.reading import documents

CHUNK = 20_000  # rows
# "007" is no 7, and "NA" may be a country: only an empty cell is missing.
AS_TEXT: Any = {"dtype": str, "keep_default_na": False, "na_values": [""]}
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
    """Yield a file of rows in order, some rows at a time, each with an index from 0.

    Where the format allows (CSV, TSV, JSONL, Parquet), no more of it is held than that.

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
        yield chunk.reset_index(drop=True)
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
    return lambda path: pd.read_csv(path, sep=separator, **AS_TEXT)


def _text_chunks(separator: str) -> Chunked:
    def read(path: Path, rows: int) -> Iterator[pd.DataFrame]:
        with pd.read_csv(path, sep=separator, chunksize=rows, **AS_TEXT) as chunks:
            yield from chunks

    return read


def _json(path: Path) -> pd.DataFrame:
    return _frame(json.loads(path.read_text(encoding="utf-8-sig")), path)


def _json_lines(path: Path) -> pd.DataFrame:
    return _frame(list(_parsed(path)), path)


def _json_line_chunks(path: Path, rows: int) -> Iterator[pd.DataFrame]:
    parsed = _parsed(path)
    while part := list(islice(parsed, rows)):
        yield _frame(part, path)


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
        for batch in file.iter_batches(batch_size=rows):
            yield batch.to_pandas()


def _frame(rows: Any, path: Path) -> pd.DataFrame:
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        msg = f"{path} must hold objects, one a row."
        raise InputError(msg)
    return pd.DataFrame(rows)


def _script(path: Path) -> pd.DataFrame:
    """Run a script of the user's own, and take what its function returns."""
    found = runpy.run_path(str(path)).get("rows")
    if not callable(found):
        msg = f"{path} has no function rows(). Define one that returns a DataFrame, or dicts."
        raise InputError(msg)
    rows: Any = found()
    if isinstance(rows, pd.DataFrame):
        return rows
    return _frame(list(rows), path)


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
