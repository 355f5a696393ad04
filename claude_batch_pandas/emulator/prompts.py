"""What a request says: its texts, its labels and its size in tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from claude_batch_pandas.emulator.labels import labels_of, without_labels

BYTES_PER_TOKEN = 3.1  # English on the tokenizer of the 5.x models
MEDIA_TOKENS = 1_500  # an image or a page, roughly; its base64 says nothing about its tokens
_MEDIA = {"image", "document"}
_OVERHEAD_TOKENS = 8  # what surrounds even the shortest prompt


class Prompt(NamedTuple):
    """What the answers look at."""

    text: str  # the last user text, without a line of labels
    labels: tuple[str, ...]  # of a line "labels: a, b, c" anywhere in the request
    tokens: int


def tokens_of(text: str) -> int:
    """Return about how many tokens a text has."""
    return round(_size(text) / BYTES_PER_TOKEN)


def last_user_text(params: Mapping[str, Any]) -> str:
    """Return the text of the last user turn."""
    # The first turn is the user's: that was checked when the request came.
    turns = (turn for turn in reversed(params["messages"]) if turn["role"] == "user")
    content = next(turns)["content"]
    return content if isinstance(content, str) else "\n".join(_texts(content))


def read(params: Mapping[str, Any]) -> Prompt:
    """Read a request whose params were found valid."""
    contents = [turn["content"] for turn in params["messages"]]
    if params.get("system"):
        contents.insert(0, params["system"])
    parts: list[str] = []
    tokens = _OVERHEAD_TOKENS
    for content in contents:
        if isinstance(content, str):
            parts.append(content)
        else:
            parts += _texts(content)
            tokens += MEDIA_TOKENS * sum(map(is_media, content))
    whole = "\n".join(parts)
    size = _size(whole)
    for name in ("tools", "output_config"):
        if name in params:
            size += len(orjson.dumps(params[name]))
    text = last_user_text(params)
    labels = labels_of(whole)
    if labels:
        text = without_labels(text)
    return Prompt(text, labels, tokens + round(size / BYTES_PER_TOKEN))


def is_media(block: Mapping[str, Any]) -> bool:
    """Whether a block is an image or a document."""
    return block.get("type") in _MEDIA


def text_size(block: Mapping[str, Any]) -> int:
    """Return the length of a block's text in bytes."""
    return sum(map(_size, _texts([block])))


def _size(text: str) -> int:
    """Return the text's length in bytes."""
    return len(text) if text.isascii() else len(text.encode())


def _texts(blocks: list[Any]) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, dict) and isinstance(text := block.get("text"), str):
            yield text
