"""Lines of results that end: one that is longer than any answer is cut, so that it costs its row.

Pure: blocks of bytes in, blocks of bytes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

NEWLINE = ord("\n")
MAX_LINE = 64_000_000  # bytes; an answer of 300,000 tokens is two million


def cut_lines(blocks: Iterable[bytes], limit: int = MAX_LINE) -> Iterator[bytes]:
    r"""Yield blocks in which no line has more than `limit` bytes; JSON that is cut is none.

    Parameters
    ----------
    blocks : iterable of bytes
        Lines end with ``\n`` only, anywhere in a block.
    limit : int
    """
    size = 0  # of the line at hand, as far as it has come
    for block in blocks:
        if size + len(block) <= limit:
            end = block.rfind(b"\n") + 1
            size = len(block) - end + (0 if end else size)
            yield block
            continue
        kept: list[bytes] = []
        for i, piece in enumerate(block.split(b"\n")):
            size = 0 if i else size
            kept.append(piece[: max(0, limit - size)])
            size += len(piece)
        yield b"\n".join(kept)


def count_lines(block: bytes) -> int:
    r"""Return how many lines there are; the last may lack its ``\n``."""
    ends = np.count_nonzero(np.frombuffer(block, np.uint8) == NEWLINE)  # a third of bytes.count
    return int(ends) + (not block.endswith(b"\n"))


def lines_of(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the lines of a download as they come; the caller stops when it has enough."""
    pieces: list[bytes] = []
    for block in cut_lines(blocks):
        head, *rest = block.split(b"\n")
        pieces.append(head)
        if rest:
            yield b"".join(pieces)
            yield from rest[:-1]
            pieces = [rest[-1]]
    if last := b"".join(pieces):
        yield last
