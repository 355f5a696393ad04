"""Dollars of answers. Unknown prices stay unknown: they are counted, never taken for 0."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from operator import add
from typing import NamedTuple

from claude_batch_pandas import models
from claude_batch_pandas.records import RowStatus
from claude_batch_pandas.results import DOUBTFUL, Result, Usage
from claude_batch_pandas.words import plain

US_FACTOR = Decimal("1.1")  # inference_geo "us" (the data residency page)
WEB_SEARCH = Decimal("0.01")  # a search; batches give no discount on it (the pricing page)

ANSWERED = frozenset({RowStatus.SUCCEEDED, RowStatus.TRUNCATED, RowStatus.REFUSED})

Used = tuple[str | None, Usage]  # the model of an answer, and its tokens

_Rate = tuple[str | None, str | None, str | None]  # model, service_tier, inference_geo


class Bill(NamedTuple):
    """What some answers cost.

    Attributes
    ----------
    dollars : Decimal
        US dollars of the answers whose price is known.
    unpriced : int
        Answers that were billed at a price we do not know.
    live : int
        Answers that were given at once, without the discount of batches.
    """

    dollars: Decimal
    unpriced: int
    live: int = 0

    def plus(self, other: Bill) -> Bill:
        """Return both together."""
        return Bill(
            self.dollars + other.dollars,
            self.unpriced + other.unpriced,
            self.live + other.live,
        )

    def __str__(self) -> str:
        told = show(self.dollars)
        if self.unpriced:
            known = f"{told} and " if self.dollars else ""
            told = f"{known}an unknown price for {self.unpriced:,}"
        if not self.live:
            return told
        requests = "1 request" if self.live == 1 else f"{self.live:,} requests"
        return f"{told} ({requests} at the live price)"


def bill(results: Iterable[Result], *, as_live: bool = False) -> Bill:
    """Return what results cost together; give each request once, not once per row.

    Parameters
    ----------
    results : iterable of Result
    as_live : bool
        What they would have cost through the Messages API.
    """
    unknown = 0
    used: list[Used] = []
    for result in results:
        if _is_unknown(result):
            unknown += 1
        elif result.usage is not None and _is_billed(result):
            used.append((result.model, result.usage))
    meter = Meter(as_live=as_live)
    meter.add(used)
    return meter.bill().plus(Bill(Decimal(0), unknown))


class Meter:
    """Adds up what answers used that are billed.

    Parameters
    ----------
    as_live : bool
        Price it as the Messages API would.
    """

    def __init__(self, *, as_live: bool = False) -> None:
        self._as_live = as_live
        self._sums: dict[_Rate, list[int]] = {}
        self._long: list[Used] = []  # each is priced by itself

    def add(self, used: Iterable[Used]) -> None:
        """Take the models and tokens of some answers."""
        groups: dict[_Rate, list[Usage]] = {}
        for model, usage in used:
            rate = (model, usage.service_tier, usage.inference_geo)
            groups.setdefault(rate, []).append(usage)
        for rate, usages in groups.items():
            short = usages
            if _longest(usages) > models.TIER_TOKENS:
                short = [usage for usage in usages if usage.prompt_tokens <= models.TIER_TOKENS]
                long = [usage for usage in usages if usage.prompt_tokens > models.TIER_TOKENS]
                self._long += [(rate[0], usage) for usage in long]
            before = self._sums.get(rate, [0] * 7)
            self._sums[rate] = [*map(add, before, _total(short))]

    def bill(self) -> Bill:
        """Return what it comes to."""
        dollars, unpriced, live = Decimal(0), 0, 0
        for (model, tier, place), (count, *tokens, searches) in self._sums.items():
            is_batch = _is_batch(tier)
            live += 0 if is_batch else count
            is_half = is_batch and not self._as_live
            part = models.price(plain(model or ""), models.Tokens(*tokens), batch=is_half)
            if part is None:
                unpriced += count
            else:
                dollars += part * _factor(place) + WEB_SEARCH * searches
        for model, usage in self._long:
            live += not _is_batch(usage.service_tier)
            price = _price(model, usage, as_live=self._as_live)
            dollars += price or 0
            unpriced += price is None
        return Bill(dollars, unpriced, live)


# Where every answer of a run comes by, a loop over one field is several times as fast as a property
# that is asked of each.


def _longest(usages: Sequence[Usage]) -> int:
    """Return tokens that no prompt of some answers exceeds."""
    return (
        max([usage.input_tokens or 0 for usage in usages])
        + max([usage.cache_read_input_tokens or 0 for usage in usages])
        + max([usage.cache_creation_input_tokens or 0 for usage in usages])
    )


def _total(usages: Sequence[Usage]) -> list[int]:
    """Return the number of some answers, their tokens as in `models.Tokens`, and web searches."""
    written = [
        usage
        for usage in usages
        if usage.cache_creation_input_tokens
        or (usage.cache_creation and usage.cache_creation.ephemeral_1h_input_tokens)
    ]
    return [
        len(usages),
        sum([usage.input_tokens or 0 for usage in usages]),
        sum([usage.output_tokens or 0 for usage in usages]),
        sum([usage.cache_write_5m_tokens for usage in written]),
        sum([usage.cache_write_1h_tokens for usage in written]),
        sum([usage.cache_read_input_tokens or 0 for usage in usages]),
        sum([usage.web_searches for usage in usages if usage.server_tool_use is not None]),
    ]


def cost(result: Result, *, as_live: bool = False) -> Decimal | None:
    """Return the US dollars of one result, None when its price is unknown.

    Errored, canceled and expired requests are not billed, nor is a refusal before any output.
    """
    if result.status is RowStatus.PROCESSING or _is_unknown(result):
        return None
    if result.usage is None or not _is_billed(result):
        return Decimal(0)
    return _price(result.model, result.usage, as_live=as_live)


def _price(model: str | None, usage: Usage, *, as_live: bool) -> Decimal | None:
    """Return the US dollars of one answer that is billed, None when the price is unknown."""
    price = models.price(
        plain(model or ""),
        _tokens(usage),
        batch=_is_batch(usage.service_tier) and not as_live,
        large=usage.prompt_tokens > models.TIER_TOKENS,
    )
    if price is None:
        return None
    return price * _factor(usage.inference_geo) + WEB_SEARCH * usage.web_searches


def show(dollars: Decimal) -> str:
    """Return dollars for people: cents, or more digits where cents would say nothing."""
    if dollars == 0:
        return "$0.00"
    if dollars >= Decimal("0.01"):
        return f"${dollars:,.2f}"
    if dollars < Decimal("0.000001"):
        return "less than $0.000001"
    return f"${dollars:.2g}" if dollars >= Decimal("0.0001") else f"${dollars:.6f}"


def _is_unknown(result: Result) -> bool:
    """Tell whether a result may have been paid, and nothing says how much."""
    is_unfit = result.status is RowStatus.INVALID and result.text is not None
    is_answer = (result.status in ANSWERED or is_unfit) and _is_billed(result)
    return result.error_type == DOUBTFUL or (is_answer and result.usage is None)


def _is_billed(result: Result) -> bool:
    return result.stop_reason != "refusal" or bool(result.text)


def _is_batch(service_tier: str | None) -> bool:
    # What came at once always says so here (`live`), so where nothing is said, it was a batch.
    return service_tier in {"batch", None}


def _factor(inference_geo: str | None) -> Decimal:
    return US_FACTOR if inference_geo == "us" else Decimal(1)


def _tokens(usage: Usage) -> models.Tokens:
    return models.Tokens(
        usage.input_tokens or 0,
        usage.output_tokens or 0,
        usage.cache_write_5m_tokens,
        usage.cache_write_1h_tokens,
        usage.cache_read_input_tokens or 0,
    )
