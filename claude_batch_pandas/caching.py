"""Which part of a prompt is the same in every row, marked so that the API's cache can serve it.

The mark stands after the last text that no row changes: after the system prompt, or after the head
of the first text with a field in it. On the varying text it would write an entry per row that
nothing ever reads. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.templates import as_messages

TTLS = ("5m", "1h")
BYTES_PER_TOKEN = 3.1  # of English in current models' tokens; an estimate


class Marked(NamedTuple):
    """A prompt with its mark.

    Attributes
    ----------
    template, system
        As they were given, with one text split and marked.
    size : int
        Bytes of text before the mark.
    """

    template: Any
    system: Any
    size: int


def mark(template: Any, system: Any, cache: Any, *, has_history: bool = False) -> Marked:
    """Return a prompt whose shared beginning is marked for the cache.

    Parameters
    ----------
    template : str or list of dict
    system : str, list of dict or None
    cache : True, "5m" or "1h"
        How long an entry lives after its last use; True is five minutes.
    has_history : bool
        Whether a conversation of each row comes before the messages.

    Raises
    ------
    InputError
        When nothing is shared, or the template is a function.
    """
    if cache is not True and cache not in TTLS:
        msg = f"cache must be True, '5m' or '1h', not {cache!r}."
        raise InputError(msg)
    if callable(template):
        msg = (
            "cache= needs a template that is text or messages: what a function returns is not "
            "known before. Return blocks with cache_control from it, or put what all rows share "
            "into system=."
        )
        raise InputError(msg)
    control = {"type": "ephemeral"} if cache is True else {"type": "ephemeral", "ttl": cache}
    blocks = _Blocks(control)
    marked_system = None if system is None else blocks.content(system)
    messages = template
    if isinstance(template, str):
        messages = [{"role": "user", "content": template}]
    if isinstance(messages, list | tuple) and not has_history:  # what was said before comes first
        messages = [
            {**message, "content": blocks.content(message["content"])}
            if isinstance(message, Mapping) and "content" in message
            else message
            for message in as_messages(messages)
        ]
    if blocks.last is None:
        msg = (
            "Nothing is the same in every row, so there is nothing to cache: the prompt begins "
            "with a field. Put what all rows share first, or into system=."
        )
        raise InputError(msg)
    blocks.last["cache_control"] = control
    return Marked(messages, marked_system, blocks.size)


class _Blocks:
    """Walks the texts of a prompt in the order of the request, up to the first that varies."""

    def __init__(self, control: dict[str, str]) -> None:
        self._control = control
        self.last: dict[str, Any] | None = None  # the last block that is the same in every row
        self.size = 0
        self._is_over = False

    def content(self, content: Any) -> Any:
        """Return a content with its blocks written out, as far as they are shared."""
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        if not isinstance(content, list | tuple):
            self._is_over = True  # a column of contents, say
            return content
        return [part for block in content for part in self._block(block)]

    def _block(self, block: Any) -> list[Any]:
        if isinstance(block, str):
            block = {"type": "text", "text": block}
        self._is_over = self._is_over or not isinstance(block, Mapping)  # an image of each row
        text = block.get("text") if isinstance(block, Mapping) else None
        if self._is_over or not isinstance(text, str):
            if not self._is_over and isinstance(block, Mapping):
                self.last = dict(block)  # an image, say, that all rows share
                return [self.last]
            return [block]
        head, tail = split(text)
        self._is_over = bool(tail)
        shared: list[Any] = []
        if head.strip():
            self.last = {**block, "text": head}
            self.size += len(head.encode(errors="replace"))
            shared = [self.last]
            head = ""
        return [*shared, {**block, "text": head + tail}] if tail else shared or [block]


def split(text: str) -> tuple[str, str]:
    """Return what stands before the first field of a template, and the rest."""
    position = 0
    while True:
        position = text.find("{", position)
        if position < 0:
            return text, ""
        if text[position : position + 2] != "{{":
            return text[:position], text[position:]
        position += 2
