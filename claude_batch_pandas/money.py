"""Dollars of answers. Unknown prices stay unknown: they are counted, never taken for 0."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from claude_batch_pandas import models
from claude_batch_pandas.records import Result, Usage


class Bill(NamedTuple):
    """What some answers cost.

    Attributes
    ----------
    dollars : Decimal
        US dollars of the answers whose price is known.
    unpriced : int
        Answers that were billed at a price we do not know.
    """

    dollars: Decimal
    unpriced: int

    def __str__(self) -> str:
        if not self.unpriced:
            return show(self.dollars)
        known = f"{show(self.dollars)} and " if self.dollars else ""
        return f"{known}an unknown price for {self.unpriced:,}"


def cost(result: Result) -> Decimal | None:
    """Return the US dollars of one result, None when its price is unknown.

    Errored, canceled and expired requests are not billed, nor is a refusal before any output.
    """
    usage = result.usage
    if usage is None or (result.stop_reason == "refusal" and not result.text):
        return Decimal(0)
    if not _is_used(usage):
        return Decimal(0)
    is_batch = usage.service_tier in {"batch", None}
    return models.price(result.model or "", usage, batch=is_batch)


def bill(results: Iterable[Result]) -> Bill:
    """Return what results cost together; give each request once, not once per row."""
    dollars, unpriced = Decimal(0), 0
    for result in results:
        price = cost(result)
        if price is None:
            unpriced += 1
        else:
            dollars += price
    return Bill(dollars, unpriced)


def show(dollars: Decimal) -> str:
    """Return dollars for people: cents, or more digits where cents would say nothing."""
    if dollars == 0:
        return "$0.00"
    if dollars >= Decimal("0.01"):
        return f"${dollars:,.2f}"
    return f"${dollars:.2g}" if dollars >= Decimal("0.0001") else f"${dollars:.6f}"


def _is_used(usage: Usage) -> bool:
    return bool(usage.prompt_tokens or usage.output_tokens)
