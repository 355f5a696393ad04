"""What requests weigh: bytes of text, tokens of images and documents, tokens of answers at most.

Pure.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from claude_batch_pandas import models, pictures
from claude_batch_pandas.abilities import NEW_EYES, shipped, version_of

OLD_BYTES, NEW_BYTES = 4.0, 3.1  # per token of English, before version 4.7 and since (its page)
FRAME = 80  # bytes of a request that are JSON around its texts
PAGE_TOKENS = 3_000  # of a PDF, the upper end of what its page says
PAGES = (b"/Type /Page", b"/Type/Page")

Key = tuple[str, bool]  # model; whether its prompts are in the tier of long ones


class Load(NamedTuple):
    """What requests weigh together.

    Attributes
    ----------
    requests : int
    text : int
        Bytes of their JSON, without the data of images and documents.
    media : int
        Tokens of images and documents.
    most : int
        Tokens that their answers may have.
    """

    requests: int = 0
    text: int = 0
    media: int = 0
    most: int = 0

    def plus(self, other: Load) -> Load:
        """Return both together."""
        return Load(*(mine + its for mine, its in zip(self, other, strict=True)))


@dataclass(slots=True)
class Scale:
    """Weighs requests, and keeps nothing but sums.

    Parameters
    ----------
    params : mapping
        Messages parameters; where one is no constant, every request is read for it.
    """

    params: Mapping[str, Any]
    loads: dict[Key, Load] = field(default_factory=dict)

    def add(self, head: bytes, tails: Iterable[bytes]) -> None:
        """Weigh requests.

        Parameters
        ----------
        head : bytes
            What the params of all of them begin with.
        tails : iterable of bytes
            The rest of each.
        """
        model, most = self.params["model"], self.params["max_tokens"]
        is_plain = isinstance(model, str) and isinstance(most, int) and b'"source"' not in head
        size = len(head) - FRAME
        longest = models.TIER_TOKENS * bytes_per_token(model) if is_plain else 0.0
        count = text = 0
        for tail in tails:
            whole = size + len(tail)
            if not is_plain or b'"source"' in tail or whole > longest:
                self._put(*weigh(head + tail))
                continue
            count += 1
            text += whole
        if count:
            self._put(model, Load(count, text, 0, count * most))

    def _put(self, model: str, load: Load) -> None:
        one = load.text / bytes_per_token(model) + load.media
        key = model, load.requests == 1 and one > models.TIER_TOKENS
        self.loads[key] = self.loads.get(key, Load()).plus(load)


def bytes_per_token(model: str) -> float:
    """Return how many bytes of English a token of a model is."""
    version = version_of(model)
    return OLD_BYTES if version is not None and version.number < NEW_EYES else NEW_BYTES


def weigh(request: bytes) -> tuple[str, Load]:
    """Return the model of a request, and what it weighs.

    Parameters
    ----------
    request : bytes
        Its params as JSON.
    """
    params = orjson.loads(request)
    model = str(params.get("model"))
    media = data = 0
    for block in _media(params):
        source = block["source"]
        found = str(source.get("data") or "") if source.get("type") == "base64" else ""
        data += len(found)
        media += _media_tokens(block, found, model)
    return model, Load(1, max(0, len(request) - FRAME - data), media, int(params["max_tokens"]))


def _media(part: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every image and document in a request, however deep."""
    if isinstance(part, Mapping):
        if part.get("type") in {"image", "document"} and isinstance(part.get("source"), Mapping):
            yield part
        for value in part.values():
            yield from _media(value)
    elif isinstance(part, list):
        for value in part:
            yield from _media(value)


def _media_tokens(block: Mapping[str, Any], data: str, model: str) -> int:
    """Return the tokens of an image or document; the most for an image that is not here."""
    sight = shipped(model).sight
    if block["source"].get("type") in {"text", "content"}:
        return 0  # it stands in the request as text
    try:
        raw = base64.b64decode(data)
    except binascii.Error:
        raw = b""
    if block["type"] == "document":
        pages = sum(raw.count(mark) - raw.count(mark + b"s") for mark in PAGES)
        return PAGE_TOKENS * max(1, pages)
    return pictures.tokens(raw, sight)
