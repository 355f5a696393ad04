"""Why a request has no full answer: what goes out again by itself, what a person decides."""

from __future__ import annotations

from typing import Any

import pytest

from claude_batch_pandas.causes import Cause, cause_of, has_answer
from claude_batch_pandas.records import RowStatus
from tests.strategies import message, read_one, succeeded


def errored(kind: str, words: str = "no") -> dict[str, Any]:
    """Return the result of a request that the API failed."""
    return {
        "type": "errored",
        "error": {"type": "error", "error": {"type": kind, "message": words}},
    }


@pytest.mark.parametrize(
    ("result", "cause"),
    [
        (succeeded("yes"), Cause.NONE),
        ({"type": "expired"}, Cause.PASSING),
        (errored("overloaded_error"), Cause.PASSING),
        (errored("api_error"), Cause.PASSING),
        (errored("timeout_error"), Cause.PASSING),
        (errored("rate_limit_error"), Cause.PASSING),
        (errored("billing_error"), Cause.UNPAID),
        (errored("invalid_request_error", "Your credit balance is too low to use"), Cause.UNPAID),
        (
            errored("invalid_request_error", "You have reached your specified API usage limits."),
            Cause.UNPAID,
        ),
        (errored("rate_limit_error", "You have reached your spend limit."), Cause.UNPAID),
        (errored("invalid_request_error", "max_tokens: too large"), Cause.FINAL),
        (errored("permission_error"), Cause.FAILED),
        (errored("not_found_error"), Cause.FAILED),
        (errored("brand_new_error"), Cause.FAILED),
        ({"type": "canceled"}, Cause.CANCELED),
        ({"type": "brand_new"}, Cause.UNREADABLE),
        ({"type": "succeeded"}, Cause.UNREADABLE),
        ({"type": "succeeded", "message": message("yes", stop_reason="refusal")}, Cause.NONE),
        (
            {"type": "succeeded", "message": message("ye", stop_reason="max_tokens")},
            Cause.TRUNCATED,
        ),
        (
            {"type": "succeeded", "message": message("ye", stop_reason="pause_turn")},
            Cause.UNFINISHED,
        ),
    ],
    ids=str,
)
def test_every_result_has_its_cause(result: dict[str, Any], cause: Cause) -> None:
    """The API's types decide, and the words where only they tell that it is about money."""
    assert cause_of(read_one(result)) is cause


@pytest.mark.parametrize("status", RowStatus)
def test_an_answer_is_what_was_answered(status: RowStatus) -> None:
    """Also one that was refused or cut: it was paid, and asking again pays again."""
    assert has_answer(read_one(succeeded("yes")).__class__(status)) == (
        status in {"succeeded", "refused", "truncated"}
    )
