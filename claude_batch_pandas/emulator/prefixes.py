"""The beginnings of a request that a prompt cache can know: tools, system, messages, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from claude_batch_pandas.emulator.prompts import BYTES_PER_TOKEN, media_tokens, text_size
from claude_batch_pandas.emulator.sources import Find, no_files

_MAX_BREAKPOINTS = 4
_TTLS = ("5m", "1h")
_BREAKPOINT = "cache_control"


class Boundary(NamedTuple):
    """Where a prefix may end: after a block."""

    key: bytes  # of everything up to here
    tokens: int  # of everything up to here
    ttl: str | None  # of the breakpoint that stands here


def boundaries(params: Mapping[str, Any], find: Find = no_files) -> list[Boundary]:
    """Return where prefixes of a request end, up to its last breakpoint; none without one.

    `find` looks for the files that the request names.
    """
    if not _is_marked(params):
        return []
    found: list[Boundary] = []
    blocks = list(_blocks(params))
    tail = params.get(_BREAKPOINT)
    while not tail and not blocks[-1][1].get(_BREAKPOINT):
        blocks.pop()
    # What the answer shall look like changes the whole prompt; thinking only the conversation.
    digest = blake2b(orjson.dumps([params["model"], params.get("output_config")]), digest_size=16)
    begun = False
    size = media = 0
    for section, block in blocks:
        if section not in {"tools", "system"} and not begun:
            begun = True
            digest.update(orjson.dumps([params.get("thinking"), params.get("tool_choice")]))
        bare = {name: value for name, value in block.items() if name != _BREAKPOINT}
        digest.update(orjson.dumps([section, bare]))
        length = len(orjson.dumps(block)) if section == "tools" else text_size(block)
        size += length + bool(length)  # as they are joined where a whole prompt is measured
        media += media_tokens(block, params["model"], find)
        tokens = media + round(max(0, size - 1) / BYTES_PER_TOKEN)
        found.append(Boundary(digest.digest(), tokens, _ttl(block.get(_BREAKPOINT))))
    if tail:
        found[-1] = found[-1]._replace(ttl=_ttl(tail))
    return found


def breakpoint_error(params: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a request's breakpoints; None when nothing is."""
    if not _is_marked(params):
        return None
    marks = [block[_BREAKPOINT] for _, block in _blocks(params) if block.get(_BREAKPOINT)]
    if tail := params.get(_BREAKPOINT):
        marks.append(tail)
    for mark in marks:
        if not isinstance(mark, dict) or mark.get("type") != "ephemeral":
            return "cache_control: Input should be an object of type 'ephemeral'"
        if mark.get("ttl") not in {None, *_TTLS}:
            return f"cache_control.ttl: Input should be '5m' or '1h', not {mark['ttl']!r}"
    if len(marks) > _MAX_BREAKPOINTS:
        return (
            f"A maximum of {_MAX_BREAKPOINTS} blocks with cache_control may be provided. "
            f"Found {len(marks)}."
        )
    ttls = [_ttl(mark) for mark in marks]
    if "5m" in ttls and "1h" in ttls[ttls.index("5m") :]:
        return (
            "cache_control.ttl: a ttl='1h' block must not come after a ttl='5m' block; blocks are "
            "processed in the order tools, system, messages"
        )
    return None


def _is_marked(params: Mapping[str, Any]) -> bool:
    """Whether there is any breakpoint; told fast, since nearly every request has none."""
    if params.get(_BREAKPOINT):
        return True
    contents = [params.get("tools"), params.get("system")]
    contents += [turn["content"] for turn in params["messages"]]
    return any(
        block.get(_BREAKPOINT)
        for content in contents
        if isinstance(content, list)
        for block in content
    )


def _ttl(mark: Mapping[str, Any] | None) -> str | None:
    return (mark.get("ttl") or _TTLS[0]) if mark else None


def _blocks(params: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every block with the name of its section; a string is one text block."""
    for tool in params.get("tools") or ():
        yield "tools", tool
    for block in _content(params.get("system") or ()):
        yield "system", block
    for turn in params["messages"]:
        for block in _content(turn["content"]):
            yield f"messages/{turn['role']}", block


def _content(content: Any) -> Any:
    return ({"type": "text", "text": content},) if isinstance(content, str) else content
