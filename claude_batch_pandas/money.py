"""Dollars of answers. Unknown prices stay unknown: they are counted, never taken for 0."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from claude_batch_pandas import models
from claude_batch_pandas.records import RowStatus
from claude_batch_pandas.results import DOUBTFUL, Result, Usage

US_FACTOR = Decimal("1.1")  # inference_geo "us" (the data residency page)
WEB_SEARCH = Decimal("0.01")  # a search; batches give no discount on it (the pricing page)

ANSWERED = frozenset({RowStatus.SUCCEEDED, RowStatus.TRUNCATED, RowStatus.REFUSED})

_Rate = tuple[str, str | None, str | None]  # model, service_tier, inference_geo


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
    sums: dict[_Rate, list[int]] = {}
    dollars, unpriced, live = Decimal(0), 0, 0
    for result in results:
        usage = result.usage
        if _is_unknown(result):
            unpriced += 1
            continue
        if usage is None or not _is_billed(result):
            continue
        live += not _is_batch(usage.service_tier)
        prompt = usage.prompt_tokens
        if prompt > models.TIER_TOKENS:
            price = cost(result, as_live=as_live)
            dollars += price or 0
            unpriced += price is None
            continue
        rate = (result.model or "", usage.service_tier, usage.inference_geo)
        _add(sums.setdefault(rate, [0] * 7), usage)
    for (model, tier, place), (count, *tokens, searches) in sums.items():
        is_batch = _is_batch(tier) and not as_live
        part = models.price(model, models.Tokens(*tokens), batch=is_batch)
        if part is None:
            unpriced += count
        else:
            dollars += part * _factor(place) + WEB_SEARCH * searches
    return Bill(dollars, unpriced, live)


def _add(total: list[int], usage: Usage) -> None:
    """Add one answer to (answers, tokens as in `models.Tokens`, web searches)."""
    total[0] += 1
    total[1] += usage.input_tokens or 0
    total[2] += usage.output_tokens or 0
    if usage.cache_creation_input_tokens or usage.cache_creation is not None:
        total[3] += usage.cache_write_5m_tokens
        total[4] += usage.cache_write_1h_tokens
    total[5] += usage.cache_read_input_tokens or 0
    if usage.server_tool_use is not None:
        total[6] += usage.web_searches


def cost(result: Result, *, as_live: bool = False) -> Decimal | None:
    """Return the US dollars of one result, None when its price is unknown.

    Errored, canceled and expired requests are not billed, nor is a refusal before any output.
    """
    if result.status is RowStatus.PROCESSING or _is_unknown(result):
        return None
    usage = result.usage
    if usage is None or not _is_billed(result):
        return Decimal(0)
    price = models.price(
        result.model or "",
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
    is_answer = result.status in ANSWERED and _is_billed(result)
    return result.error_type == DOUBTFUL or (is_answer and result.usage is None)


def _is_billed(result: Result) -> bool:
    return result.stop_reason != "refusal" or bool(result.text)


def _is_batch(service_tier: str | None) -> bool:
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
