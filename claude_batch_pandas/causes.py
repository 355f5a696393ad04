"""Why a request has no full answer, and who may ask it again: we, a person, or nobody. Pure."""

from __future__ import annotations

import re
from enum import StrEnum

from claude_batch_pandas.records import RowStatus
from claude_batch_pandas.results import DOUBTFUL, PAUSED_TURN, Result


class Cause(StrEnum):
    """What stands between a request and its full answer."""

    NONE = "none"  # it has one
    WAITING = "waiting"  # its result is still to come
    PASSING = "passing"  # expired, overloaded, busy: it goes out again by itself
    UNPAID = "unpaid"  # credit or a spend limit: again when a person has mended it
    FINAL = "final"  # the same request fails the same way
    FAILED = "failed"  # anything else the API says: again when a person asks
    CANCELED = "canceled"
    TRUNCATED = "truncated"  # cut by max_tokens; it was paid
    UNREADABLE = "unreadable"  # it may have been paid
    INVALID = "invalid"  # the answer does not fit the schema; it was paid
    UNFINISHED = "unfinished"  # the model paused its turn; what came so far was paid


OF_STATUS = {
    RowStatus.PROCESSING: Cause.WAITING,
    RowStatus.EXPIRED: Cause.PASSING,
    RowStatus.CANCELED: Cause.CANCELED,
    RowStatus.TRUNCATED: Cause.TRUNCATED,
    RowStatus.INVALID: Cause.INVALID,
}
PASSING = frozenset({"overloaded_error", "api_error", "timeout_error", "rate_limit_error"})
NOT_BY_ITSELF = frozenset({Cause.NONE, Cause.WAITING, Cause.FINAL})
ANSWERED = frozenset({RowStatus.SUCCEEDED, RowStatus.REFUSED, RowStatus.TRUNCATED})

# A limit that a person set comes as an invalid_request_error, so the words have to tell
# (the API's page on rate limits; the message of an empty account).
_MONEY = re.compile(
    r"your credit balance|your (specified )?(API )?usage limits?|spend(ing)? limit", re.IGNORECASE
)


def has_answer(result: Result) -> bool:
    """Tell whether a request was answered, so that reusing it asks nothing."""
    return result.status in ANSWERED


def cause_of(result: Result) -> Cause:
    """Return why a result is no full answer."""
    match result.status:
        case RowStatus.TRUNCATED if result.stop_reason == PAUSED_TURN:
            return Cause.UNFINISHED
        case RowStatus.TRUNCATED if result.stop_reason != "max_tokens":
            return Cause.NONE
        case RowStatus.ERRORED:
            return _cause_of_error(result.error_type or "", result.error or "")
        case status:
            return OF_STATUS.get(status, Cause.NONE)


def _cause_of_error(kind: str, words: str) -> Cause:
    if kind == DOUBTFUL:
        return Cause.UNREADABLE
    if kind == "billing_error" or _MONEY.search(words):
        return Cause.UNPAID
    if kind in PASSING:
        return Cause.PASSING
    return Cause.FINAL if kind == "invalid_request_error" else Cause.FAILED
