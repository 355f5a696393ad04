"""What a model accepts, as far as this package has to know. Pure; a table of 2026-11.

Of a model that is not in it, nothing is assumed: it is sent what the caller asked for.
"""

from __future__ import annotations

import re
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


class Version(NamedTuple):
    """Which model a name means."""

    family: str
    number: tuple[int, int]


def version_of(model: str) -> Version | None:
    """Return the family and version in a model's name; None when it has none."""
    found = _NAME.fullmatch(model)
    if found is None:
        return None
    return Version(found["family"], (int(found["major"]), int(found["minor"] or 0)))


def least_thinking(model: str) -> dict[str, Any]:
    """Return the params with which a model thinks as little as it can.

    A short answer needs no thinking, which is billed as output and counts toward `max_tokens`. From
    the API's page on thinking: what is on by default, and how each model turns it off.
    """
    version = version_of(model)
    if version is None or version.number < (5, 0):
        return {}  # the older ones think only when told to
    if version.family in {"fable", "mythos"} or version == ("opus", (5, 5)):
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
