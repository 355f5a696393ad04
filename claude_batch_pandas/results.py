"""Bytes of a results file -> `Result`.

One line is one request, in any order. ``result.type`` is read as a string: the SDK's classes lie
about variants they do not know. Lines that the fast typed decoder refuses are read again by the
standard library, so that one odd line costs at most one row. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from claude_batch_pandas.records import Result, RowStatus, Usage

# Stop reasons that mean the answer was cut, and what a person can do about each.
CUT = {
    "max_tokens": "the answer reached max_tokens; ask again with a larger max_tokens",
    "model_context_window_exceeded": "prompt and answer filled the model's context window",
    "pause_turn": "the model paused a long turn and did not finish it",
}
UNREADABLE = "no readable result; it may have been paid"


class _Part(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None


class _CacheCreation(msgspec.Struct, gc=False):
    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class _OutputDetails(msgspec.Struct, gc=False):
    thinking_tokens: int | None = None


class _ServerTools(msgspec.Struct, gc=False):
    web_search_requests: int | None = None


class _Usage(msgspec.Struct, gc=False):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None
    output_tokens_details: _OutputDetails | None = None
    server_tool_use: _ServerTools | None = None
    service_tier: str | None = None
    inference_geo: str | None = None


class _StopDetails(msgspec.Struct, gc=False):
    category: str | None = None
    explanation: str | None = None


class _Message(msgspec.Struct, gc=False):
    content: list[_Part]
    id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    stop_details: _StopDetails | None = None
    usage: _Usage | None = None


class _InnerError(msgspec.Struct, gc=False):
    type: str = "unknown_error"
    message: str | None = None


class _Error(msgspec.Struct, gc=False):
    type: str = "unknown_error"
    message: str | None = None
    error: _InnerError | None = None
    request_id: str | None = None


class _Outcome(msgspec.Struct, gc=False):
    type: str
    message: _Message | None = None
    error: _Error | None = None


class _Line(msgspec.Struct, gc=False):
    custom_id: str
    result: _Outcome


_lines = msgspec.json.Decoder(_Line)


def read(lines: Iterable[bytes], *, usage: bool = True) -> Iterator[tuple[str, Result]]:
    """Yield (custom_id, Result) per readable line; a line that cannot be read is left out.

    Parameters
    ----------
    lines : iterable of bytes
        Lines of a results file, without their newlines.
    usage : bool
        Whether to read the tokens as well.
    """
    for parsed in _parse(lines):
        if parsed is not None:
            yield parsed.custom_id, _result(parsed.result, usage=usage)


def read_tags(lines: Iterable[bytes]) -> Iterator[tuple[str, str] | None]:
    """Yield (custom_id, result type) per line, None for a line that `read` would leave out."""
    for parsed in _parse(lines):
        yield None if parsed is None else (parsed.custom_id, parsed.result.type)


def _parse(lines: Iterable[bytes]) -> Iterator[_Line | None]:
    decode = _lines.decode
    for raw in lines:
        try:
            yield decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            yield _read_again(raw)


def _read_again(raw: bytes) -> _Line | None:
    """Read a line that the typed decoder refused: lone surrogates, NaN, numbers out of range."""
    try:
        value = json.loads(raw)
        return msgspec.convert(_without_surrogates(value), _Line, strict=False)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return None


def _without_surrogates(value: Any) -> Any:
    """Replace lone surrogates, which neither Arrow nor UTF-8 can hold."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {
            _without_surrogates(name): _without_surrogates(item) for name, item in value.items()
        }
    return value


def _result(outcome: _Outcome, *, usage: bool) -> Result:
    if outcome.type == "succeeded" and outcome.message is not None:
        return _answer(outcome.message, usage=usage)
    if outcome.type == "errored":
        return _error(outcome.error)
    if outcome.type == "expired":
        why = "the batch expired before this request was processed; run.retry() sends it again"
        return Result(RowStatus.EXPIRED, error=why)
    if outcome.type == "canceled":
        why = "the batch was canceled before this request was processed; run.retry() sends it again"
        return Result(RowStatus.CANCELED, error=why)
    why = f"the API gave a result of the type {outcome.type!r} that cannot be read"
    return Result(RowStatus.ERRORED, error=why, error_type=outcome.type)


def _answer(message: _Message, *, usage: bool) -> Result:
    # Thinking, tool and other blocks may come first, between or alone: only text is the answer.
    content = message.content
    if len(content) == 1 and content[0].type == "text":
        text = content[0].text or ""
    else:
        text = "".join(part.text or "" for part in content if part.type == "text")
    status, error = _judge(message)
    return Result(
        status,
        text,
        error,
        None,
        message.stop_reason,
        message.model,
        message.id,
        _usage(message.usage) if usage else None,
    )


def _judge(message: _Message) -> tuple[RowStatus, str | None]:
    reason = message.stop_reason
    if reason == "end_turn":
        return RowStatus.SUCCEEDED, None
    if reason == "refusal":
        details = message.stop_details or _StopDetails()
        parts = [part for part in (details.category, details.explanation) if part]
        return RowStatus.REFUSED, ": ".join(["the model refused to answer", *parts])
    if reason in CUT:
        return RowStatus.TRUNCATED, CUT[reason]
    return RowStatus.SUCCEEDED, None


def _error(error: _Error | None) -> Result:
    """Read the error, nested twice as the API sends it or once as its samples show it."""
    if error is None:
        return Result(RowStatus.ERRORED, error="the API gave an error without a description")
    inner = error.error or _InnerError(error.type, error.message)
    return Result(
        RowStatus.ERRORED,
        error=f"{inner.type}: {inner.message or 'no message'}",
        error_type=inner.type,
        request_id=error.request_id,
    )


def _usage(usage: _Usage | None) -> Usage | None:
    if usage is None:
        return None
    writes = usage.cache_creation_input_tokens or 0
    split = usage.cache_creation
    hour = (split.ephemeral_1h_input_tokens or 0) if split else 0
    return Usage(
        usage.input_tokens or 0,
        usage.output_tokens or 0,
        max(0, writes - hour),
        hour,
        usage.cache_read_input_tokens or 0,
        (usage.output_tokens_details.thinking_tokens or 0) if usage.output_tokens_details else 0,
        (usage.server_tool_use.web_search_requests or 0) if usage.server_tool_use else 0,
        usage.service_tier,
        usage.inference_geo,
    )
