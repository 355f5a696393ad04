"""Requests that follow each other -> the bytes of a body. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import overload

import numpy as np

from claude_batch_pandas.ids import Ids
from claude_batch_pandas.requests import (
    DIGEST_SIZE,
    HASH_SIZE,
    ID_HEAD,
    ID_TAIL,
    LINE_END,
    LINE_FRAME,
)


class Stretch(Sequence[bytes]):
    """Requests as lines of a body, or of a requests JSONL file.

    A line is made only where one is looked at: most are joined right from their pieces.

    Parameters
    ----------
    ids : sequence of bytes
        The custom_id of each.
    head : bytes
        What every request's params begin with.
    tails : sequence of bytes
        The params of each after the head.

    Attributes
    ----------
    sizes : list of int
        Bytes of each line.
    """

    def __init__(self, ids: Sequence[bytes], head: bytes, tails: Sequence[bytes]) -> None:
        self._ids, self._head, self._tails = ids, head, tails
        frame = LINE_FRAME + len(head)
        self.sizes = [frame + len(tail) for tail in tails]

    @classmethod
    def of(
        cls, nonce: str, attempt: int, first: int, head: bytes, requests: Mapping[bytes, bytes]
    ) -> Stretch:
        """Return consecutive requests of one attempt at a run.

        Parameters
        ----------
        nonce : str
        attempt : int
        first : int
            Ordinal of the first one.
        head : bytes
        requests : mapping of bytes to bytes
            Content hash -> the params after the head.
        """
        digits = np.frombuffer(b"".join(requests).hex().encode(), np.uint8)
        hashes = digits.reshape(-1, 2 * DIGEST_SIZE)[:, :HASH_SIZE]
        ordinals = np.arange(first, first + len(requests))
        ids = Ids(nonce, attempt, ordinals, hashes).encoded()
        return cls(ids, head, [*requests.values()])

    def join(self, between: bytes) -> bytes:
        """Return the lines with something between them."""
        count = len(self)
        if not count:
            return b""
        pieces = [LINE_END + between + ID_HEAD] * (4 * count)
        pieces[0] = ID_HEAD
        pieces[1::4] = self._ids
        pieces[2::4] = [ID_TAIL + self._head] * count
        pieces[3::4] = self._tails
        pieces.append(LINE_END)
        return b"".join(pieces)

    def __len__(self) -> int:
        return len(self._tails)

    def __iter__(self) -> Iterator[bytes]:
        return map(self._line, self._ids, self._tails)

    def _line(self, name: bytes, tail: bytes) -> bytes:
        return b"".join((ID_HEAD, name, ID_TAIL, self._head, tail, LINE_END))

    @overload
    def __getitem__(self, which: int) -> bytes: ...

    @overload
    def __getitem__(self, which: slice) -> Stretch: ...

    def __getitem__(self, which: int | slice) -> bytes | Stretch:
        if isinstance(which, slice):
            if which.indices(len(self)) == (0, len(self), 1):
                return self
            return Stretch(self._ids[which], self._head, self._tails[which])
        return self._line(self._ids[which], self._tails[which])
