"""What the API refuses of one request's params: at once, or in a batch when that ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from claude_batch_pandas.emulator.errors import EXTRA
from claude_batch_pandas.emulator.models import refusal_of
from claude_batch_pandas.emulator.prefixes import breakpoint_error
from claude_batch_pandas.emulator.sources import Find, media_error, no_files

# MessageCreateParamsNonStreaming of the SDK, and the beta namespace's additions.
_CREATE = frozenset(
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
# MessageCountTokensParams, likewise.
_COUNT = frozenset(
    [
        "messages",
        "model",
        "billing_policy",
        "cache_control",
        "compaction",
        "context_management",
        "mcp_servers",
        "output_config",
        "output_format",
        "speed",
        "system",
        "thinking",
        "tool_choice",
        "tools",
        "user_profile_id",
    ]
)
_OBJECTS = {"thinking", "output_config", "tool_choice", "metadata"}
_LISTS = {"tools": dict, "stop_sequences": str}
_ROLES = {"user", "assistant", "system"}
_SERVER_TOOL_SUFFIXES = ("server_tool_use", "_tool_result")


class Endpoint(NamedTuple):
    """Where params were sent, and what is particular there."""

    names: frozenset[str]
    required: tuple[str, ...]
    refused: Mapping[str, str]  # why a parameter, if it says anything, is not taken
    least_tokens: int = 1


_NO_BATCH = "not supported in the Message Batches API"
BATCH = Endpoint(
    _CREATE,
    ("model", "max_tokens", "messages"),
    dict.fromkeys(("stream", "speed", "fallbacks", "thread"), _NO_BATCH),
)
MESSAGES = Endpoint(
    _CREATE,
    ("model", "max_tokens", "messages"),
    {"stream": "the emulator does not stream; send the request without it"},
    least_tokens=0,  # writes the prompt cache and answers nothing
)
COUNT = Endpoint(_COUNT, ("model", "messages"), {})


class ParamsError(NamedTuple):
    """Why a request is errored."""

    type: str
    message: str


def params_error(
    params: Mapping[str, Any], endpoint: Endpoint = BATCH, find: Find = no_files
) -> ParamsError | None:
    """Return why the API would refuse these params; None when it would answer them.

    `find` looks for the files that they name.
    """
    message = (
        _name_error(params, endpoint)
        or _scalar_error(params, endpoint)
        or _kind_error(params, endpoint)
        or _messages_error(params.get("messages"))
        or media_error(params["messages"], find)
        or refusal_of(params["model"], params)
        or breakpoint_error(params)
        or _warming_error(params)
    )
    return ParamsError("invalid_request_error", message) if message else None


def _name_error(params: Mapping[str, Any], endpoint: Endpoint) -> str | None:
    if not params.keys() <= endpoint.names:
        return f"{next(name for name in params if name not in endpoint.names)}: {EXTRA}"
    for name in endpoint.required:
        if name not in params:
            return f"{name}: Field required"
    return None


def _scalar_error(params: Mapping[str, Any], endpoint: Endpoint) -> str | None:
    if not isinstance(params["model"], str) or not params["model"]:
        return "model: Input should be a valid string with at least 1 character"
    if "max_tokens" not in endpoint.required:
        return None
    max_tokens = params["max_tokens"]
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool):
        return "max_tokens: Input should be a valid integer"
    if max_tokens < endpoint.least_tokens:
        return f"max_tokens: Input should be greater than or equal to {endpoint.least_tokens}"
    return None


def _kind_error(params: Mapping[str, Any], endpoint: Endpoint) -> str | None:
    for name, value in params.items():
        if value and name in endpoint.refused:
            return f"{name}: {endpoint.refused[name]}"
        if name in _OBJECTS and not isinstance(value or {}, dict):
            return f"{name}: Input should be a valid dictionary"
        if name in _LISTS and not _is_list_of(value or [], _LISTS[name]):
            return f"{name}: Input should be a valid list of its kind"
    system = params.get("system") or ""
    if not isinstance(system, str) and not _is_list_of(system, dict):
        return "system: Input should be a valid string or list of blocks"
    return _system_error(system)


def _system_error(system: str | list[dict[str, Any]]) -> str | None:
    for position, block in enumerate(system if isinstance(system, list) else ()):
        if block.get("type", "text") != "text":
            return f"system.{position}.type: Input should be 'text'"
    return None


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _messages_error(messages: Any) -> str | None:
    if not isinstance(messages, list):
        return "messages: Input should be a valid list"
    if not messages:
        return "messages: at least one message is required"
    for position, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            return f"messages.{position}.role: Input should be 'user', 'assistant' or 'system'"
        if problem := _content_error(message.get("content")):
            return f"messages.{position}.content: {problem}"
    return _order_error(messages)


def _order_error(messages: list[dict[str, Any]]) -> str | None:
    """Return which message stands where it may not; a system message follows a user's turn."""
    if messages[0]["role"] == "system":
        return "messages.0: use the top-level 'system' parameter for the initial system prompt"
    if messages[0]["role"] != "user":
        return "messages: first message must use the 'user' role"
    for position, message in enumerate(messages):
        if message["role"] != "system":
            continue
        if not _takes_system_after(messages[position - 1]):
            return (
                f"messages.{position}: role 'system' must follow a 'user' message or an "
                "'assistant' message that ends in server tool use"
            )
        if position + 1 < len(messages) and messages[position + 1]["role"] != "assistant":
            return (
                f"messages.{position}: role 'system' must precede an 'assistant' message "
                "or end the array"
            )
    return None


def _takes_system_after(message: dict[str, Any]) -> bool:
    if message["role"] != "assistant":
        return bool(message["role"] == "user")
    content = message["content"]
    return isinstance(content, list) and content[-1]["type"].endswith(_SERVER_TOOL_SUFFIXES)


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


def _warming_error(params: Mapping[str, Any]) -> str | None:
    """Return what a request cannot ask for that only warms the cache."""
    if params.get("max_tokens") != 0:
        return None
    asked = {
        "output_config.format": (params.get("output_config") or {}).get("format"),
        "tool_choice": (params.get("tool_choice") or {}).get("type") in {"any", "tool"},
        "thinking": (params.get("thinking") or {}).get("type") == "enabled",
    }
    name = next((name for name, value in asked.items() if value), None)
    return f"max_tokens: 0 cannot be combined with {name}" if name else None
