"""What a model costs. The only file that imports genai-prices, and only when a price is asked for.

Prices are maintained there, batch prices and tiers included. They are never guessed: a model that
is not in the table has no price.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from typing import Any

from claude_batch_pandas.records import Usage

# Above this many prompt tokens a request may be priced by another tier, so it is priced alone.
TIER_TOKENS = 100_000
PROBE = 1_000  # tokens; small enough to stay in the lowest tier

# US dollars; batches give no discount on it (the pricing page, web search).
WEB_SEARCH = Decimal("0.01")

KINDS = {
    "input_tokens": "input_tokens",
    "cache_write_5m_tokens": "cache_write_tokens",
    "cache_write_1h_tokens": "cache_write_1h_tokens",
    "cache_read_tokens": "cache_read_tokens",
    "output_tokens": "output_tokens",
}
"""Our kinds of tokens and what genai-prices calls them."""


def price(model: str, usage: Usage, *, batch: bool = True) -> Decimal | None:
    """Return what one answer costs in US dollars, None when the model's price is unknown.

    Parameters
    ----------
    model : str
    usage : Usage
    batch : bool
        Whether it was served by the Message Batches API, at half price.
    """
    if usage.prompt_tokens > TIER_TOKENS:
        return _exact(model, usage, batch=batch)
    known = _rates(model, batch)
    if known is None:
        return None
    total = sum((rate * getattr(usage, kind) for kind, rate in known.items()), Decimal(0))
    return total * _geography(usage) + WEB_SEARCH * usage.web_searches


@cache
def _rates(model: str, batch: bool) -> dict[str, Decimal] | None:  # noqa: FBT001 - a cache key
    """Return US dollars per token by kind, in the lowest tier."""
    rates: dict[str, Decimal] = {}
    for kind in KINDS:
        dollars = _exact(model, Usage()._replace(**{kind: PROBE}), batch=batch)
        if dollars is None:
            return None
        rates[kind] = dollars / PROBE
    return rates


def _exact(model: str, usage: Usage, *, batch: bool) -> Decimal | None:
    import genai_prices

    tokens: dict[str, Any] = {
        name: value for kind, name in KINDS.items() if (value := getattr(usage, kind))
    }
    hour = tokens.get("cache_write_1h_tokens", 0)
    if hour:  # genai-prices counts the hour's writes inside all writes
        tokens["cache_write_tokens"] = tokens.get("cache_write_tokens", 0) + hour
    # Its input is the whole prompt, cached or not; the API's is what no cache served.
    tokens["input_tokens"] = usage.prompt_tokens
    try:
        found = genai_prices.calc_price(
            genai_prices.Usage(**tokens),
            model,
            provider_id="anthropic",
            price_context={"processing": "batch"} if batch else None,
        )
    except LookupError:
        return None
    return found.total_price * _geography(usage) + WEB_SEARCH * usage.web_searches


def _geography(usage: Usage) -> Decimal:
    return Decimal("1.1") if usage.inference_geo == "us" else Decimal(1)
