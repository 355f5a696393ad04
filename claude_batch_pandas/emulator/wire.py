"""What comes in over HTTP and what goes out: bodies, keys, JSON and refusals."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson
from werkzeug.wrappers import Request, Response

from claude_batch_pandas.emulator.checks import MAX_BYTES
from claude_batch_pandas.emulator.errors import RefusedError, envelope
from claude_batch_pandas.emulator.rules import Rule

REQUEST_PREFIX = "req_sim_"

_BAD_KEY = "bad-key"
_PIECE = 1 << 20


class Visit(NamedTuple):
    """One call on its way to an endpoint."""

    request: Request
    body: bytes | None  # None when it was too large to be kept
    request_id: str
    workspace: str
    rules: tuple[Rule, ...]
    path: Mapping[str, Any]  # what the path names, such as a batch's id


def read_body(request: Request) -> bytes | None:
    """Return the body; None for one that is too large to be kept."""
    length = request.content_length
    if length is None:
        return request.get_data(cache=False)
    source = request.environ["wsgi.input"]
    if length <= MAX_BYTES:
        # At once: Werkzeug's own stream gathers a large body in small pieces.
        body: bytes = source.read(length)
        return body
    while length > 0 and (piece := source.read(min(_PIECE, length))):
        length -= len(piece)
    return None


def key_of(request: Request) -> str:
    """Return the API key, however it was sent; a loopback emulator needs none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return request.headers.get("x-api-key", "")


def check_key(request: Request) -> None:
    """Refuse the one key that is there to be refused."""
    if key_of(request) == _BAD_KEY:
        raise RefusedError(401, "invalid x-api-key")


def digest(*parts: object) -> str:
    """Return 24 characters that follow from the parts."""
    return blake2b("/".join(map(str, parts)).encode(), digest_size=12).hexdigest()


def answer(value: dict[str, Any]) -> Response:
    """Return a JSON object as a response."""
    return Response(orjson.dumps(value), content_type="application/json")


def refusal(error: RefusedError, request_id: str) -> Response:
    """Return an error as a response."""
    body = envelope(error.type, error.message, request_id, error.code)
    response = Response(body, status=error.status, content_type="application/json")
    response.headers.extend(error.headers)
    return response
