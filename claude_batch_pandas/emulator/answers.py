"""One request -> the result it gets: a whole `Message`, or why there is none.

The same request gets the same words every time. A choice (labels, an enum, a schema) is answered
with exactly that, so that it can be used; everything else begins with "[simulated]".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from claude_batch_pandas.emulator.caches import UNUSED, CacheUse
from claude_batch_pandas.emulator.labels import choose
from claude_batch_pandas.emulator.models import thinks
from claude_batch_pandas.emulator.prompts import BYTES_PER_TOKEN, Prompt, read, tokens_of
from claude_batch_pandas.emulator.rules import Rule
from claude_batch_pandas.emulator.schemas import SIMULATED, instance
from claude_batch_pandas.emulator.sources import Find, no_files

_ECHO = 160  # characters of the prompt that an echo repeats
_LEAST_THOUGHT = 16  # tokens
_TOOL_TOKENS = 60
_SIGNATURE = "c2ltdWxhdGVk"  # "simulated", in base64
_ANSWERED = Rule(outcome="succeeded")
_STOP_REASONS = {
    "max_tokens": "max_tokens",
    "pause_turn": "pause_turn",
    "context_window": "model_context_window_exceeded",
    "refusal": "refusal",
}
_REFUSAL = {
    "type": "refusal",
    "category": "cyber",
    "explanation": f"{SIMULATED} A rule of the emulator refuses this request.",
}
_CUT = {"max_tokens", "context_window"}


def result(
    params: Mapping[str, Any],
    rule: Rule | None,
    digest: str,
    cached: CacheUse = UNUSED,
    find: Find = no_files,
) -> dict[str, Any]:
    """Return the `result` object of one line; `digest` makes its ids unique."""
    rule = rule or _ANSWERED
    if rule.outcome in {"expired", "canceled"}:
        return {"type": rule.outcome}
    if rule.outcome == "unknown_type":
        return {"type": "simulated_unknown_type"}
    if rule.outcome == "errored":
        error = {"type": rule.error_type, "message": rule.message}
        if rule.flat:
            return {"type": "errored", "error": error}
        request_id = f"req_sim_{digest}"
        return {
            "type": "errored",
            "error": {"type": "error", "error": error, "request_id": request_id},
        }
    return {"type": "succeeded", "message": message(params, rule, digest, cached, find)}


def message(
    params: Mapping[str, Any],
    rule: Rule | None,
    digest: str,
    cached: CacheUse = UNUSED,
    find: Find = no_files,
    service_tier: str = "batch",
) -> dict[str, Any]:
    """Return a `Message` with every field that the SDK knows."""
    rule = rule or _ANSWERED
    prompt = read(params, find)
    answer: dict[str, Any] = {
        "id": f"msg_sim_{digest}",
        "type": "message",
        "role": "assistant",
        "model": params["model"],
        "content": [],
        "stop_reason": _STOP_REASONS.get(rule.outcome, "end_turn"),
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
        "diagnostics": None,
        "usage": {
            **_input_usage(prompt.tokens, cached),
            "output_tokens": 1,
            "output_tokens_details": {"thinking_tokens": 0},
            "server_tool_use": None,
            "service_tier": service_tier,
            "inference_geo": params.get("inference_geo") or "global",
            "speed": params.get("speed") or "standard",
        },
    }
    if params["max_tokens"] == 0:
        answer["stop_reason"] = "max_tokens"
        answer["usage"]["output_tokens"] = 0
    elif rule.outcome == "refusal":
        answer["stop_details"] = _REFUSAL
    else:
        _answer(answer, params, rule, prompt, digest)
    return answer


def _input_usage(tokens: int, cached: CacheUse) -> dict[str, Any]:
    """Return the input's side of the usage: what no cache served is `input_tokens`."""
    return {
        "input_tokens": tokens - cached.read - cached.written,
        "cache_creation_input_tokens": cached.written,
        "cache_read_input_tokens": cached.read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": cached.written_5m,
            "ephemeral_1h_input_tokens": cached.written_1h,
        },
    }


def _answer(
    message: dict[str, Any],
    params: Mapping[str, Any],
    rule: Rule,
    prompt: Prompt,
    digest: str,
) -> None:
    """Think, then say or do what the rule or the request asks for."""
    usage = message["usage"]
    room = params["max_tokens"]
    thought = 0
    if thinks(params["model"], params.get("thinking")):
        # Thinking counts toward max_tokens: a small limit leaves no answer, as on the real API.
        thought = min(room, _LEAST_THOUGHT + len(prompt.text) % _LEAST_THOUGHT)
        room -= thought
        usage["output_tokens_details"] = {"thinking_tokens": thought}
        message["content"].append(_thinking(params, digest))
    if room == 0:
        message["stop_reason"] = "max_tokens"
        tokens = 0
    elif rule.outcome == "empty":
        tokens = 1
    elif tool := _tool(params, rule):
        message["stop_reason"] = "tool_use"
        message["content"].append(_tool_use(tool, prompt, digest))
        tokens = _TOOL_TOKENS
    else:
        tokens = _speak(message, params, rule, prompt, room)
    if rule.outcome == "pause_turn":
        message["content"].append(_server_tool_use(prompt, digest))
    usage["output_tokens"] = thought + tokens


def _speak(
    message: dict[str, Any], params: Mapping[str, Any], rule: Rule, prompt: Prompt, room: int
) -> int:
    """Say something within the tokens that are left for it; return how many it took."""
    text = _text(params, rule, prompt)
    if "stop_sequences" in params:
        text = _stopped(message, params["stop_sequences"], text)
    tokens = max(1, tokens_of(text))
    if rule.outcome in _CUT:
        text = text[: len(text) // 2]
        tokens = room if rule.outcome == "max_tokens" else min(tokens, room)
    elif tokens > room:
        message["stop_reason"] = "max_tokens"
        text = text.encode()[: int(room * BYTES_PER_TOKEN)].decode(errors="ignore")
        tokens = room
    if text:
        message["content"].append({"type": "text", "text": text, "citations": None})
    return tokens


def _text(params: Mapping[str, Any], rule: Rule, prompt: Prompt) -> str:
    """Return what is said: the rule's text, JSON by the schema, a label, or an echo."""
    if rule.text is not None:
        return rule.text
    if schema := _schema(params):
        return orjson.dumps(instance(schema, prompt.text)).decode()
    if prompt.labels:
        return choose(prompt.labels, prompt.text)
    return f"{SIMULATED} {prompt.text[:_ECHO]}"


def _schema(params: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the JSON schema that the answer must obey, if one was asked for."""
    config = params.get("output_config") or {}
    style = config.get("format") or params.get("output_format")
    schema = style.get("schema") if isinstance(style, dict) else None
    return schema if isinstance(schema, dict) else None


def _stopped(message: dict[str, Any], stops: list[str] | None, text: str) -> str:
    """Cut the text at the first stop sequence that it holds."""
    found = [(text.find(stop), stop) for stop in stops or () if stop in text]
    if not found:
        return text
    position, stop = min(found)
    message["stop_reason"] = "stop_sequence"
    message["stop_sequence"] = stop
    return text[:position]


def _thinking(params: Mapping[str, Any], digest: str) -> dict[str, Any]:
    """Return a thinking block; its text is empty unless a summary was asked for."""
    shown = (params.get("thinking") or {}).get("display") == "summarized"
    text = f"{SIMULATED} Nothing was thought." if shown else ""
    return {"type": "thinking", "thinking": text, "signature": f"{_SIGNATURE}{digest}"}


def _tool(params: Mapping[str, Any], rule: Rule) -> Mapping[str, Any] | None:
    """Return the tool to use: the one `tool_choice` forces, or the first when a rule says so."""
    if rule.outcome != "tool_use" and "tool_choice" not in params:
        return None
    tools = [tool for tool in params.get("tools") or () if isinstance(tool, dict)]
    choice = params.get("tool_choice") or {}
    if choice.get("type") == "tool":
        tools = [tool for tool in tools if tool.get("name") == choice.get("name")]
    elif choice.get("type") != "any" and rule.outcome != "tool_use":
        return None
    if tools:
        return tools[0]
    return {"name": "simulated_tool"} if rule.outcome == "tool_use" else None


def _tool_use(tool: Mapping[str, Any], prompt: Prompt, digest: str) -> dict[str, Any]:
    # Server tools come without a schema; theirs is not known here.
    arguments = instance(tool.get("input_schema") or {"type": "object"}, prompt.text)
    return {
        "type": "tool_use",
        "id": f"toolu_sim_{digest}",
        "name": tool.get("name", "simulated_tool"),
        "input": arguments,
        "caller": {"type": "direct"},
    }


def _server_tool_use(prompt: Prompt, digest: str) -> dict[str, Any]:
    """Return the search in whose midst the turn was paused."""
    return {
        "type": "server_tool_use",
        "id": f"srvtoolu_sim_{digest}",
        "name": "web_search",
        "input": {"query": prompt.text[:80]},
        "caller": {"type": "direct"},
    }
