"""The shape of a request: all of it but its texts, so that one answer speaks for those like it. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

SMALL = 20_000_000  # bytes; the Messages API takes a little more
VARYING = frozenset({"messages", "metadata", "system"})


def shape_of(line: bytes) -> str:
    """Return the hash of the shape of a request line.

    Two requests of one shape differ in texts, images and documents alone: what the API says of the
    parameters of one is true of the other.
    """
    params = json.loads(line)["params"]
    told = {name: value for name, value in params.items() if name not in VARYING}
    skeleton = [
        [message.get("role"), _kinds(message.get("content"))] for message in params["messages"]
    ]
    told |= {"messages": skeleton, "system": _kinds(params.get("system"))}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def firsts(lines: Sequence[bytes], most: int) -> dict[int, str]:
    """Return where the first request of each shape stands, and its shape.

    Parameters
    ----------
    lines : sequence of bytes
        Request lines.
    most : int
        Shapes to return at most.
    """
    found: dict[str, int] = {}
    for i, line in enumerate(lines):
        if len(found) < most and len(line) <= SMALL:
            found.setdefault(shape_of(line), i)
    return {i: shape for shape, i in found.items()}


def _kinds(content: Any) -> Any:
    if not isinstance(content, list):
        return type(content).__name__
    return [_kind(block) for block in content]


def _kind(block: Any) -> Any:
    if not isinstance(block, Mapping):
        return None
    source = block.get("source")
    kind = source.get("type") if isinstance(source, Mapping) else None
    return [block.get("type"), kind, sorted(block)]
