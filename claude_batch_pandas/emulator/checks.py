"""The frame of a batch: what surrounds the params, and is refused at once and as a whole."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import orjson

from claude_batch_pandas.emulator.errors import EXTRA, RefusedError

MAX_REQUESTS = 100_000
MAX_BYTES = 256_000_000

_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_MAX_CUSTOM_ID = 64
_KEYS = {"custom_id", "params"}


class Frame(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One request of a batch, its params still as they were sent.

    100,000 decoded params cost more memory and time than all else together, and are looked at one
    by one, twice.
    """

    custom_id: str
    params: msgspec.Raw

    def decoded(self) -> Any:
        """Return the params."""
        return orjson.loads(memoryview(self.params))


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    requests: list[Frame]


_BODY = msgspec.json.Decoder(_Body)


def read_batch(body: bytes | None) -> list[Frame]:
    """Return the requests of a create body, or raise what the API would answer.

    Only the frame is looked at: params are the business of `params_error`, at the end of the batch.
    """
    if body is None or len(body) > MAX_BYTES:
        raise RefusedError(413, f"Request exceeds the maximum size of {MAX_BYTES} bytes")
    try:
        frames = _BODY.decode(body).requests
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # The strict decoder says where, but not in the API's words; and it nests less deep.
        _explain(body)
        raise RefusedError(400, f"The request body is not valid JSON: {error}") from None
    custom_ids = {frame.custom_id for frame in frames}
    fits = len(custom_ids) == len(frames) and 0 < len(frames) <= MAX_REQUESTS
    if not fits or not all(map(_CUSTOM_ID.fullmatch, custom_ids)):
        _explain(body)
    return frames


def _explain(body: bytes) -> None:
    """Raise for the first thing that is wrong with a body, in the API's words."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedError(400, f"The request body is not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise RefusedError(400, "Input should be a valid dictionary")
    for name in data:
        if name != "requests":
            raise RefusedError(400, f"{name}: {EXTRA}")
    requests = data.get("requests")
    if not isinstance(requests, list):
        problem = "Input should be a valid list" if "requests" in data else "Field required"
        raise RefusedError(400, f"requests: {problem}")
    if not requests:
        raise RefusedError(
            400, "requests: List should have at least 1 item after validation, not 0"
        )
    if len(requests) > MAX_REQUESTS:
        raise RefusedError(
            413, f"requests: a batch holds at most {MAX_REQUESTS} requests, not {len(requests)}"
        )
    _check_frames(requests)


def _custom_id_error(custom_id: Any) -> str | None:
    if not isinstance(custom_id, str):
        return "Input should be a valid string"
    if len(custom_id) > _MAX_CUSTOM_ID:
        return f"String should have at most {_MAX_CUSTOM_ID} characters"
    if not _CUSTOM_ID.fullmatch(custom_id):
        return "String should match pattern '^[a-zA-Z0-9_-]{1,64}$'"
    return None


def read_params(frame: Frame, position: int) -> dict[str, Any]:
    """Return a request's params as an object, or raise what the API would answer to others."""
    try:
        params = frame.decoded()
    except orjson.JSONDecodeError as error:
        raise RefusedError(
            400, f"The request body is not valid JSON: requests.{position}.params: {error}"
        ) from None
    if not isinstance(params, dict):
        raise RefusedError(400, f"requests.{position}.params: Input should be a valid dictionary")
    return params


def _check_frames(requests: list[Any]) -> None:
    seen: set[str] = set()
    for position, request in enumerate(requests):
        if problem := _frame_error(request):
            raise RefusedError(400, f"requests.{position}{problem}")
        custom_id = request["custom_id"]
        if custom_id in seen:
            raise RefusedError(
                400,
                f"requests.{position}.custom_id: duplicate custom_id {custom_id!r}; "
                "each must be unique within the batch",
            )
        seen.add(custom_id)


def _frame_error(request: Any) -> str | None:
    """Return what is wrong with a request outside of its params, as the tail of a message."""
    if not isinstance(request, dict):
        return ": Input should be a valid dictionary"
    if "custom_id" not in request:
        return ".custom_id: Field required"
    if problem := _custom_id_error(request["custom_id"]):
        return f".custom_id: {problem}"
    if not isinstance(request.get("params"), dict):
        problem = "Input should be a valid dictionary" if "params" in request else "Field required"
        return f".params: {problem}"
    if len(request) > len(_KEYS):
        return f".{next(name for name in request if name not in _KEYS)}: {EXTRA}"
    return None
