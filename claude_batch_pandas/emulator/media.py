"""What some bytes are: an image and how large, a PDF and of how many pages, or a text.

It looks at headers only; whether the rest of a file can be shown is not asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
PDF = "application/pdf"
TEXT = "text/plain"

_PDF_HEADER = 1_024  # bytes among which readers look for it
_PAGE = re.compile(rb"/Type\s*/Page(?![A-Za-z])")
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
# JPEG's markers C0 to CF begin a frame and tell its size, but for three.
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_FILL = 0xFF  # may stand before a marker any number of times
_Size = tuple[int, int]
_UNKNOWN: _Size = (0, 0)


class Medium(NamedTuple):
    """What is known of an image or a document, without its bytes."""

    claimed: str  # the media type it was sent as
    media_type: str  # what its bytes are; empty when they are nothing that a model reads
    size: int  # in bytes
    width: int = 0  # 0 when it is not known
    height: int = 0
    pages: int = 0


def examine(data: bytes, claimed: str) -> Medium:
    """Look at some bytes that were sent as a media type.

    Examples
    --------
    >>> examine(b"GIF89a" + bytes([2, 0, 3, 0]), "image/png")[1:]
    ('image/gif', 10, 2, 3, 0)
    """
    # A text may well begin as one about PDFs does.
    media_type = TEXT if claimed == TEXT and _is_text(data) else sniff(data)
    width, height = _SIZES[media_type](data) if media_type in _SIZES else _UNKNOWN
    pages = max(1, len(_PAGE.findall(data))) if media_type == PDF else 0
    return Medium(claimed, media_type, len(data), width, height, pages)


def sniff(data: bytes) -> str:
    """Return the media type that the first bytes tell; empty for what no model reads as such."""
    if data.startswith(_PNG):
        return "image/png"
    if data.startswith(_JPEG):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    return PDF if b"%PDF-" in data[:_PDF_HEADER] else ""


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _png(data: bytes) -> _Size:
    return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])


def _gif(data: bytes) -> _Size:
    return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")


def _jpeg(data: bytes) -> _Size:
    """Go from segment to segment, to the one that begins a frame."""
    position = len(_JPEG) - 1
    while data[position : position + 1] == b"\xff" and position + 9 <= len(data):
        marker = data[position + 1]
        if marker in _FRAMES:
            height = int.from_bytes(data[position + 5 : position + 7])
            return int.from_bytes(data[position + 7 : position + 9]), height
        length = 2 + int.from_bytes(data[position + 2 : position + 4])
        position += 1 if marker == _FILL else length
    return _UNKNOWN


def _webp(data: bytes) -> _Size:
    """Read the size where the kind of the first chunk has it."""
    chunk = data[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if chunk == b"VP8L":
        packed = int.from_bytes(data[21:25], "little")
        return 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width = int.from_bytes(data[26:28], "little") & 0x3FFF
        return width, int.from_bytes(data[28:30], "little") & 0x3FFF
    return _UNKNOWN


_SIZES: dict[str, Callable[[bytes], _Size]] = {
    "image/png": _png,
    "image/gif": _gif,
    "image/jpeg": _jpeg,
    "image/webp": _webp,
}
