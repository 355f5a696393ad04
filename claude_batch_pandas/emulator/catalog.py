"""The models there are, as the Models API describes them.

What a model thinks, and with how much effort, is told by the same functions that refuse a request.
Release dates and limits that are not known are left at the epoch, or at a plausible number.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

from claude_batch_pandas.emulator.models import THINKING_TYPES, efforts, thinking_types

ACTIVE, DEPRECATED = "active", "deprecated"

_EPOCH = "1970-01-01"
_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_COMMON = (
    "batch",
    "citations",
    "code_execution",
    "image_input",
    "pdf_input",
    "structured_outputs",
)
_EDITS = ("clear_thinking_20251015", "clear_tool_uses_20250919", "compact_20260112")
_SERVER_TOOLS = ("code_execution", "web_search")
_MILLION, _LARGE, _SMALL = 1_000_000, 128_000, 64_000
_OLD_WINDOW = 200_000


class Model(NamedTuple):
    """A model of the catalog."""

    id: str
    name: str
    released: str = _EPOCH
    max_input_tokens: int = _MILLION
    max_tokens: int = _LARGE
    retires: str | None = None  # a deprecated model's date

    @property
    def lifecycle(self) -> str:
        """Whether the model is active or deprecated."""
        return ACTIVE if self.retires is None else DEPRECATED

    def describe(self) -> dict[str, Any]:
        """Return the ModelInfo object."""
        line = self.id.split("-")[1]
        return {
            "type": "model",
            "id": self.id,
            "display_name": self.name,
            "created_at": _midnight(self.released),
            "lifecycle": self.lifecycle,
            "deprecated_at": _midnight(_EPOCH) if self.retires else None,
            "retires_at": _midnight(self.retires),
            "line": line,
            "max_input_tokens": self.max_input_tokens,
            "max_tokens": self.max_tokens,
            "capabilities": _capabilities(self.id),
        }


# Oldest first. The Models API lists what was released last first.
MODELS = (
    Model(
        "claude-sonnet-4-5-20250929",
        "Claude Sonnet 4.5",
        "2025-09-29",
        _OLD_WINDOW,
        _SMALL,
        "2026-11-30",
    ),
    Model("claude-haiku-4-5-20251001", "Claude Haiku 4.5", "2025-10-01", _OLD_WINDOW, _SMALL),
    Model("claude-opus-4-5-20251101", "Claude Opus 4.5", "2025-11-01", _OLD_WINDOW, _SMALL),
    Model("claude-sonnet-4-6", "Claude Sonnet 4.6"),
    Model("claude-opus-4-6", "Claude Opus 4.6"),
    Model("claude-mythos-preview", "Claude Mythos Preview", retires="2026-06-30"),
    Model("claude-opus-4-7", "Claude Opus 4.7"),
    Model("claude-opus-4-8", "Claude Opus 4.8"),
    Model("claude-opus-5", "Claude Opus 5"),
    Model("claude-mythos-5", "Claude Mythos 5"),
    Model("claude-fable-5", "Claude Fable 5"),
    Model("claude-sonnet-5", "Claude Sonnet 5"),
    Model("claude-mythos-5-1", "Claude Mythos 5.1"),
    Model("claude-opus-5-5", "Claude Opus 5.5"),
    Model("claude-fable-5-1", "Claude Fable 5.1"),
    Model("claude-sonnet-5-5", "Claude Sonnet 5.5"),
    Model("claude-haiku-5-5", "Claude Haiku 5.5", max_tokens=_SMALL),
    Model("claude-mythos-5-2", "Claude Mythos 5.2", "2026-11-09"),
    Model("claude-fable-5-2", "Claude Fable 5.2", "2026-11-09"),
)

# Names without a date stand for the snapshot that has one.
ALIASES = {
    model.id.rpartition("-")[0]: model.id
    for model in MODELS
    if model.id.rpartition("-")[2].startswith("2025")
}


def resolve(model_id: str) -> str:
    """Return the id that a name or an alias stands for; whether it exists is another question."""
    return ALIASES.get(model_id, model_id)


def _midnight(day: str | None) -> str | None:
    return f"{day}T00:00:00Z" if day else None


def _support(supported: bool) -> dict[str, bool]:
    return {"supported": supported}


def _each(names: Collection[str], supported: Collection[str]) -> dict[str, Any]:
    return {name: _support(name in supported) for name in names}


def _capabilities(model_id: str) -> dict[str, Any]:
    levels = efforts(model_id)
    return {
        **{name: _support(True) for name in _COMMON},
        "context_management": {**_support(True), **_each(_EDITS, _EDITS)},
        "effort": {**_support(bool(levels)), **_each(_EFFORTS, levels)},
        "server_tools": {**_support(True), **_each(_SERVER_TOOLS, _SERVER_TOOLS)},
        "thinking": {**_support(True), "types": _each(THINKING_TYPES, thinking_types(model_id))},
    }
