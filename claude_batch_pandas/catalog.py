"""Which requests this ledger knows: content hash -> (run, ordinal), in files beside each run.

A run's own requests are kept as a sorted array of hashes, so that asking whether any of a million
old requests is asked again costs a binary search. Never a database row per request.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.format import (
    dtype_to_descr,
    read_array_header_1_0,
    read_magic,
    write_array_header_1_0,
)

from claude_batch_pandas.requests import DIGEST_SIZE, HASH_SIZE
from claude_batch_pandas.spool import Spool, read_sealed, write_sealed

DIGEST = np.dtype(f"S{DIGEST_SIZE}")
ROWS, DIGESTS, REFERENCES = "rows.npy", "digests.npy", "references.npy"
KNOWN, KNOWN_ORDINALS = "known.npy", "known-ordinals.npy"
REASONS = "reasons.json"  # that some rows have, for which they are never sent
RECIPE = "recipe.json"  # beside them: what was asked of every row
FILES = (ROWS, DIGESTS, REFERENCES, KNOWN, KNOWN_ORDINALS)  # of every run
AT_ONCE = 1 << 16  # rows of an array that are written at a time
OWN = 0  # the source of a request that this run sends itself


class Place(NamedTuple):
    """Where a request was sent: the run and its ordinal there."""

    run_id: str
    ordinal: int


class Map(NamedTuple):
    """What the rows of a run ask, as arrays.

    Attributes
    ----------
    rows : array of int32, shape (rows,)
        The unique request of each row; negative: ``-(reason + 1)``, never sent.
    digests : array of S16, shape (requests,)
        Content hash of each unique request.
    references : array of uint32, shape (requests, 2)
        Source (0 is the run itself, i is ``sources[i - 1]``) and ordinal there.
    """

    rows: npt.NDArray[np.int32]
    digests: npt.NDArray[np.bytes_]
    references: npt.NDArray[np.uint32]

    @property
    def own(self) -> npt.NDArray[np.bytes_]:
        """Content hashes of the run's own requests, by ordinal."""
        is_own = self.references[:, 0] == OWN
        return self.digests if is_own.all() else self.digests[is_own]

    def hashes(self, ordinals: Sequence[int]) -> npt.NDArray[np.uint8]:
        """Return the hash part of the custom_ids of some of the run's own requests.

        Returns
        -------
        array of uint8, shape (requests, 16)
            Hex digits.
        """
        whole = self.own[ordinals].tobytes().hex().encode()
        return np.frombuffer(whole, np.uint8).reshape(-1, 2 * DIGEST_SIZE)[:, :HASH_SIZE]

    @property
    def all_digests(self) -> list[bytes]:
        """Content hashes of all unique requests."""
        return _as_bytes(self.digests)


class Catalog:
    """The requests of some runs, the first of which wins.

    Parameters
    ----------
    spool : Spool
    run_ids : sequence of str
        Newest first.
    """

    def __init__(self, spool: Spool, run_ids: Sequence[str]) -> None:
        self._known = list(_open_all(spool, run_ids))

    def find(self, digests: Sequence[bytes]) -> list[Place | None]:
        """Return where each request was sent before, None where it was not."""
        places: list[Place | None] = [None] * len(digests)
        keys = np.frombuffer(b"".join(digests), dtype=DIGEST)
        open_ = np.arange(len(keys))
        for run_id, known, ordinals in self._known:
            if not len(open_):
                break
            wanted = keys[open_]
            at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
            hits = known[at] == wanted
            for i, ordinal in zip(open_[hits].tolist(), ordinals[at[hits]].tolist(), strict=True):
                places[i] = Place(run_id, ordinal)
            open_ = open_[~hits]
        return places


def save(folder: Path, rows: Any, digests: bytes | bytearray, references: Any = None) -> None:
    """Write the map of a run, and the sorted hashes of its own requests, durably.

    Parameters
    ----------
    folder : Path
        Of the run or its draft.
    rows : sequence of int
    digests : bytes
        One digest per unique request, end to end.
    references : sequence of (source, ordinal), optional
        Default: the run sends all of them itself, in their order.
    """
    keys = np.frombuffer(digests, dtype=DIGEST)
    _save(folder / ROWS, np.asarray(rows, dtype=np.int32))
    _save(folder / DIGESTS, keys)
    ordinals = np.arange(len(keys), dtype=np.uint32)
    if references is None:
        _save(
            folder / REFERENCES, ordinals, lambda part: np.stack([np.full_like(part, OWN), part], 1)
        )
    else:
        pairs = np.asarray(references, dtype=np.uint32).reshape(-1, 2)
        _save(folder / REFERENCES, pairs)
        own = pairs[:, 0] == OWN
        keys, ordinals = keys[own], pairs[own, 1]
    order = np.argsort(keys)
    _save(folder / KNOWN, order, keys.__getitem__)
    _save(folder / KNOWN_ORDINALS, order, ordinals.__getitem__)


def load(folder: Path) -> Map:
    """Read the map of a run.

    Raises
    ------
    LedgerError
        When its files are missing or damaged.
    """
    return Map(*(_load(folder / name) for name in (ROWS, DIGESTS, REFERENCES)))


def save_ordinals(folder: Path, shard: int, ordinals: Iterable[int]) -> None:
    """Write which of a run's own requests a shard holds, durably."""
    _save(ordinals_path(folder, shard), np.fromiter(ordinals, dtype=np.uint32))


def save_reasons(folder: Path, reasons: Sequence[tuple[str, str]]) -> None:
    """Write why rows are never sent: (status, why), where there are any, durably."""
    if reasons:
        write_sealed(folder / REASONS, json.dumps(reasons).encode())


def load_reasons(folder: Path) -> list[tuple[str, str]]:
    """Return why rows of a run are never sent.

    Raises
    ------
    LedgerError
    """
    path = folder / REASONS
    found = json.loads(read_sealed(path)) if path.exists() else []
    return [(status, why) for status, why in found]


def load_ordinals(folder: Path, shard: int) -> list[int]:
    """Return which of a run's own requests a shard holds.

    Raises
    ------
    LedgerError
    """
    ordinals: list[int] = _load(ordinals_path(folder, shard)).tolist()
    return ordinals


def save_ids(folder: Path, shard: int, ids: Sequence[str | None]) -> None:
    """Write the custom_ids of an attached shard by ordinal, durably; None for unreadable ones."""
    write_sealed(folder / _ids_name(shard), json.dumps(ids).encode())


def load_ids(folder: Path, shard: int) -> list[str | None]:
    """Return the custom_ids of an attached shard; none before its results were here.

    Raises
    ------
    LedgerError
    """
    path = folder / _ids_name(shard)
    ids: list[str | None] = json.loads(read_sealed(path)) if path.exists() else []
    return ids


def _ids_name(shard: int) -> str:
    return f"shard-{shard:04d}.ids.json"


def ordinals_path(folder: Path, shard: int) -> Path:
    """Return where the ordinals of a shard are kept."""
    return folder / f"shard-{shard:04d}.ordinals.npy"


def row_digests(rows: Any, digests: bytes | bytearray, reasons: Sequence[bytes]) -> Iterator[bytes]:
    """Yield what every row asks, in order, in blocks: its content hash, or why it asks nothing.

    Parameters
    ----------
    rows : sequence of int
        As in `Map`.
    digests : bytes
        One per unique request, 16 bytes each, end to end.
    reasons : sequence of bytes
        16 bytes each.
    """
    size = 1 << 16
    nothing = bytes(DIGEST_SIZE)  # so that there is something to look at in either
    asked = np.frombuffer(digests or nothing, dtype=DIGEST)
    never = np.frombuffer(b"".join(reasons) or nothing, dtype=DIGEST)
    for start in range(0, len(rows), size):
        part = np.asarray(rows[start : start + size], dtype=np.int64)
        told = asked[np.maximum(part, 0)]
        told[part < 0] = never[-part[part < 0] - 1]
        yield told.tobytes()


def _as_bytes(digests: npt.NDArray[np.bytes_]) -> list[bytes]:
    # NumPy drops trailing zero bytes when it makes bytes objects; a hash may end in them.
    return [digest.ljust(DIGEST_SIZE, b"\0") for digest in digests.tolist()]


def _open_all(spool: Spool, run_ids: Sequence[str]) -> Iterator[tuple[str, Any, Any]]:
    for run_id in run_ids:
        folder = spool.folder(run_id)
        if not folder.exists():
            warnings.warn(
                f"The answers of run {run_id} cannot be reused: its folder {folder} is gone.",
                UserWarning,
                stacklevel=2,
            )
            continue
        # Read whole, not mapped: a mapping keeps a file open, and ledgers hold many runs.
        known, ordinals = _load(folder / KNOWN), _load(folder / KNOWN_ORDINALS)
        if len(known):
            yield run_id, known, ordinals


def _save(path: Path, array: Any, made: Callable[[Any], Any] = lambda part: part) -> None:
    """Write what is made of an array, a part at a time: a run of millions has no room for copies."""
    first = made(array[:0])
    shape = (len(array), *first.shape[1:])
    file = io.BytesIO()
    told = {"descr": dtype_to_descr(first.dtype), "fortran_order": False, "shape": shape}
    write_array_header_1_0(file, told)
    starts = range(0, len(array), AT_ONCE)
    parts = (made(array[start : start + AT_ONCE]).tobytes() for start in starts)
    write_sealed(path, chain([file.getvalue()], parts))


def _load(path: Path) -> Any:
    file = io.BytesIO(read_sealed(path))
    read_magic(file)
    shape, _, dtype = read_array_header_1_0(file)
    return np.frombuffer(file.getbuffer(), dtype, offset=file.tell()).reshape(shape)
