"""How the API says no: an HTTP status, an error type and a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson

EXTRA = "Extra inputs are not permitted"
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
    type : str
        The error type.
    headers : mapping of str to str
        What the answer carries beside the usual.
    code : str or None
        The `error_code` by which the SDK tells errors of one type apart.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str | None = None,  # noqa: A002 - the API's own word
        headers: Mapping[str, str] | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type or type_of(status)
        self.headers = dict(headers or {})
        self.code = code


def type_of(status: int) -> str:
    """Return the error type the API sends with a status."""
    return TYPES.get(
        status, TYPES[500] if status >= HTTPStatus.INTERNAL_SERVER_ERROR else TYPES[400]
    )


def status_of(error_type: str) -> int:
    """Return the status the API sends an error type with; 500 for one nobody knows."""
    return next((status for status, name in TYPES.items() if name == error_type), 500)


def envelope(error_type: str, message: str, request_id: str, code: str | None = None) -> bytes:
    """Return the JSON body of an error."""
    error: dict[str, Any] = {"type": error_type, "message": message}
    if code is not None:
        error["details"] = {"error_code": code}
    return orjson.dumps({"type": "error", "error": error, "request_id": request_id})
