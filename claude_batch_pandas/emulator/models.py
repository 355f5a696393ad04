"""What models think, cache and refuse: the differences between them that a request can meet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

THINKING_TYPES = ("adaptive", "between_tools", "disabled", "enabled")

_NAME = re.compile(r"claude-([a-z]+)-(\d+)(?:-(\d{1,2}))?(?:-\d{8})?")
_Version = tuple[int, int]
_OPUS_4_7 = 2_048
_MYTHOS_PREVIEW = "claude-mythos-preview"
_EFFORTS = ("low", "medium", "high", "xhigh", "max")


@lru_cache(maxsize=256)
def _family(model: str) -> tuple[str, _Version]:
    """Return a model's family and version; an unknown model has none."""
    name = _NAME.fullmatch(model)
    return (name[1], (int(name[2]), int(name[3] or 0))) if name else ("", (0, 0))


def _always_thinks(model: str) -> bool:
    family, version = _family(model)
    return family in {"fable", "mythos"} or (family == "opus" and version >= (5, 5))


def thinks(model: str, thinking: Mapping[str, Any] | None) -> bool:
    """Whether the answer begins with a thinking block."""
    if thinking:
        return thinking.get("type") in {"adaptive", "enabled"}
    return _family(model)[1] >= (5, 0)


def thinking_types(model: str) -> frozenset[str]:
    """Return the values of `thinking.type` that a model accepts; all for an unknown one."""
    family, version = _family(model)
    if not family:
        return frozenset(THINKING_TYPES)
    if _always_thinks(model):
        return frozenset(["adaptive"])
    if family == "sonnet" and version >= (5, 5):
        return frozenset(["adaptive", "between_tools"])
    if version >= (4, 7):
        return frozenset(["adaptive", "disabled"])
    if version >= (4, 6):
        return frozenset(["adaptive", "disabled", "enabled"])
    return frozenset(["disabled", "enabled"])


def efforts(model: str) -> tuple[str, ...]:
    """Return the levels of `output_config.effort` that a model knows."""
    family, version = _family(model)
    if version >= (4, 7):
        return _EFFORTS
    if version >= (4, 6):
        return ("low", "medium", "high", "max")
    return ("low", "medium", "high") if family == "opus" else ()


def image_limit(model: str) -> int:
    """Return the tokens that an image costs at most; larger ones are scaled down."""
    family, version = _family(model)
    return 1_568 if family and version < (4, 7) else 4_784


def cache_minimum(model: str) -> int:
    """Return the tokens below which a prefix is silently not cached."""
    family, version = _family(model)
    if version >= (5, 5) or (version >= (5, 0) and family != "sonnet"):
        return 512
    if model == _MYTHOS_PREVIEW or (family == "opus" and version == (4, 7)):
        return _OPUS_4_7
    small_and_old = family == "haiku" and version == (4, 5)
    return 4_096 if small_and_old or (family == "opus" and version in {(4, 5), (4, 6)}) else 1_024


def refusal_of(model: str, params: Mapping[str, Any]) -> str | None:
    """Return why this model refuses params that others accept; None when it does not."""
    family, version = _family(model)
    newest = version >= (5, 1) if family in {"fable", "mythos"} else version >= (5, 5)
    forced = (params.get("tool_choice") or {}).get("type") in {"any", "tool"}
    if forced and newest and family != "haiku":
        return "tool_choice: forced tool use is not supported on this model"
    if family and version < (4, 8) and _has_system_turn(params["messages"]):
        return "role 'system' is not supported on this model"
    if version >= (4, 6) and _is_prefilled(params["messages"][-1]):
        return (
            "This model does not support assistant message prefill. "
            "The conversation must end with a user message."
        )
    return _thinking_refusal(model, params)


def _thinking_refusal(model: str, params: Mapping[str, Any]) -> str | None:
    kind = (params.get("thinking") or {}).get("type")
    if kind is None:
        return None
    if kind not in THINKING_TYPES:
        return f"thinking.type: Input should be one of {list(THINKING_TYPES)}, not {kind!r}"
    accepted = thinking_types(model)
    if kind not in accepted:
        others = " or ".join(f"'{name}'" for name in sorted(accepted, reverse=True))
        return f"thinking.type: '{kind}' is not supported on this model; use {others}"
    effort = (params.get("output_config") or {}).get("effort")
    if kind == "disabled" and effort in {"xhigh", "max"} and _family(model) == ("opus", (5, 0)):
        return f"thinking.type: 'disabled' is not supported with effort '{effort}' on this model"
    return None


def _has_system_turn(messages: list[Mapping[str, Any]]) -> bool:
    return any(message["role"] == "system" for message in messages)


def _is_prefilled(last: Mapping[str, Any]) -> bool:
    """Whether the last turn begins the answer; a paused turn handed back does not."""
    if last["role"] != "assistant":
        return False
    content = last["content"]
    return isinstance(content, str) or content[-1].get("type") == "text"
