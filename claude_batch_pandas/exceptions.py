"""What can go wrong, as one tree.

A row that failed is data (a status), not an exception; these are for calls that cannot go on::

    BatchError
    ├── InputError (ValueError)          what was passed cannot be used; nothing was sent or written
    │   ├── TemplateError                the template cannot be rendered over these columns
    │   ├── MissingColumnError (KeyError)
    │   ├── OutputExistsError
    │   ├── MissingValueError            on_missing="error" met a missing value
    │   └── CostLimitError               it can cost more than a cap allows
    ├── CredentialsError                 no way to sign a request was found
    ├── APIError                         the API, or the way to it, answered with an error
    ├── PausedError                      the run needs a person; it goes on when called again
    ├── WaitTimeoutError (TimeoutError)  the run goes on; only the waiting ended
    ├── RunNotFoundError (KeyError)
    ├── ChangedFrameError (ValueError)   the frame is not the one that was sent
    └── LedgerError (OSError)            what we remember on disk cannot be read or written

No exception of ours holds a request, a response, a key or a prompt: the SDK's do, and pickle them.
"""

from __future__ import annotations

# Codes of our own, of errors that prove that nothing was sent.
UNSENT = "unsent"  # no connection was made; it passes by itself
UNWRITABLE = "unwritable"  # HTTP cannot carry the request; a person is needed

NOT_FOUND = 404

# And of an answer that no server of the API gives; a person is needed.
ENDLESS = "endless"  # too large to be what was asked for, or compressed so that it could be

# And of a client that cannot send anything; a person is needed.
UNUSABLE = "unusable"

OWN_CODES = frozenset({UNSENT, UNWRITABLE, ENDLESS, UNUSABLE})


class BatchError(Exception):
    """Something went wrong in claude_batch_pandas."""


class InputError(BatchError, ValueError):
    """What was passed cannot be used; nothing was sent or written."""


class TemplateError(InputError):
    """The template cannot be rendered over these columns."""


class MissingColumnError(InputError, KeyError):
    """The template uses columns that the DataFrame lacks."""

    # KeyError shows the repr of its argument, quotes and all; a sentence reads better.
    __str__ = Exception.__str__


class OutputExistsError(InputError):
    """The DataFrame already has a column of the output's name."""


class MissingValueError(InputError):
    """A row has a missing value and on_missing="error" was asked for."""


class CostLimitError(InputError):
    """What was to be sent can cost more than a cap allows; nothing was sent."""


class CredentialsError(BatchError):
    """No API key, token or profile was found."""


class APIError(BatchError):
    """The API, or the network on the way to it, answered with an error.

    Attributes
    ----------
    status : int or None
        The HTTP status; None when no answer came.
    type : str or None
        The API's error type, such as ``"rate_limit_error"``.
    code : str or None
        The API's finer error code, such as ``"enforced_spend_limit_reached"``, or ``"unsent"``
        or ``"unwritable"`` when nothing was sent, ``"endless"`` when an answer was not the API's.
    request_id : str or None
        What Anthropic's support asks for.
    retry_after : float or None
        Seconds the API asked to wait.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        type: str | None = None,  # noqa: A002 - the API's own word
        code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.code = code
        self.request_id = request_id
        self.retry_after = retry_after

    @property
    def is_missing(self) -> bool:
        """Whether the server does not know what it was asked about: gone, hidden, or a hiccup."""
        return self.status == NOT_FOUND

    def because(self, message: str) -> APIError:
        """Return the same error under another message."""
        return APIError(
            message,
            status=self.status,
            type=self.type,
            code=self.code,
            request_id=self.request_id,
            retry_after=self.retry_after,
        )


class PausedError(BatchError):
    """The run needs a person (a key, credit); nothing is lost, the same call goes on later."""


class WaitTimeoutError(BatchError, TimeoutError):
    """The time given to wait is over; the run goes on."""


class RunNotFoundError(BatchError, KeyError):
    """The ledger holds no run of that id."""

    __str__ = Exception.__str__


class ChangedFrameError(BatchError, ValueError):
    """The DataFrame is not the one whose requests were sent."""


class LedgerError(BatchError, OSError):
    """The ledger on disk cannot be read or written."""
