"""Requests -> shards: how many go into one batch, and when the bytes say stop.

A batch holds at most 100,000 requests and 256 MB, whichever comes first; whether that means
10**6 or 2**20 bytes is not documented, so shards are planned to 250,000,000 bytes and never pass
256,000,000, the envelope included. Pure.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterator
from typing import Any

from claude_batch_pandas.exceptions import InputError

MAX_BATCH_REQUESTS = 100_000
PLANNED_BYTES = 250_000_000
MAX_BATCH_BYTES = 256_000_000

# Requests stand one a line, so that a body can be read again without parsing 256 MB at once.
BODY_HEAD = b'{"requests":[\n'
BODY_JOIN = b",\n"
BODY_TAIL = b"\n]}"
ENVELOPE = len(BODY_HEAD) + len(BODY_TAIL)

DEFAULT_SHARDS = 10
SMALLEST_DEFAULT, LARGEST_DEFAULT = 500, 10_000


def check_shard_size(shard_size: Any) -> int | None:
    """Return the shard size, or refuse one that no batch can have.

    Raises
    ------
    InputError
    """
    if shard_size is None:
        return None
    is_count = isinstance(shard_size, numbers.Integral) and not isinstance(shard_size, bool)
    if not is_count or not 1 <= shard_size <= MAX_BATCH_REQUESTS:
        msg = (
            f"shard_size must be a whole number from 1 to {MAX_BATCH_REQUESTS:,} requests, "
            f"not {shard_size!r}."
        )
        raise InputError(msg)
    return int(shard_size)


def totals(
    rows: int, shard_size: int | None = None, most: int = MAX_BATCH_REQUESTS
) -> Iterator[int]:
    """Yield how many requests each next shard of a run may have, without end.

    A batch whose creation was not confirmed is recognised in the server's list by its total, so
    totals differ where they can: each shard is one request smaller than the one before. With a
    size that was asked for, only where that takes no shard more.

    Parameters
    ----------
    rows : int
        An upper bound of the requests to come.
    shard_size : int, optional
        The most requests a shard may have; default: rows / 10, between 500 and 10,000.
    most : int
        Requests that may be open at once; no shard has more.
    """
    if shard_size is None:
        tenth = -(-rows // DEFAULT_SHARDS) + DEFAULT_SHARDS
        shard_size = min(max(tenth, SMALLEST_DEFAULT), LARGEST_DEFAULT, most)
        step = 1
    else:
        shard_size = min(shard_size, most)
        shards = -(-rows // shard_size)
        spare = shards * shard_size - rows
        step = 1 if spare >= shards * (shards - 1) // 2 else 0
    spread = shard_size // 2 + 1  # and then from the start again
    shard = 0
    while True:
        yield shard_size - step * (shard % spread)
        shard += 1


def batches(
    rows: int,
    requests: int,
    size: int,
    shard_size: int | None = None,
    most: int = MAX_BATCH_REQUESTS,
) -> int:
    """Return about how many batches hold some requests.

    Parameters
    ----------
    rows : int
        Of the frame, of which the requests are some.
    requests : int
    size : int
        Bytes of all of them.
    shard_size : int, optional
    most : int
        As for `totals`.
    """
    left, count = requests, 0
    for total in totals(rows, shard_size, most):
        if left <= 0:
            break
        left -= total
        count += 1
    return max(count, -(-size // PLANNED_BYTES))


def fits(size: int, line: int, *, is_first: bool) -> bool:
    """Tell whether a request line may still join a body of that many bytes.

    Parameters
    ----------
    size : int
        Bytes of the body so far, without its tail.
    line : int
        Bytes of the request's line.
    is_first : bool
        Whether the body holds no request yet; a large request may go alone.
    """
    if is_first:
        return line + ENVELOPE <= MAX_BATCH_BYTES
    return size + len(BODY_JOIN) + line + len(BODY_TAIL) <= PLANNED_BYTES
