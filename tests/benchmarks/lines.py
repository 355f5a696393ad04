"""A line of results, as far as the least pipeline reads it."""

from __future__ import annotations

import msgspec


class Block(msgspec.Struct, gc=False):
    """Of text."""

    type: str
    text: str


class Usage(msgspec.Struct, gc=False):
    """Tokens."""

    input_tokens: int
    output_tokens: int


class Message(msgspec.Struct, gc=False):
    """An answer."""

    content: list[Block]
    usage: Usage


class Outcome(msgspec.Struct, gc=False):
    """What became of a request."""

    type: str
    message: Message | None = None


class Line(msgspec.Struct, gc=False):
    """One request."""

    custom_id: str
    result: Outcome


decode = msgspec.json.Decoder(Line).decode_lines
