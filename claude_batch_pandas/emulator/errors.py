"""How the API says no: an HTTP status, an error type and a sentence."""

from __future__ import annotations

from http import HTTPStatus

import orjson

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class RefusedError(Exception):
    """The API refuses a call.

    Attributes
    ----------
    status : int
        The HTTP status.
    message : str
        What the API says, in its own style.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def type_of(status: int) -> str:
    """Return the error type the API sends with a status."""
    return TYPES.get(
        status, TYPES[500] if status >= HTTPStatus.INTERNAL_SERVER_ERROR else TYPES[400]
    )


def envelope(error_type: str, message: str, request_id: str) -> bytes:
    """Return the JSON body of an error."""
    error = {"type": error_type, "message": message}
    return orjson.dumps({"type": "error", "error": error, "request_id": request_id})
