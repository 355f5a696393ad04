"""A frame's index, on disk and back: the same labels or none, never others.

A range is three numbers in JSON, most others are Parquet. One of several kinds of labels (numbers,
and a word for the total) is JSON, too. What neither can hold is not saved, and positions stand in
under a name that says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from claude_batch_pandas.frames import STRING
from claude_batch_pandas.requests import LEGAL_ID

AT_ONCE = 1 << 14  # labels that are spelled out at a time
PARQUET = b"PAR1"  # begins a Parquet file
PLAIN = frozenset({str, int, float, bool, type(None)})  # what JSON gives back as it was
CUSTOM_ID = "custom_id"  # names an index whose labels are what requests are called
POSITION = "position"  # names the index that stands in for one that could not be saved


def dump(index: pd.Index) -> bytes | None:
    """Return an index as bytes; None when neither Parquet nor JSON would keep its labels."""
    names = [_plain(name) for name in index.names]
    if isinstance(index, pd.RangeIndex):
        return _range(index, names)
    labels: Any = list(range(index.nlevels)) if index.nlevels > 1 else 0
    # By number: names may repeat, be numbers themselves, or be nothing that Arrow can hold.
    frame = index.set_names([None] * index.nlevels).to_frame(index=False, name=labels)
    levels = [frame[name] for name in frame]
    for is_kept, write in ((_is_faithful, _parquet), (_is_plain, _json)):
        if all(is_kept(level) for level in levels):
            # pyarrow's errors are ValueErrors and TypeErrors, and so are Unicode's and JSON's.
            with contextlib.suppress(TypeError, ValueError, OverflowError, NotImplementedError):
                return write(levels, names)
    return None


def load(data: bytes | None, rows: int) -> pd.Index:
    """Return a saved index, or the positions when none could be saved."""
    if data is None:
        return pd.RangeIndex(rows, name=POSITION)
    if data.startswith(PARQUET):
        frame = pd.read_parquet(io.BytesIO(data))
        told = json.loads(frame.attrs.get("names", "[null]"))
        levels: list[Any] = [frame[name].array for name in frame]
    else:
        whole = json.loads(data)
        told = whole["names"]
        if "range" in whole:
            start, stop, step = whole["range"]
            return pd.RangeIndex(start, stop, step, name=_name(told[0]))
        levels = [np.array([*level, None], dtype=object)[:-1] for level in whole["levels"]]
    names = [_name(name) for name in told]
    if len(levels) == 1:
        index: pd.Index = pd.Index(levels[0], name=names[0])
        return index
    return pd.MultiIndex.from_arrays(levels, names=names)


def digest(index: pd.Index) -> str:
    """Return what two indexes share when their labels are the same, whatever dtype holds them."""
    told = hashlib.sha256(repr([_plain(name) for name in index.names]).encode())
    for i in range(index.nlevels):
        level = index.get_level_values(i)
        told.update(b"\n")
        for start in range(0, len(level), AT_ONCE):
            part = level[start : start + AT_ONCE]
            labels = list(map(_told, part.tolist()))
            if part.hasnans:  # NaN, None, NaT and <NA> are all just missing
                both = zip(part.isna(), labels, strict=True)
                labels = ["" if gap else label for gap, label in both]
            told.update("\n".join([*labels, ""]).encode(errors="backslashreplace"))
    return told.hexdigest()


def of_ids(names: Sequence[str | None], rows: int) -> pd.Index:
    """Return custom_ids as an index, or the positions while they are not known."""
    if not names:
        return pd.RangeIndex(rows, name=POSITION)
    index: pd.Index = pd.Index(pd.array(list(names), dtype=STRING), name=CUSTOM_ID)
    return index


def names_of(index: pd.Index) -> list[str] | None:
    """Return the custom_ids that rows came with, each once; None when they came with none."""
    if index.name != CUSTOM_ID or index.hasnans or not index.is_unique:
        return None
    names = index.tolist()
    return (
        names if all(isinstance(name, str) and LEGAL_ID.fullmatch(name) for name in names) else None
    )


def _told(label: Any) -> str:
    """Return the repr of a label; one that only tells an address says no more than its type."""
    kind: Any = type(label)
    return kind.__qualname__ if kind.__repr__ is object.__repr__ else repr(label)


def _range(index: pd.RangeIndex, names: Sequence[Any]) -> bytes:
    return json.dumps({"names": names, "range": [index.start, index.stop, index.step]}).encode()


def _parquet(levels: Sequence[pd.Series], names: Sequence[Any]) -> bytes:
    frame = pd.DataFrame({str(i): level.array for i, level in enumerate(levels)})
    frame.attrs = {"names": json.dumps(names)}
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _json(levels: Sequence[pd.Series], names: Sequence[Any]) -> bytes:
    told = {"names": names, "levels": [level.tolist() for level in levels]}
    return json.dumps(told, ensure_ascii=False).encode()


def _is_faithful(labels: pd.Series) -> bool:
    """Tell whether Parquet gives labels back as they were; objects of many kinds it does not."""
    if labels.dtype != object:
        return _is_named(labels.dtype)
    kind = pd.api.types.infer_dtype(labels, skipna=True)
    return kind in {"string", "empty"} or (kind in {"integer", "date"} and not labels.hasnans)


def _is_named(dtype: Any) -> bool:
    """Tell whether pandas knows a dtype by its name, as a Parquet file tells it."""
    try:
        pd.api.types.pandas_dtype(str(dtype))
    except (TypeError, NotImplementedError):  # Arrow's lists, structs and decimals
        return False
    return True


def _is_plain(labels: pd.Series) -> bool:
    return labels.dtype == object and {type(label) for label in labels} <= PLAIN


def _name(told: Any) -> Any:
    """Return the name of an index level that `_plain` told."""
    return tuple(told) if isinstance(told, list) else told


def _plain(name: Any) -> Any:
    """Return the name of an index level as JSON can hold it; None for what it cannot."""
    if isinstance(name, tuple):
        return [_plain(part) for part in name]
    if isinstance(name, np.generic):
        name = name.item()
    if isinstance(name, str):
        return name.encode(errors="replace").decode()
    return name if isinstance(name, int | float) else None
