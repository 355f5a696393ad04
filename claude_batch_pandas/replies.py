"""What a server says, read as plain values, and not believed before it was checked. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from claude_batch_pandas.exceptions import OWN_CODES, APIError, InputError
from claude_batch_pandas.records import Batch, Counts
from claude_batch_pandas.words import plain

BATCH_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,255}")
STATUSES = frozenset({"in_progress", "canceling", "ended"})
MAX_WORDS = 500  # characters of an error that are shown
MAX_COUNT = 1_000_000  # requests; a batch has 100,000 at most, and what is more is no count
MAX_RETRY_AFTER = 900.0  # seconds; the SDK would sleep for 49 days when told to

Headers = Mapping[str, str]


def check_batch_id(batch_id: Any) -> str:
    """Return a batch id, or refuse what could lead elsewhere.

    Raises
    ------
    InputError
    """
    if not isinstance(batch_id, str) or not BATCH_ID.fullmatch(batch_id):
        msg = f"{str(batch_id)[:80]!r} is not a batch id; they look like 'msgbatch_01...'; the Console lists them."
        raise InputError(msg)
    return batch_id


def read_json(status: int, content: bytes) -> dict[str, Any]:
    """Return the JSON object of a body.

    Raises
    ------
    APIError
        When it is anything else: a portal's page, a cut answer.
    """
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        msg = (
            f"The server answered {status} with something that is not the API's JSON. Check the "
            "network (a portal?) and ANTHROPIC_BASE_URL."
        )
        raise APIError(msg, status=status)
    return value


def read_batch(value: Any) -> Batch:
    """Return a message batch.

    Raises
    ------
    APIError
        When it is none that we could use.
    """
    try:
        counts = value["request_counts"]
        batch = Batch(
            id=value["id"],
            processing_status=value["processing_status"],
            counts=Counts(**{name: int(counts.get(name) or 0) for name in Counts.__slots__}),
            created_at=_time(value["created_at"]),
            expires_at=_time(value["expires_at"]),
            ended_at=_time(value["ended_at"]) if value.get("ended_at") else None,
            archived=bool(value.get("archived_at")),
        )
        is_batch = value["type"] == "message_batch" and batch.processing_status in STATUSES
        are_counts = all(0 <= getattr(batch.counts, n) <= MAX_COUNT for n in Counts.__slots__)
        if is_batch and are_counts and BATCH_ID.fullmatch(batch.id):
            return batch
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        pass
    msg = (
        "The server answered with something that is not a message batch. Check the network (a "
        "portal?) and ANTHROPIC_BASE_URL."
    )
    raise APIError(msg)


def read_error(status: int, headers: Headers, content: bytes) -> APIError:
    """Return the error that an answer is, in the API's own words where they are the API's.

    Parameters
    ----------
    status : int
    headers : mapping of str to str
    content : bytes
        The body, or its beginning.
    """
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        value = None
    is_genuine = isinstance(value, dict) and value.get("type") == "error"
    told = value["error"] if is_genuine and isinstance(value.get("error"), dict) else {}
    details = told.get("details")
    words = _text(told.get("message")) or "no explanation came with it"
    kind = _text(told.get("type"))
    label = f"{status} {kind}" if kind else f"{status}"
    return APIError(
        f"The API answered {label}: {_sentence(words[:MAX_WORDS])}",
        status=status,
        type=kind,
        code=_code(details),
        request_id=_text(headers.get("request-id")),
        retry_after=read_retry_after(headers),
    )


def _code(details: Any) -> str | None:
    """Return the API's finer error code; none that would pass for a proof of ours."""
    told = _text(details.get("error_code")) if isinstance(details, dict) else None
    return None if told in OWN_CODES else told


def _text(value: Any) -> str | None:
    """Return what a server says as plain words, None when it says nothing."""
    return (plain(value) or None) if isinstance(value, str) else None


def _sentence(words: str) -> str:
    return words if words.rstrip().endswith((".", "!", "?")) else f"{words.rstrip()}."


def read_retry_after(headers: Headers) -> float | None:
    """Read `Retry-After` in seconds or as a date, the latter against the server's own clock."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        until, now = _date(value), read_date(headers)
        if until is None or now is None:
            return None
        seconds = until - now
    if math.isnan(seconds) or seconds <= 0:
        return None
    return min(seconds, MAX_RETRY_AFTER)


def read_date(headers: Headers) -> float | None:
    """Return the server's clock in seconds since 1970, None when it does not tell."""
    return _date(headers.get("date", ""))


def _date(value: str) -> float | None:
    try:
        found = parsedate_to_datetime(value)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _time(value: str) -> float:
    return datetime.fromisoformat(value).timestamp()
