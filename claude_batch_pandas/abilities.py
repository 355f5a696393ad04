"""What a model accepts, as far as this package has to know: the API's own word, or a table.

The table is of 2026-11, from the API's pages. Of a model that neither knows, nothing is assumed: it
is sent what the caller asked for. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

_NAME = re.compile(r"claude-(?P<family>[a-z]+)-(?P<major>\d{1,2})(-(?P<minor>\d{1,2}))?(-\d{8})?")

OFF = {"thinking": {"type": "disabled"}}
BETWEEN = {"thinking": {"type": "between_tools"}}
LOW = {"output_config": {"effort": "low"}}

MINIMUMS = {
    512: {
        *(("opus", (5, 5)), ("opus", (5, 0)), ("sonnet", (5, 5)), ("haiku", (5, 5))),
        *(("fable", (5, 0)), ("fable", (5, 1)), ("mythos", (5, 0)), ("mythos", (5, 1))),
    },
    1_024: {("opus", (4, 8)), ("sonnet", (5, 0)), ("sonnet", (4, 6)), ("sonnet", (4, 5))},
    2_048: {("opus", (4, 7))},
    4_096: {("opus", (4, 6)), ("opus", (4, 5)), ("haiku", (4, 5))},
}
NEWEST = {"fable": (5, 2), "mythos": (5, 2)} | dict.fromkeys(("haiku", "opus", "sonnet"), (5, 5))
NEW_EYES = (4, 7)  # the version from which images are read at a higher resolution
ALWAYS = frozenset({"fable", "mythos"})  # families that always think


class Version(NamedTuple):
    """Which model a name means."""

    family: str
    number: tuple[int, int]


class Sight(NamedTuple):
    """The largest image that a model reads as it is; a larger one is scaled down."""

    edge: int  # pixels, the longer side
    tokens: int  # of 28 x 28 pixels each


OLD_SIGHT, NEW_SIGHT = Sight(1_568, 1_568), Sight(2_576, 4_784)  # the page on vision


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What one model accepts; None and empty mean that it is not known.

    Attributes
    ----------
    model : str
    structured : bool
        Answers by a JSON schema, and strict tools.
    thinking, efforts : frozenset of str
        Accepted values of ``thinking.type`` and of ``output_config.effort``.
    forced_tools : bool
        A ``tool_choice`` that forces a tool.
    prefill : bool
        A last message that begins the answer.
    images, pdfs, batches : bool
    max_tokens, max_input_tokens : int or None
        Tokens.
    sight : Sight
    retired, retires_at : bool, str
        Whether it is no longer served; the day (ISO 8601) from which it will not be.
    """

    model: str
    structured: bool = True
    thinking: frozenset[str] = frozenset()
    efforts: frozenset[str] = frozenset()
    forced_tools: bool = True
    prefill: bool = True
    images: bool = True
    pdfs: bool = True
    batches: bool = True
    max_tokens: int | None = None
    max_input_tokens: int | None = None
    sight: Sight = OLD_SIGHT
    retired: bool = False
    retires_at: str = ""


def version_of(model: str) -> Version | None:
    """Return the family and version in a model's name; None when it has none."""
    found = _NAME.fullmatch(model)
    if found is None:
        return None
    return Version(found["family"], (int(found["major"]), int(found["minor"] or 0)))


def shipped(model: str) -> Abilities:
    """Return what the table knows of a model."""
    version = version_of(model)
    if version is None:
        return Abilities(model=model)
    family, number = version
    if number > NEWEST.get(family, (0, 0)):
        return Abilities(model=model, sight=NEW_SIGHT)
    is_newest = number >= ((5, 1) if family in ALWAYS else (5, 5)) and family != "haiku"
    return Abilities(
        model=model,
        structured=number >= (4, 5),
        thinking=_thinking(version),
        efforts=_efforts(version),
        forced_tools=not is_newest,
        prefill=number < (4, 6),
        sight=NEW_SIGHT if number >= NEW_EYES else OLD_SIGHT,
    )


def told(info: Mapping[str, Any], model: str) -> Abilities:
    """Return what the Models API tells of a model; where it is silent, the table stands.

    Parameters
    ----------
    info : mapping
        A ModelInfo object.
    model : str
        The name it was asked for by.
    """
    found = shipped(model)
    can = info.get("capabilities")
    can = can if isinstance(can, Mapping) else {}
    kinds = _member(_member(can, "thinking"), "types")
    return replace(
        found,
        structured=_supports(can, "structured_outputs", found.structured),
        thinking=_supported(kinds) or found.thinking,
        efforts=_supported(_member(can, "effort")) or found.efforts,
        images=_supports(can, "image_input", found.images),
        pdfs=_supports(can, "pdf_input", found.pdfs),
        batches=_supports(can, "batch", found.batches),
        max_tokens=_count(info.get("max_tokens")),
        max_input_tokens=_count(info.get("max_input_tokens")),
        retired=info.get("lifecycle") == "retired",
        retires_at=str(info.get("retires_at") or "")[:10],
    )


def least_thinking(model: str) -> dict[str, Any]:
    """Return the params with which a model thinks as little as it can.

    A short answer needs no thinking, which is billed as output and counts toward `max_tokens`. From
    the API's page on thinking: what is on by default, and how each model turns it off.
    """
    version = version_of(model)
    if version is None or version.number < (5, 0):
        return {}  # the older ones think only when told to
    if version.family in ALWAYS or version == ("opus", (5, 5)):
        return LOW  # these always think
    if version == ("sonnet", (5, 5)):
        return BETWEEN
    known = version in {("haiku", (5, 5)), ("opus", (5, 0)), ("sonnet", (5, 0))}
    return OFF if known else {}


def cache_minimum(model: str) -> int | None:
    """Return the tokens below which a prefix is silently not cached; None when that is unknown.

    From the API's page on prompt caching.
    """
    version = version_of(model)
    return next((least for least, models in MINIMUMS.items() if version in models), None)


def always_thinks(model: str) -> bool:
    """Tell whether part of `max_tokens` goes into thinking, whatever is asked for."""
    return least_thinking(model) == LOW


def _thinking(version: Version) -> frozenset[str]:
    """Return the kinds of thinking that a model accepts (the API's page on thinking)."""
    family, number = version
    if family in ALWAYS or (family == "opus" and number >= (5, 5)):
        return frozenset({"adaptive"})
    if family == "sonnet" and number >= (5, 5):
        return frozenset({"adaptive", "between_tools"})
    if number >= (4, 7):
        return frozenset({"adaptive", "disabled"})
    older = {"disabled", "enabled"}
    return frozenset({*older, "adaptive"} if number >= (4, 6) else older)


def _efforts(version: Version) -> frozenset[str]:
    """Return the levels of effort that a model knows (the API's page on effort)."""
    family, number = version
    if number < (4, 6) and family != "opus":
        return frozenset()
    levels = {"low", "medium", "high"}
    if number >= (4, 6):
        levels.add("max")
    return frozenset({*levels, "xhigh"} if number >= (4, 7) else levels)


def _member(value: Any, name: str) -> Mapping[str, Any]:
    found = value.get(name) if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _supports(can: Mapping[str, Any], name: str, otherwise: bool) -> bool:
    found = _member(can, name).get("supported")
    return found if isinstance(found, bool) else otherwise


def _supported(each: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(name for name in each if _supports(each, name, otherwise=False))


def _count(value: Any) -> int | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return value if is_count else None
