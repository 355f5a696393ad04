"""Ready-made faults by name: what is known to happen between a client and the API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from claude_batch_pandas.emulator import edits
from claude_batch_pandas.emulator.faults import Fault
from claude_batch_pandas.exceptions import InputError

STATUSES = (
    *(400, 401, 402, 403, 404, 408, 409, 413, 422, 425, 429, 499),
    *(500, 501, 502, 503, 504, 520, 522, 524, 529),
)

_BATCHES = "/v1/messages/batches"
_PAGE = b"<!DOCTYPE html><html><head><title>Oops</title></head><body>[simulated]</body></html>"
_HTML = {"content-type": "text/html"}
_GZIP = {"content-encoding": "gzip"}
_FAR = "Fri, 31 Dec 2100 23:59:59 GMT"


class Failure(NamedTuple):
    """A fault that has a name.

    Attributes
    ----------
    words : str
        What happens.
    make : callable
        Returns the fault, anew each time: some remember what they saw.
    """

    words: str
    make: Callable[[], Fault]


def failure(name: str, **changes: Any) -> Fault:
    """Return a ready-made fault.

    Parameters
    ----------
    name : str
        One of `FAILURES`.
    **changes
        Other values for fields of the `Fault`, such as ``times=None``.

    Examples
    --------
    >>> failure("drop-after", times=2).times
    2
    """
    found = FAILURES.get(name)
    if found is None:
        message = (
            f"No fault is named {name!r}. The names are in `FAILURES`; "
            "see them with: claude-batch emulate --fault help"
        )
        raise InputError(message)
    return replace(found.make(), **changes)


def _create(**how: Any) -> Fault:
    return Fault(method="POST", path=_BATCHES, **how)


def _list(**how: Any) -> Fault:
    return Fault(method="GET", path=_BATCHES, **how)


def _look(**how: Any) -> Fault:
    return Fault(method="GET", path=f"{_BATCHES}/[^/]+", **how)


def _results(**how: Any) -> Fault:
    return Fault(method="GET", path=f"{_BATCHES}/[^/]+/results", **how)


def _both(name: str, words: str, **how: Any) -> Iterator[tuple[str, Failure]]:
    """Yield a failure of the creation of a batch, before it was accepted and after."""
    yield name, Failure(words, partial(_create, **how))
    after = f"{words}; the batch exists"
    yield f"{name}-after", Failure(after, partial(_create, after=True, **how))


def _creations() -> Iterator[tuple[str, Failure]]:
    yield from _both("drop", "POST: the connection is closed without an answer", drop=True)
    yield from _both("reset", "POST: the connection is reset without an answer", reset=True)
    yield from _both("stall", "POST: the answer never comes", stall=True)
    yield "upload", Failure("POST: the connection is reset in mid-upload", _upload)
    yield "upload-413", Failure("POST: refused in mid-upload", partial(_upload, status=413))
    for status in STATUSES:
        words = f"POST: {status} in the API's own shape"
        yield from _both(f"status-{status}", words, status=status)
    for status in STATUSES:
        words = f"POST: {status} with a proxy's page"
        yield from _both(f"html-{status}", words, status=status, body=_PAGE, headers=_HTML)
    self_, other = {"location": _BATCHES}, {"location": f"{edits.ELSEWHERE}{_BATCHES}"}
    yield from _both("redirect", "POST: 307 to the same address", status=307, headers=self_)
    yield from _both("redirect-elsewhere", "POST: 307 to another host", status=307, headers=other)
    yield from _both("portal", "POST: 200 with a portal's page", body=_PAGE, headers=_HTML)
    yield from _both("no-id", "POST: 200 with JSON that is no batch", body=b'{"ok":true}')
    yield from _both("broken-json", "POST: 200 with half an object", body=b'{"id": "msgb')
    yield from _both("empty", "POST: 200 without a body", body=b"")


def _upload(**how: Any) -> Fault:
    return _create(upload=1, **how)


def _looks() -> Iterator[tuple[str, Failure]]:
    elsewhere = partial(_look, edit=edits.results_elsewhere, times=None)
    yield "elsewhere", Failure("batch: results_url names another host", elsewhere)
    yield "lost", Failure("batch: 404, ten times", partial(_look, status=404, times=10))
    retries = {"3600": "3600", "inf": "inf", "nan": "nan", "negative": "-60", "date": _FAR}
    for name, value in retries.items():
        headers = {"retry-after": value}
        yield (
            f"retry-after-{name}",
            Failure(
                f"batch: 429 with Retry-After: {value}",
                partial(_look, status=429, headers=headers),
            ),
        )


def _lists() -> Iterator[tuple[str, Failure]]:
    # A run asks the list who it is and where the newest batch stands; then it looks for a batch.
    short = partial(_list, edit=edits.without_newest, skip=2, times=3)
    yield "list-short", Failure("list: without its newest batch, three times", short)
    yield "list-again", Failure("list: the same page again, three times", _again)
    yield "decoy-after", Failure("POST: lost; somebody's as large has ended", partial(_decoy, 0.0))
    late = partial(_decoy, 7200.0)
    yield "decoy-running-after", Failure("POST: lost; somebody's as large runs on", late)
    fence = partial(_create, after=True, drop=True, meanwhile=_delete_fence)
    yield "fence-after", Failure("POST: lost; the batch before it is deleted", fence)


def _again() -> Fault:
    return _list(edit=edits.FirstAgain(), skip=1, times=4)


def _decoy(duration: float) -> Fault:
    def add(emulator: Any) -> None:
        emulator.add_decoy(emulator.batches[-1].total, duration=duration)

    return _create(after=True, drop=True, meanwhile=add)


def _delete_fence(emulator: Any) -> None:
    for batch in emulator.batches[-2:-1]:
        batch.deleted = True


def _downloads() -> Iterator[tuple[str, Failure]]:
    ways: dict[str, tuple[str, dict[str, Any]]] = {
        "cut": ("the connection ends after 500 bytes", {"cut": 500}),
        "cut-chunked": (
            "500 bytes, and the last chunk is missing",
            {"cut": 500, "framing": "chunked"},
        ),
        "cut-silent": (
            "the end of the connection is the end of the body: 500 bytes",
            {"cut": 500, "framing": "close"},
        ),
        "cut-reset": ("the connection is reset after 500 bytes", {"cut": 500, "reset": True}),
        "cut-stall": ("nothing comes after 500 bytes", {"cut": 500, "stall": True}),
        "short": ("500 bytes, and a length that agrees", {"truncate": 500}),
        "empty": ("200 without a body", {"truncate": 0}),
        "404": ("404, three times", {"status": 404, "times": 3}),
        "portal": ("200 with a portal's page", {"body": _PAGE, "headers": _HTML}),
        "error": ("200 with an error object", {"body": b'{"type":"error","error":{}}\n'}),
        "gzip": ("compressed", {"edit": edits.gzipped, "headers": _GZIP}),
        "gzip-cut": (
            "compressed, without its last 8 bytes",
            {"edit": edits.gzipped_without_trailer, "headers": _GZIP},
        ),
        "gzip-bomb": ("300 MB of blanks in 0.3 MB", {"edit": edits.gzip_bomb, "headers": _GZIP}),
    }
    lines = {
        "malformed": ("half a line", edits.malformed_line),
        "repeated": ("a line twice", edits.repeated_line),
        "contradicting": ("two results for a request", edits.contradicting_line),
        "missing": ("a line less", edits.missing_line),
        "foreign": ("a line of somebody else's", edits.foreign_line),
        "exchanged": ("a line of somebody else's in the place of one", edits.exchanged_line),
        "reversed": ("another order", edits.reversed_lines),
        "long": ("a line of 65 MB", edits.long_line),
        "deep": ("JSON of 100,000 levels", edits.deep_line),
        "not-utf8": ("a byte that is not UTF-8", edits.invalid_utf8),
        "nul": ("zeros at the end", edits.nul_tail),
        "crlf": ("lines that end in CRLF", edits.crlf),
        "bom": ("a byte order mark", edits.bom),
    }
    ways |= {name: (words, {"edit": edit}) for name, (words, edit) in lines.items()}
    for name, (words, how) in ways.items():
        yield f"results-{name}", Failure(f"results: {words}", partial(_results, **how))


FAILURES: dict[str, Failure] = dict([*_creations(), *_looks(), *_lists(), *_downloads()])
"""The ready-made faults; `failure` makes one."""
