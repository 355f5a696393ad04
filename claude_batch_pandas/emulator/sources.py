"""Where image and document blocks have their content from, and what the API refuses of that."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from claude_batch_pandas.emulator.errors import EXTRA
from claude_batch_pandas.emulator.media import IMAGES, PDF, TEXT, Medium, examine

Find = Callable[[str], Medium | None]
"""Finds a file of a workspace by its id; None when it is not there, or not any more."""

_TYPES = {
    "image": ("base64", "url", "file"),
    "document": ("base64", "text", "content", "url", "file"),
}
_FIELDS = {
    "base64": ("media_type", "data"),
    "text": ("media_type", "data"),
    "content": ("content",),
    "url": ("url",),
    "file": ("file_id",),
}
_BASE64 = {"image": IMAGES, "document": (PDF,)}
_FILES = {"image": IMAGES, "document": (PDF, TEXT)}
_INSIDE = ("text", "image")  # blocks that a document may be made of
_SCHEMES = {"http", "https"}


def no_files(_file_id: str) -> None:
    """Find nothing: the workspace has no files."""


def media_error(messages: Sequence[Mapping[str, Any]], find: Find) -> str | None:
    """Return what is wrong with the images and documents of valid messages, if anything."""
    for position, message in enumerate(messages):
        content = message["content"]
        if isinstance(content, str):
            continue
        place = f"messages.{position}.content"
        types = [block["type"] for block in content]
        # Within a server tool's result they may stand.
        if message["role"] == "assistant" and "document" in types:
            number = types.index("document")
            return f"{place}.{number}: 'document' blocks are not permitted in assistant messages"
        for inner, block in media_blocks(content):
            if problem := _source_error(block, find):
                return f"{place}.{inner}{problem}"
    return None


def media_blocks(content: Sequence[Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the image and document blocks, those in tool results too, with their places."""
    for number, block in enumerate(content):
        if _kind_of(block) in _TYPES:
            yield str(number), block
        elif _kind_of(block) == "tool_result" and isinstance(block.get("content"), list):
            for position, inner in enumerate(block["content"]):
                if _kind_of(inner) in _TYPES:
                    yield f"{number}.tool_result.content.{position}", inner


def medium_of(source: Mapping[str, Any], find: Find) -> Medium | None:
    """Return what a valid source holds; None when nothing here can tell, as behind a URL."""
    kind = source["type"]
    if kind == "base64":
        return examine(base64.b64decode(source["data"]), source["media_type"])
    if kind == "text":
        return Medium(TEXT, TEXT, len(source["data"].encode()))
    return find(source["file_id"]) if kind == "file" else None


def _kind_of(block: Any) -> str:
    kind = block.get("type") if isinstance(block, Mapping) else None
    return kind if isinstance(kind, str) else ""


def _source_error(block: Mapping[str, Any], find: Find) -> str | None:
    """Return what is wrong with a block's source, as the tail of a message."""
    kind = block["type"]
    place = f".{kind}.source"
    if "source" not in block:
        return f"{place}: Field required"
    source = block["source"]
    if not isinstance(source, dict):
        return f"{place}: Input should be a valid dictionary"
    problem = _shape_error(source, _TYPES[kind])
    if problem is None and (problem := _value_error(kind, source, find)):
        problem = f".{source['type']}{problem}"
    return f"{place}{problem}" if problem else None


def _shape_error(source: dict[str, Any], tags: Sequence[str]) -> str | None:
    if "type" not in source:
        return ": Unable to extract tag using discriminator 'type'"
    tag = source["type"]
    if tag not in tags:
        return f": {_unexpected(tag, tags)}"
    for name in _FIELDS[tag]:
        if name not in source:
            return f".{tag}.{name}: Field required"
    for name in source:
        if name not in ("type", *_FIELDS[tag]):
            return f".{tag}.{name}: {EXTRA}"
    return None


def _value_error(kind: str, source: dict[str, Any], find: Find) -> str | None:
    tag = source["type"]
    if tag == "base64":
        return _base64_error(kind, source)
    if tag == "content":
        return _content_error(source["content"], find)
    name = {"text": "data", "url": "url", "file": "file_id"}[tag]
    if not isinstance(source[name], str):
        return f".{name}: Input should be a valid string"
    if tag == "text":
        return _text_error(source)
    if tag == "url":
        return _url_error(source["url"])
    return _file_error(kind, source["file_id"], find)


def _base64_error(kind: str, source: dict[str, Any]) -> str | None:
    if source["media_type"] not in _BASE64[kind]:
        return f".media_type: Input should be {_either(_BASE64[kind])}"
    if not isinstance(source["data"], str):
        return ".data: Input should be a valid string"
    try:
        data = base64.b64decode(source["data"], validate=True)
    except (binascii.Error, ValueError):
        return ": invalid base64 data"
    if not data:
        return f": {'image' if kind == 'image' else 'PDF'} cannot be empty"
    problem = _claim_error(examine(data, source["media_type"]))
    return f": {problem}" if problem else None


def _file_error(kind: str, file_id: str, find: Find) -> str | None:
    medium = find(file_id)
    if medium is None:
        return f".file_id: File not found: {file_id}"
    if medium.claimed not in _FILES[kind]:
        return (
            f".file_id: The file {file_id} is of type '{medium.claimed}'; "
            f"in a block of type '{kind}' it should be {_either(_FILES[kind])}"
        )
    problem = _claim_error(medium)
    return f".file_id: {problem}" if problem else None


def _claim_error(medium: Medium) -> str | None:
    """Return how the bytes differ from the media type they were sent as."""
    if medium.media_type == medium.claimed:
        return None
    if medium.claimed == TEXT:
        return "The text specified was not valid."
    if medium.claimed == PDF:
        return "The PDF specified was not valid."
    if medium.media_type not in IMAGES:
        return "Could not process image"
    return (
        f"The image was specified using the {medium.claimed} media type, "
        f"but the image appears to be a {medium.media_type} image"
    )


def _text_error(source: dict[str, Any]) -> str | None:
    if source["media_type"] != TEXT:
        return f".media_type: Input should be '{TEXT}'"
    return None if source["data"] else ".data: String should have at least 1 character"


def _url_error(url: str) -> str | None:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ".url: Input should be a valid URL"
    if parts.scheme not in _SCHEMES:
        return ".url: Only HTTP and HTTPS URLs are supported"
    return None if parts.netloc else ".url: Input should be a valid URL"


def _content_error(content: Any, find: Find) -> str | None:
    """Return what is wrong with a document that is made of blocks."""
    if isinstance(content, str):
        return None if content else ".content: String should have at least 1 character"
    if not isinstance(content, list):
        return ".content: Input should be a valid string or list"
    for number, block in enumerate(content):
        if not isinstance(block, dict):
            return f".content.{number}: Input should be a valid dictionary"
        if block.get("type") not in _INSIDE:
            return f".content.{number}: {_unexpected(block.get('type'), _INSIDE)}"
        problem = _source_error(block, find) if block["type"] == "image" else None
        if problem:
            return f".content.{number}{problem}"
    return None


def _unexpected(tag: Any, expected: Sequence[str]) -> str:
    names = ", ".join(f"'{name}'" for name in expected)
    return (
        f"Input tag {str(tag)!r} found using 'type' does not match any of the expected tags: "
        f"{names}"
    )


def _either(names: Sequence[str]) -> str:
    """Return the names as the API lists them: 'a', 'b' or 'c'."""
    *others, last = (f"'{name}'" for name in names)
    return f"{', '.join(others)} or {last}" if others else last
