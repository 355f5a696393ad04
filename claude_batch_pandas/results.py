"""Bytes of a results file -> `Result`.

One line is one request, in any order. ``result.type`` is read as a string: the SDK's classes lie
about variants they do not know. Lines that the fast typed decoder refuses are read again by the
standard library, so that one odd line costs at most one row. Pure.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec

from claude_batch_pandas.lines import count_lines
from claude_batch_pandas.records import RowStatus
from claude_batch_pandas.words import plain

# Stop reasons that mean the answer was cut, and what a person can do about each.
CUT = {
    "max_tokens": "the answer reached max_tokens; "
    "retry(truncated=True, max_tokens=...) of its run asks again with more",
    "model_context_window_exceeded": "prompt and answer filled the model's context window",
    "pause_turn": "the model paused a long turn and did not finish it; "
    "resume_turns() of its run goes on",
}
THOUGHT = (
    "the answer reached max_tokens before its first word: thinking counts. Ask with more, "
    "retry(truncated=True, max_tokens=...), or without: thinking={'type': 'disabled'}"
)
PAUSED_TURN = "pause_turn"  # a stop reason
FULL = frozenset({"end_turn", "stop_sequence"})  # stop reasons of answers that lack nothing
ASIDE = frozenset({"thinking", "redacted_thinking"})  # blocks of an answer that are not shown
UNREADABLE = "no readable result; it may have been paid"
DOUBTFUL = "unreadable"  # the error_type of what may have been answered, and paid


# A number that no answer has makes its usage unknown; in a column it would end the whole run.
Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]


class _Part(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    name: str | None = None  # of the tool in a tool_use block
    input: Any = None


class _CacheCreation(msgspec.Struct, gc=False):
    ephemeral_5m_input_tokens: Count | None = None
    ephemeral_1h_input_tokens: Count | None = None


class _OutputDetails(msgspec.Struct, gc=False):
    thinking_tokens: Count | None = None


class _ServerTools(msgspec.Struct, gc=False):
    web_search_requests: Count | None = None


class Usage(msgspec.Struct, gc=False):
    """Tokens of one answer by kind, named and counted as the API does; None means 0."""

    input_tokens: Count | None = None  # what no cache served
    output_tokens: Count | None = None  # thinking included
    cache_creation_input_tokens: Count | None = None  # written to a cache, for 5 minutes or an hour
    cache_read_input_tokens: Count | None = None
    cache_creation: _CacheCreation | None = None
    output_tokens_details: _OutputDetails | None = None
    server_tool_use: _ServerTools | None = None
    service_tier: str | None = None
    inference_geo: str | None = None

    @property
    def prompt_tokens(self) -> int:
        """All input, cached or not."""
        read, written = self.cache_read_input_tokens, self.cache_creation_input_tokens
        return (self.input_tokens or 0) + (read or 0) + (written or 0)

    @property
    def cache_write_1h_tokens(self) -> int:
        """Tokens written to a cache for an hour."""
        split = self.cache_creation
        return 0 if split is None else split.ephemeral_1h_input_tokens or 0

    @property
    def cache_write_5m_tokens(self) -> int:
        """Tokens written to a cache for five minutes."""
        return max(0, (self.cache_creation_input_tokens or 0) - self.cache_write_1h_tokens)

    @property
    def thinking_tokens(self) -> int:
        """The part of the output that was thinking."""
        details = self.output_tokens_details
        return 0 if details is None else details.thinking_tokens or 0

    @property
    def web_searches(self) -> int:
        """Requests to the web search tool, not tokens."""
        tools = self.server_tool_use
        return 0 if tools is None else tools.web_search_requests or 0


class Result(msgspec.Struct, gc=False, frozen=True):
    """What became of one request, from one line of a results file."""

    status: RowStatus
    text: str | None = None  # all text blocks joined
    error: str | None = None  # why there is no full answer, in words
    error_type: str | None = None  # the API's error type
    stop_reason: str | None = None
    model: str | None = None
    request_id: str | None = None
    usage: Usage | None = None
    value: Any = None  # what the answer becomes by its schema; before that, a tool's input
    tool: str | None = None  # the tools that the model called, by name
    agreement: float | None = None  # the share of a row's answers that say the same

    def with_agreement(self, share: float) -> Result:
        """Return it as the winner among several answers of a row."""
        return msgspec.structs.replace(self, agreement=share)

    def with_value(self, value: Any) -> Result:
        """Return it with what the answer becomes."""
        return msgspec.structs.replace(self, value=value)

    def after(self, earlier: Result) -> Result:
        """Return it as what goes on after an unfinished turn."""
        text = (earlier.text or "") + (self.text or "")
        return msgspec.structs.replace(self, text=text)

    def failed(self, status: RowStatus, why: str) -> Result:
        """Return it as an answer that cannot be used, its text kept."""
        return msgspec.structs.replace(self, status=status, error=why)


class _StopDetails(msgspec.Struct, gc=False):
    category: str | None = None
    explanation: str | None = None


class _Message(msgspec.Struct, gc=False):
    content: list[_Part]
    id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    stop_details: _StopDetails | None = None
    usage: Usage | None = None


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


class Lines(NamedTuple):
    """The readable lines of a block, as far as each needs to be known.

    Attributes
    ----------
    names : list of str
        The custom_id of each.
    kinds : list of str
        The result type of each.
    texts : list of str or None
        The answer of each that is a whole one, nothing but text, and says what it used.
    others : dict of int to Result
        By place, all that are more, or less.
    used : list of (str or None, Usage)
        Model and tokens of those that are texts.
    unreadable : int
        Lines that are not among them.
    """

    names: list[str]
    kinds: list[str]
    texts: list[str | None]
    others: dict[int, Result]
    used: list[tuple[str | None, Usage]]
    unreadable: int


FACTS: dict[str, Any] = {
    "id": str | None,
    "model": str | None,
    "stop_reason": str | None,
    "stop_details": _StopDetails | None,
    "usage": Usage | None,
}
"""What a message tells beside its content; each can be odd without costing the answer."""

_lines = msgspec.json.Decoder(_Line)


def read(blocks: Iterable[bytes]) -> Iterator[list[tuple[str, Result]]]:
    """Yield (custom_id, Result) of the readable lines, a list per block.

    Parameters
    ----------
    blocks : iterable of bytes
        Whole lines of a results file, one or many at a time.
    """
    for block in blocks:
        yield [(line.custom_id, _result(line.result)) for line in _parse(block) if line is not None]


def read_tags(blocks: Iterable[bytes]) -> Iterator[list[tuple[str, str] | None]]:
    """Yield (custom_id, result type) per line, None for one that cannot be read, as lists."""
    for block in blocks:
        yield [
            None if line is None else (line.custom_id, line.result.type) for line in _parse(block)
        ]


def read_block(block: bytes) -> Lines:
    """Read some lines of a results file, in less time and memory than a `Result` each."""
    found = _parse(block)
    lines = [line for line in found if line is not None]
    others: dict[int, Result] = {}
    texts: list[str | None] = []
    used: list[tuple[str | None, Usage]] = []
    for i, line in enumerate(lines):
        message, text = line.result.message, None
        if message is not None and message.usage is not None and line.result.type == "succeeded":
            text = _whole_text(message)
            if text is not None:
                used.append((message.model, message.usage))
        if text is None:
            others[i] = _result(line.result)
        texts.append(text)
    names = [line.custom_id for line in lines]
    kinds = [sys.intern(line.result.type) for line in lines]  # of four words, not one per line
    return Lines(names, kinds, texts, others, used, len(found) - len(lines))


def _whole_text(message: _Message) -> str | None:
    """Return an answer that is whole, and nothing but text; None for any other."""
    if message.stop_reason not in FULL:
        return None
    content = message.content
    if len(content) == 1 and content[0].type == "text":
        return content[0].text or ""
    if all(part.type == "text" or part.type in ASIDE for part in content):
        return "".join([part.text or "" for part in content if part.type == "text"])
    return None


def _parse(block: bytes) -> Sequence[_Line | None]:
    try:
        found = _lines.decode_lines(block)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = []
    # The decoder also takes two objects on a line, or one on several; a line is one object.
    if found and len(found) == count_lines(block):
        return found
    return [_parse_one(line) for line in block.split(b"\n") if line and not line.isspace()]


def _parse_one(raw: bytes) -> _Line | None:
    try:
        return _lines.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _read_again(raw)


def _read_again(raw: bytes) -> _Line | None:
    """Read a line that the typed decoder refused: what fits is kept, what is odd is left out."""
    try:
        value = without_surrogates(json.loads(raw))
    except (ValueError, RecursionError):
        return None
    result = value.get("result") if isinstance(value, dict) else None
    if not isinstance(result, dict):
        return None
    name, kind = value.get("custom_id"), result.get("type")
    if not isinstance(name, str) or not isinstance(kind, str):
        return None
    message = _fit_message(result.get("message"))
    if kind == "succeeded" and message is None:
        return None
    return _Line(name, _Outcome(kind, message, _fit_error(result.get("error"))))


def _fit(value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind, strict=False)
    except (msgspec.MsgspecError, RecursionError):
        return None


def _fit_message(value: Any) -> _Message | None:
    if not isinstance(value, dict) or not isinstance(value.get("content"), list):
        return None
    parts = [_fit(block, _Part) for block in value["content"]]
    facts = {name: _fit(value.get(name), kind) for name, kind in FACTS.items()}
    return _Message([part for part in parts if part is not None], **facts)


def _fit_error(value: Any) -> _Error | None:
    if not isinstance(value, dict):
        return None
    inner = value.get("error")
    fitted = _InnerError(**_texts(inner)) if isinstance(inner, dict) else None
    request_id = value.get("request_id")
    return _Error(
        **_texts(value),
        error=fitted,
        request_id=request_id if isinstance(request_id, str) else None,
    )


def _texts(value: dict[str, Any]) -> dict[str, str]:
    both = {name: value.get(name) for name in ("type", "message")}
    return {name: text for name, text in both.items() if isinstance(text, str)}


def without_surrogates(value: Any) -> Any:
    """Replace lone surrogates, which neither Arrow nor UTF-8 can hold."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {without_surrogates(name): without_surrogates(item) for name, item in value.items()}
    return value


def _result(outcome: _Outcome) -> Result:
    if outcome.type == "succeeded" and outcome.message is not None:
        return _answer(outcome.message)
    if outcome.type == "errored":
        return _error(outcome.error)
    if outcome.type == "expired":
        why = (
            "the batch expired before this request was processed; retry() of its run sends it again"
        )
        return Result(RowStatus.EXPIRED, error=why)
    if outcome.type == "canceled":
        why = (
            "the batch was canceled before this request was processed; retry(canceled=True) of "
            "its run sends it again"
        )
        return Result(RowStatus.CANCELED, error=why)
    if outcome.type == "succeeded":
        return Result(RowStatus.ERRORED, error=UNREADABLE, error_type=DOUBTFUL)
    why = f"the API gave a result of the unknown type {outcome.type!r}; it may have been paid"
    return Result(RowStatus.ERRORED, error=why, error_type=DOUBTFUL)


def _answer(message: _Message) -> Result:
    # Thinking, tool and other blocks may come first, between or alone: only text is the answer.
    content, reason = message.content, message.stop_reason
    if len(content) == 1 and content[0].type == "text":
        text = content[0].text or ""
    else:
        text = "".join([part.text or "" for part in content if part.type == "text"])
    status, error = RowStatus.SUCCEEDED, None
    if reason == "refusal":
        details = message.stop_details or _StopDetails()
        parts = [plain(part) for part in (details.category, details.explanation) if part]
        status, error = RowStatus.REFUSED, ": ".join(["the model refused to answer", *parts])
    elif reason in CUT:
        status, error = RowStatus.TRUNCATED, CUT[reason]
        if reason == "max_tokens" and not text:
            error = THOUGHT
    told = (reason, message.model, message.id)
    reason, model, request_id = (None if word is None else plain(word) for word in told)
    calls = [part for part in content if part.type == "tool_use"]
    if not calls:
        return Result(status, text, error, None, reason, model, request_id, message.usage)
    names = ", ".join(plain(part.name or "") for part in calls)
    value = calls[0].input
    if len(calls) > 1:
        value = [{"name": part.name, "input": part.input} for part in calls]
    return Result(status, text, error, None, reason, model, request_id, message.usage, value, names)


def _error(error: _Error | None) -> Result:
    """Read the error, nested twice as the API sends it or once as its samples show it."""
    if error is None:
        return Result(RowStatus.ERRORED, error="the API gave an error without a description")
    inner = error.error or _InnerError(error.type, error.message)
    kind = plain(inner.type)
    return Result(
        RowStatus.ERRORED,
        error=f"{kind}: {plain(inner.message or '') or 'no message'}",
        error_type=kind,
        request_id=None if error.request_id is None else plain(error.request_id),
    )
