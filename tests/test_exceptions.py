"""One tree of errors: ours, and what a user would expect to catch as well."""

from __future__ import annotations

import inspect
import pickle

import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas import exceptions
from claude_batch_pandas.exceptions import (
    APIError,
    BatchError,
    ChangedFrameError,
    InputError,
    LedgerError,
    MissingColumnError,
    RunNotFoundError,
    WaitTimeoutError,
)

WHY = "why"
ALL = [
    kind
    for _, kind in inspect.getmembers(exceptions, inspect.isclass)
    if kind.__module__ == exceptions.__name__
]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_is_ours(kind: type[BaseException]) -> None:
    """There is one root, and every error is in the tree that the module draws."""
    assert issubclass(kind, BatchError)
    assert kind.__name__ in str(exceptions.__doc__)
    assert kind.__doc__


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (InputError, ValueError),
        (MissingColumnError, ValueError),
        (MissingColumnError, KeyError),
        (WaitTimeoutError, TimeoutError),
        (RunNotFoundError, KeyError),
        (ChangedFrameError, ValueError),
        (LedgerError, OSError),
    ],
)
def test_errors_are_what_a_user_would_catch(
    kind: type[BatchError], builtin: type[BaseException]
) -> None:
    """An error of ours is also the built-in that one would expect."""
    with pytest.raises(builtin, match="why"):
        raise kind(WHY)


@pytest.mark.parametrize("kind", ALL)
def test_message_reads_as_a_sentence(kind: type[BaseException]) -> None:
    """The text of an error is its message: no quotes around it, as KeyError has."""
    assert str(kind("A 'word' is wrong.")) == "A 'word' is wrong."


def test_api_error_keeps_what_support_asks_for() -> None:
    """Status, type, code, request id and wait are attributes."""
    error = APIError(
        "x", status=429, type="rate_limit_error", code="c", request_id="req_1", retry_after=3.0
    )

    assert (error.status, error.type, error.code) == (429, "rate_limit_error", "c")
    assert (error.request_id, error.retry_after) == ("req_1", 3.0)
    assert APIError("x").status is None


def test_api_error_survives_another_process() -> None:
    """Errors travel between processes with their facts."""
    error = pickle.loads(pickle.dumps(APIError("x", status=429, request_id="req_1")))  # noqa: S301

    assert (str(error), error.status, error.request_id) == ("x", 429, "req_1")


def test_public_errors_are_the_same_classes() -> None:
    """The names at the top of the package are those of the tree."""
    assert cbp.APIError is APIError
    assert cbp.InputError is InputError
