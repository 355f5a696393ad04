"""What the API refuses: a whole batch at once, or one request's params when the batch ends."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import orjson

from claude_batch_pandas.emulator.errors import RefusedError
from claude_batch_pandas.emulator.models import refusal_of

MAX_REQUESTS = 100_000
MAX_BYTES = 256_000_000

_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_MAX_CUSTOM_ID = 64
_EXTRA = "Extra inputs are not permitted"
_KEYS = {"custom_id", "params"}

# MessageCreateParamsNonStreaming of the SDK, and the beta namespace's additions.
_PARAMS = frozenset(
    [
        "max_tokens",
        "messages",
        "model",
        "cache_control",
        "container",
        "diagnostics",
        "inference_geo",
        "metadata",
        "output_config",
        "service_tier",
        "speed",
        "stop_sequences",
        "system",
        "thinking",
        "tool_choice",
        "tools",
        "stream",
        "compaction",
        "context_management",
        "fallback_credit_token",
        "fallbacks",
        "mcp_servers",
        "output_format",
        "thread",
        "user_profile_id",
    ]
)
_REQUIRED = ("model", "max_tokens", "messages")
_OBJECTS = {"thinking", "output_config", "tool_choice", "metadata"}
_LISTS = {"tools": dict, "stop_sequences": str}
_NOT_IN_A_BATCH = {"stream", "speed", "fallbacks", "thread"}


class ParamsError(NamedTuple):
    """Why a request is errored."""

    type: str
    message: str


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
            raise RefusedError(400, f"{name}: {_EXTRA}")
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
        return f".{next(name for name in request if name not in _KEYS)}: {_EXTRA}"
    return None


def params_error(params: Mapping[str, Any]) -> ParamsError | None:
    """Return why the API would end this request as errored; None when it would answer it."""
    message = (
        _name_error(params)
        or _scalar_error(params)
        or _kind_error(params)
        or _messages_error(params.get("messages"))
        or refusal_of(params["model"], params)
    )
    return ParamsError("invalid_request_error", message) if message else None


def _name_error(params: Mapping[str, Any]) -> str | None:
    if not params.keys() <= _PARAMS:
        return f"{next(name for name in params if name not in _PARAMS)}: {_EXTRA}"
    for name in _REQUIRED:
        if name not in params:
            return f"{name}: Field required"
    return None


def _scalar_error(params: Mapping[str, Any]) -> str | None:
    if not isinstance(params["model"], str) or not params["model"]:
        return "model: Input should be a valid string with at least 1 character"
    max_tokens = params["max_tokens"]
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool):
        return "max_tokens: Input should be a valid integer"
    if max_tokens < 1:
        return "max_tokens: Input should be greater than or equal to 1"
    return None


def _kind_error(params: Mapping[str, Any]) -> str | None:
    for name, value in params.items():
        if name in _NOT_IN_A_BATCH and value:
            return f"{name}: not supported in the Message Batches API"
        if name in _OBJECTS and not isinstance(value or {}, dict):
            return f"{name}: Input should be a valid dictionary"
        if name in _LISTS and not _is_list_of(value or [], _LISTS[name]):
            return f"{name}: Input should be a valid list of its kind"
    system = params.get("system") or ""
    if not isinstance(system, str) and not _is_list_of(system, dict):
        return "system: Input should be a valid string or list of blocks"
    return None


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _messages_error(messages: Any) -> str | None:
    if not isinstance(messages, list):
        return "messages: Input should be a valid list"
    if not messages:
        return "messages: at least one message is required"
    for position, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in {"user", "assistant"}:
            return f"messages.{position}.role: Input should be 'user' or 'assistant'"
        if problem := _content_error(message.get("content")):
            return f"messages.{position}.content: {problem}"
    if messages[0]["role"] != "user":
        return "messages: first message must use the 'user' role"
    return None


def _content_error(content: Any) -> str | None:
    if isinstance(content, str):
        return None if content.strip() else "text content blocks must be non-empty"
    if not isinstance(content, list):
        return "Input should be a valid string or list"
    if not content:
        return "at least one content block is required"
    for block in content:
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            return "each content block must be an object with a type"
        if block["type"] == "text" and not str(block.get("text") or "").strip():
            return "text content blocks must be non-empty"
    return None
