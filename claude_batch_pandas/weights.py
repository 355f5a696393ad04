"""What requests weigh: bytes of text, tokens of images and documents, tokens of answers at most.

Pure.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import compress
from operator import not_
from typing import Any, NamedTuple

import orjson

from claude_batch_pandas import models, pictures
from claude_batch_pandas.abilities import NEW_EYES, shipped, version_of
from claude_batch_pandas.requests import LINE_FRAME, params_of
from claude_batch_pandas.slots import media_in

OLD_BYTES, NEW_BYTES = 4.0, 3.1  # per token of English, before version 4.7 and since (its page)
FRAME = 80  # bytes of a request that are JSON around its texts
PAGE_TOKENS = 3_000  # of a PDF, the upper end of what its page says
PAGE_SIGHT = 4_784  # and those that a page may have as an image, beside its text
PAGES = (b"/Type /Page", b"/Type/Page")
PACKED = b"/ObjStm"  # of a PDF that may hold pages nobody sees without unpacking them
LARGEST_PROMPT = 1_000_000  # tokens that any model reads
MARK, SOURCE = b'"cache_control"', b'"source"'  # of a cached part, of an image or document
CLIENT_TOOLS = ("custom", "bash_", "text_editor_", "computer_", "memory_")  # somebody else runs
UNBOUNDED = ("mcp_servers", "context_management", "container", "fallbacks", "speed")

SHORT_TOKENS = models.TIER_TOKENS - 2_000  # what the API adds to a prompt counts, too


class Tier(IntEnum):
    """Whether prompts are priced as long ones."""

    SHORT = 0  # no: they have fewer bytes than that takes tokens
    PERHAPS = 1  # if their language is dear
    LONG = 2  # yes, by what is usual


Key = tuple[str, Tier]  # of a model and a tier


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
    pages, unseen : int
        Of documents; and documents whose pages nobody can count here.
    marked : int
        Requests that mark something for the prompt cache.
    unbounded : int
        Requests for which the API runs tools of its own, which may read any amount.
    """

    requests: int = 0
    text: int = 0
    media: int = 0
    most: int = 0
    pages: int = 0
    unseen: int = 0
    marked: int = 0
    unbounded: int = 0

    @property
    def at_most(self) -> int:
        """Tokens of the prompts at most: no token is less than a byte."""
        return self.text + self.media + self.pages * PAGE_SIGHT + self.unseen * LARGEST_PROMPT

    def plus(self, other: Load) -> Load:
        """Return both together."""
        return Load(*(mine + its for mine, its in zip(self, other, strict=True)))


@dataclass(slots=True)
class Scale:
    """Weighs requests, and keeps nothing but sums.

    Parameters
    ----------
    params : mapping
        Messages parameters that all requests have; where a limit is not among them, or no constant,
        every request is read for it.
    is_uniform : bool
        Whether they differ in texts alone, so that one shows what is in all.
    """

    params: Mapping[str, Any]
    is_uniform: bool = False
    loads: dict[Key, Load] = field(default_factory=dict)

    def add(self, lines: Sequence[bytes], sizes: Iterable[int] | None = None) -> None:
        """Weigh request lines.

        Parameters
        ----------
        lines : sequence of bytes
        sizes : iterable of int, optional
            Bytes of each, where they are known.
        """
        model: Any = self.params.get("model")
        most: Any = self.params.get("max_tokens")
        is_known = isinstance(model, str) and isinstance(most, int)
        whole = map(len, lines) if sizes is None else sizes
        sizes = [size - FRAME - LINE_FRAME for size in whole]
        # Within a text, JSON escapes every quote, so that no text looks like either.
        has_media = any(SOURCE in line for line in (lines[:1] if self.is_uniform else lines))
        plain: Sequence[bytes] = lines
        if not is_known or has_media or max(sizes, default=0) > SHORT_TOKENS:
            is_plain = [
                is_known and SOURCE not in line and size <= SHORT_TOKENS
                for line, size in zip(lines, sizes, strict=True)
            ]
            for line in compress(lines, map(not_, is_plain)):
                self.put(*weigh(params_of(line)))
            plain, sizes = [*compress(lines, is_plain)], [*compress(sizes, is_plain)]
        if plain:
            marked = sum(MARK in line for line in (plain[:1] if self.is_uniform else plain))
            marked *= len(plain) if self.is_uniform else 1
            load = Load(len(plain), max(0, sum(sizes)), 0, len(plain) * most, marked=marked)
            self._sum((model, Tier.SHORT), load)

    def put(self, model: str, load: Load) -> None:
        """Take one request that was weighed."""
        self._sum((model, _tier(model, load)), load)

    def _sum(self, key: Key, load: Load) -> None:
        self.loads[key] = self.loads.get(key, Load()).plus(load)


def together(parts: Iterable[Mapping[Key, Load]]) -> dict[Key, Load]:
    """Return what several weigh together."""
    whole: dict[Key, Load] = {}
    for part in parts:
        for key, load in part.items():
            whole[key] = whole.get(key, Load()).plus(load)
    return whole


def dump(loads: Mapping[Key, Load]) -> str:
    """Return loads as the ledger keeps them."""
    return orjson.dumps([[*key, *load] for key, load in loads.items()]).decode()


def load(text: str) -> dict[Key, Load]:
    """Return the loads that `dump` wrote."""
    return {(model, Tier(tier)): Load(*rest) for model, tier, *rest in orjson.loads(text)}


def _tier(model: str, load: Load) -> Tier:
    """Return the tier of one request: at most a token for every byte."""
    if load.text / bytes_per_token(model) + load.media > models.TIER_TOKENS:
        return Tier.LONG
    return Tier.SHORT if load.at_most <= SHORT_TOKENS else Tier.PERHAPS


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
    marked = int(MARK in request)
    most, unbounded = int(params["max_tokens"]), int(not is_bounded(params))
    whole = Load(1, len(request) - FRAME, 0, most, marked=marked, unbounded=unbounded)
    for kind, source in media_in(params, {"image", "document"}):
        whole = whole.plus(_weigh_media(kind, source, model))
    return model, whole._replace(text=max(0, whole.text))


def is_bounded(params: Mapping[str, Any]) -> bool:
    """Tell whether what is asked for is all that is read: the API runs none of its own tools."""
    tools = params.get("tools")
    if any(name in params for name in UNBOUNDED) or not isinstance(tools, list | tuple | None):
        return False
    kinds = [str(tool.get("type") or "custom") for tool in tools or () if isinstance(tool, Mapping)]
    return all(kind.startswith(CLIENT_TOOLS) for kind in kinds)


def _weigh_media(kind: str, source: Mapping[str, Any], model: str) -> Load:
    """Return what an image or document weighs in place of its data; the most for an unseen image."""
    if source.get("type") in {"text", "content"}:
        return Load()  # it stands in the request as text
    data = str(source.get("data") or "") if source.get("type") == "base64" else ""
    try:
        raw = base64.b64decode(data)
    except binascii.Error:
        raw = b""
    if kind == "image":
        return Load(text=-len(data), media=pictures.tokens(raw, shipped(model).sight))
    pages = max(0, sum(raw.count(mark) - raw.count(mark + b"s") for mark in PAGES))
    tokens = PAGE_TOKENS * max(1, pages)
    is_unseen = not pages or PACKED in raw
    return Load(text=-len(data), media=tokens, pages=pages, unseen=int(is_unseen))
