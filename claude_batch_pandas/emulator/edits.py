"""Ways to spoil the body of an answer, bytes in and bytes out, for `Fault(edit=...)`.

What is done to one line of a results file is done to the first, in whatever order they come.
"""

from __future__ import annotations

import gzip
import zlib

import orjson

ELSEWHERE = "https://elsewhere.example"

_MEGABYTE = 1_000_000


def missing_line(body: bytes) -> bytes:
    """Leave a line out."""
    return _split(body)[1]


def malformed_line(body: bytes) -> bytes:
    """Leave the second half of a line out, but for its newline."""
    first, rest = _split(body)
    return first[: len(first) // 2] + b"\n" + rest


def repeated_line(body: bytes) -> bytes:
    """Let a line stand twice."""
    return body + _split(body)[0]


def contradicting_line(body: bytes) -> bytes:
    """Add another result for the request of a line."""
    return body + _changed(_split(body)[0], result={"type": "expired"})


def foreign_line(body: bytes) -> bytes:
    """Add a line of somebody else's batch."""
    return body + _changed(_split(body)[0], custom_id="theirs-0")


def exchanged_line(body: bytes) -> bytes:
    """Put a line of somebody else's batch in the place of one."""
    return missing_line(foreign_line(body))


def reversed_lines(body: bytes) -> bytes:
    """Turn the order of the lines round."""
    return b"".join(body.splitlines(keepends=True)[::-1])


def long_line(body: bytes, size: int = 65 * _MEGABYTE) -> bytes:
    """Make a line that many bytes longer, by a field that nobody knows."""
    return _padded(body, b'"' + b"x" * size + b'"')


def deep_line(body: bytes, depth: int = 100_000) -> bytes:
    """Nest JSON that deep in a line, in a field that nobody knows."""
    return _padded(body, b"[" * depth + b"]" * depth)


def invalid_utf8(body: bytes) -> bytes:
    """Put a byte that is not UTF-8 into the name of a line."""
    return body.replace(b'{"custom_id":"', b'{"custom_id":"\xff', 1)


def nul_tail(body: bytes) -> bytes:
    """Add zeros, as a disk does that lost its power."""
    return body + b"\0" * 512


def crlf(body: bytes) -> bytes:
    """End lines as Windows does."""
    return body.replace(b"\n", b"\r\n")


def bom(body: bytes) -> bytes:
    """Begin with a byte order mark."""
    return b"\xef\xbb\xbf" + body


def gzipped(body: bytes) -> bytes:
    """Compress; the header content-encoding has to say so."""
    return gzip.compress(body, mtime=0)


def gzipped_without_trailer(body: bytes) -> bytes:
    """Compress, without the eight bytes that tell whether all is there."""
    return gzipped(body)[:-8]


def gzip_bomb(body: bytes, size: int = 300 * _MEGABYTE) -> bytes:
    """Compress the body and a line of that many blanks, of which a thousandth is left."""
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS + 16)
    blanks = b" " * _MEGABYTE
    pieces = [packer.compress(body)]
    pieces += [packer.compress(blanks) for _ in range(size // _MEGABYTE)]
    return b"".join([*pieces, packer.flush()])


def results_elsewhere(body: bytes) -> bytes:
    """Let the `results_url` of a batch name another host."""
    batch = orjson.loads(body)
    if batch.get("results_url"):
        batch["results_url"] = f"{ELSEWHERE}/v1/messages/batches/{batch['id']}/results"
    return orjson.dumps(batch)


def without_newest(body: bytes) -> bytes:
    """Leave the newest batch out of a list."""
    page = orjson.loads(body)
    return orjson.dumps({**page, "data": page["data"][1:]})


class FirstAgain:
    """Answers every time with the first body, as a server does that turns no pages."""

    def __init__(self) -> None:
        self._first: bytes | None = None

    def __call__(self, body: bytes) -> bytes:
        """Return the first body there was."""
        if self._first is None:
            self._first = body
        return self._first


def _split(body: bytes) -> tuple[bytes, bytes]:
    """Return the first line with its newline, and the rest."""
    end = body.find(b"\n") + 1
    return body[:end], body[end:]


def _changed(line: bytes, **values: object) -> bytes:
    """Return a line with other values."""
    return orjson.dumps({**orjson.loads(line), **values}, option=orjson.OPT_APPEND_NEWLINE)


def _padded(body: bytes, value: bytes) -> bytes:
    first, rest = _split(body)
    return first.rstrip()[:-1] + b',"padding":' + value + b"}\n" + rest
