"""What models think by default, and what they refuse for thinking, prefill and forced tools."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

_NAME = re.compile(r"claude-([a-z]+)-(\d+)(?:-(\d{1,2}))?(?:-\d{8})?")
_Version = tuple[int, int]


@lru_cache(maxsize=256)
def _family(model: str) -> tuple[str, _Version]:
    """Return a model's family and version; an unknown model counts as old."""
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


def refusal_of(model: str, params: Mapping[str, Any]) -> str | None:
    """Return why this model refuses params that others accept; None when it does not."""
    family, version = _family(model)
    kind = (params.get("thinking") or {}).get("type")
    if kind in {"disabled", "enabled"} and _always_thinks(model):
        return (
            f"thinking.type: '{kind}' is not supported on this model; thinking is always adaptive"
        )
    if kind == "disabled" and family == "sonnet" and version >= (5, 5):
        return "thinking.type: 'disabled' is not supported on this model; use 'between_tools'"
    newest = version >= (5, 1) if family in {"fable", "mythos"} else version >= (5, 5)
    forced = (params.get("tool_choice") or {}).get("type") in {"any", "tool"}
    if forced and newest and family != "haiku":
        return "tool_choice: forced tool use is not supported on this model"
    if version >= (4, 6) and _is_prefilled(params["messages"][-1]):
        return (
            "This model does not support assistant message prefill. "
            "The conversation must end with a user message."
        )
    return None


def _is_prefilled(last: Mapping[str, Any]) -> bool:
    """Whether the last turn begins the answer; a paused turn handed back does not."""
    if last["role"] != "assistant":
        return False
    content = last["content"]
    return isinstance(content, str) or content[-1].get("type") == "text"
