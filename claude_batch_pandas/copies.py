"""A copy of a shard's results as columns, on disk: a run is opened again without reading its lines.

The results themselves are what counts. Where a copy is missing, damaged, of another format or of
other prices, they are read.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from claude_batch_pandas.columns import Part, Stock
from claude_batch_pandas.exceptions import LedgerError
from claude_batch_pandas.models import edition
from claude_batch_pandas.money import Bill
from claude_batch_pandas.outputs import Output
from claude_batch_pandas.results import Result
from claude_batch_pandas.spool import read_sealed, write_sealed
from claude_batch_pandas.texts import Texts

FORMAT = 1  # one more when any part of a copy, or of what it is made by, means something else
MOST_BYTES = 1 << 25  # of a copy, which is held as a whole for a moment


class _Head(msgspec.Struct):
    """What stands in the first line, before the bytes of codes, ordinals and texts."""

    made_by: str
    results: str  # their SHA-256
    count: int
    others: dict[int, Result]
    bill: Bill


def save(path: Path, part: Part, sha256: str) -> None:
    """Write a copy of results, if they are texts and not too many.

    Parameters
    ----------
    path : Path
    part : Part
    sha256 : str
        Of the results file.

    Raises
    ------
    LedgerError
    """
    [cells, *more] = part.stock.cells
    if more or not isinstance(cells, Texts) or cells.size > MOST_BYTES:
        return
    stock = part.stock
    head = _Head(_made_by(), sha256, len(stock.codes), dict(stock.others), stock.bill)
    arrays = (stock.codes.astype("<i1"), part.ordinals.astype("<i8"))
    parts = [msgspec.json.encode(head), b"\n", *(array.tobytes() for array in arrays)]
    write_sealed(path, [*parts, cells.to_bytes()])


def load(path: Path, output: Output, sha256: str) -> Part | None:
    """Return the copy of some results; None without one that is whole, and of this version.

    Parameters
    ----------
    path : Path
    output : Output
        What answers are read as.
    sha256 : str
        Of the results file.
    """
    if not output.is_text:
        return None
    try:
        data = read_sealed(path)
        line, _, rest = data.partition(b"\n")
        head = msgspec.json.decode(line, type=_Head)
    except (LedgerError, msgspec.MsgspecError):
        return None
    if (head.made_by, head.results) != (_made_by(), sha256):
        return None
    codes = np.frombuffer(rest, "<i1", head.count).astype(np.int8)
    ordinals = np.frombuffer(rest, "<i8", head.count, head.count).astype(np.int64)
    texts = Texts.of_bytes(memoryview(rest)[9 * head.count :])
    return Part(output, Stock(codes, [texts], head.others, head.bill), ordinals)


def _made_by() -> str:
    return f"{FORMAT} {edition()}"
