"""What a request says: its texts, its labels and its size in tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from claude_batch_pandas.emulator.labels import labels_of, without_labels
from claude_batch_pandas.emulator.media import TEXT, Medium
from claude_batch_pandas.emulator.models import image_limit
from claude_batch_pandas.emulator.sources import Find, media_blocks, medium_of, no_files

BYTES_PER_TOKEN = 3.1  # English on the tokenizer of the 5.x models
_PATCH = 28  # an image costs a token for each square of so many pixels
_IMAGE_TOKENS = 1_500  # of an image that nobody measured
_PAGE_TOKENS = 2_000  # of a PDF: its text, and a picture of it
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


def read(params: Mapping[str, Any], find: Find = no_files) -> Prompt:
    """Read a request whose params were found valid; `find` looks for the files it names."""
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
            tokens += sum(media_tokens(block, params["model"], find) for block in content)
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


def media_tokens(block: Any, model: str, find: Find = no_files) -> int:
    """Return what the images and documents in a block cost; 0 when there are none."""
    return sum(_tokens_of_media(inner, model, find) for _, inner in media_blocks([block]))


def _tokens_of_media(block: Mapping[str, Any], model: str, find: Find) -> int:
    source = block["source"]
    if source["type"] == "content":
        return _composed_tokens(source["content"], model, find)
    medium = medium_of(source, find)
    if medium is None:
        return _PAGE_TOKENS if block["type"] == "document" else _IMAGE_TOKENS
    if medium.media_type == TEXT:
        return round(medium.size / BYTES_PER_TOKEN)
    return medium.pages * _PAGE_TOKENS or _image_tokens(medium, model)


def _composed_tokens(content: Any, model: str, find: Find) -> int:
    """Return what a document costs that is made of text, or of blocks."""
    if isinstance(content, str):
        return tokens_of(content)
    media = sum(media_tokens(block, model, find) for block in content)
    return media + round(sum(map(text_size, content)) / BYTES_PER_TOKEN)


def _image_tokens(medium: Medium, model: str) -> int:
    patches = math.ceil(medium.width / _PATCH) * math.ceil(medium.height / _PATCH)
    return min(patches or _IMAGE_TOKENS, image_limit(model))


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
