"""Texts of very many rows in little memory: Arrow's, of which pandas makes its columns, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

KIND = pa.large_string()  # 32 bits count two gigabytes only
NOWHERE = -1  # in place of a place


class Texts:
    """Texts by place, some of them missing.

    Parameters
    ----------
    array : pyarrow.ChunkedArray
    """

    __slots__ = ("array",)

    def __init__(self, array: Any) -> None:
        self.array = array

    @classmethod
    def of(cls, texts: Sequence[str | None]) -> Texts:
        """Return the texts of a list; None is missing, and what is no text is spelled out."""
        try:
            array = pa.array(texts, KIND)
        except (pa.ArrowException, UnicodeEncodeError):  # a UUID, say, which JSON has as text
            array = pa.array([_spelled(text) for text in texts], KIND)
        return cls(pa.chunked_array([array]))

    @classmethod
    def of_bytes(cls, data: memoryview) -> Texts:
        """Return what `to_bytes` wrote; the texts stay where they are."""
        return cls(pa.ipc.open_stream(data).read_all().column(0))

    def to_bytes(self) -> bytes:
        """Return the texts as Arrow writes them."""
        table = pa.table({"texts": self.array})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        written: bytes = sink.getvalue().to_pybytes()
        return written

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return int(self.array.nbytes)

    @classmethod
    def join(cls, parts: Sequence[Texts]) -> Texts:
        """Return the texts of several, one after the other; nothing is copied."""
        return cls(pa.chunked_array([chunk for part in parts for chunk in part.array.chunks], KIND))

    def take(self, places: npt.NDArray[np.int64]) -> Texts:
        """Return the texts at some places; there is none at `NOWHERE`."""
        return Texts(self.array.take(pa.array(places, mask=places == NOWHERE)))

    def head(self, count: int) -> Texts:
        """Return the first texts; nothing is copied."""
        return Texts(self.array.slice(0, count))


def _spelled(value: Any) -> str | None:
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return None
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text.encode(errors="replace").decode()
