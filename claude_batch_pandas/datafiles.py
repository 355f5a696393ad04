"""Files of rows -> a frame, as a shell names them: what stands in a cell is what is asked about."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.reading import documents


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
    try:
        return read(path)
    except InputError:
        raise
    except FileNotFoundError:
        msg = f"There is no file {path}."
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror or error}."
    except (ValueError, ImportError) as error:  # of pandas, whatever the format; Unicode's, too
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        msg = f"{path} is not what its name says: {told}."
    raise InputError(msg)


def _texts(separator: str) -> Callable[[Path], pd.DataFrame]:
    def read(path: Path) -> pd.DataFrame:
        # "007" is no 7, and "NA" may be a country: only an empty cell is missing.
        return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, na_values=[""])

    return read


def _json(path: Path) -> pd.DataFrame:
    return _frame(json.loads(path.read_text(encoding="utf-8-sig")), path)


def _json_lines(path: Path) -> pd.DataFrame:
    rows = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            try:
                rows += [json.loads(line)] if line.strip() else []
            except ValueError as error:
                msg = f"line {number} is no JSON ({error})"
                raise ValueError(msg) from None
    return _frame(rows, path)


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
