"""The custom_ids of many requests, as a table of bytes: all have the same size.

So those of all requests of a shard are compared with those of its results without making one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from claude_batch_pandas.requests import HASH_SIZE, ID_SIZE, ORDINAL, custom_ids, id_prefix

POWERS = 10 ** np.arange(ORDINAL.stop - ORDINAL.start - 1, -1, -1)  # of the digits of an ordinal
ZERO, DASH = ord("0"), ord("-")


class Ids(Mapping[str, int]):
    """The request of each custom_id, of a shard say; all are of one attempt.

    Parameters
    ----------
    nonce : str
        The run's.
    attempt : int
    ordinals : sequence or array of int
    hashes : array of uint8, shape (requests, 16)
        The hex digits of each content hash that stand in its custom_id.
    """

    def __init__(
        self,
        nonce: str,
        attempt: int,
        ordinals: Sequence[int] | npt.NDArray[np.int64],
        hashes: npt.NDArray[np.uint8],
    ) -> None:
        self._nonce, self._attempt = nonce, attempt
        self._ordinals, self._hashes = np.array(ordinals, np.int64), hashes

    def __len__(self) -> int:
        return len(self._ordinals)

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __getitem__(self, name: str) -> int:
        return self._made[name]

    def find(self, names: Sequence[str]) -> npt.NDArray[np.int64] | None:
        """Return the request of each name; None unless they are all custom_ids, each once."""
        if len(names) != len(self) or {*map(len, names)} - {ID_SIZE}:
            return None
        try:
            data = "".join(names).encode("ascii")
        except UnicodeEncodeError:
            return None
        found = np.frombuffer(data, np.uint8).reshape(-1, ID_SIZE)
        ordinals = (found[:, ORDINAL].astype(np.int64) - ZERO) @ POWERS
        theirs, ours = np.argsort(ordinals), np.argsort(self._ordinals)
        return ordinals if np.array_equal(found[theirs], self._table()[ours]) else None

    def encoded(self) -> list[bytes]:
        """Return the custom_ids one by one, as they stand in a body."""
        data = self._table().tobytes()
        return [data[i : i + ID_SIZE] for i in range(0, len(data), ID_SIZE)]

    def _table(self) -> npt.NDArray[np.uint8]:
        """Return the custom_ids as bytes, one a row."""
        table = np.empty((len(self), ID_SIZE), np.uint8)
        table[:, : ORDINAL.start] = np.frombuffer(id_prefix(self._nonce, self._attempt), np.uint8)
        table[:, ORDINAL] = self._ordinals[:, None] // POWERS % 10 + ZERO
        table[:, ORDINAL.stop] = DASH
        table[:, -HASH_SIZE:] = self._hashes
        return table

    @cached_property
    def _made(self) -> dict[str, int]:
        hashes = self._hashes.tobytes().decode()
        parts = [hashes[i : i + HASH_SIZE] for i in range(0, len(hashes), HASH_SIZE)]
        ordinals = self._ordinals.tolist()
        return dict(
            zip(custom_ids(self._nonce, self._attempt, ordinals, parts), ordinals, strict=True)
        )
