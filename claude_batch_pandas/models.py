"""What a model costs. The only file that imports genai-prices, and only when a price is asked for.

Prices are maintained there, batch prices and tiers included. They are never guessed: a model that
is not in the table has no price.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from importlib.metadata import version
from typing import NamedTuple

# Above this many prompt tokens a request may be priced by another tier, so it is priced alone.
TIER_TOKENS = 100_000
# Which the price list has in one line, and genai-prices under one of the two names.
SAME = {"claude-mythos-5": "claude-fable-5", "claude-mythos-5-1": "claude-fable-5-1"}
LONGEST = 1_000_000  # tokens of a prompt
PROBE = 1_000  # tokens; small enough to stay in the lowest tier


class Tokens(NamedTuple):
    """Tokens of one or many answers by what they are priced by."""

    input_tokens: int = 0  # what no cache served
    output_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    cache_read_tokens: int = 0

    @property
    def prompt_tokens(self) -> int:
        """All input, cached or not."""
        return sum(self) - self.output_tokens


@cache
def edition() -> str:
    """Return which prices these are."""
    return version("genai-prices")


def price(model: str, tokens: Tokens, *, batch: bool = True, large: bool = False) -> Decimal | None:
    """Return what tokens cost in US dollars, None when the model's price is unknown.

    Parameters
    ----------
    model : str
    tokens : Tokens
        Of one answer when `large`, else of any number of them.
    batch : bool
        Whether they were served by the Message Batches API, at half price.
    large : bool
        Whether the prompt has more than `TIER_TOKENS`.
    """
    if large:
        return _exact(model, tokens, batch)
    rates = _rates(model, batch)
    if rates is None:
        return None
    return sum((rate * count for rate, count in zip(rates, tokens, strict=True)), Decimal(0))


def dearest(model: str, tokens: Tokens) -> Decimal | None:
    """Return what tokens cost where a prompt is as long as any can be, whatever tiers there are.

    Parameters
    ----------
    model : str
    tokens : Tokens
        Of any number of answers, of batches.
    """
    base = Tokens(input_tokens=LONGEST)
    start = _exact(model, base, batch=True)
    if start is None:
        return None
    total = start / LONGEST * tokens.input_tokens
    for i, count in enumerate(tokens):
        if i and count:
            more = _exact(model, base._replace(**{Tokens._fields[i]: PROBE}), batch=True)
            assert more is not None, "the model has a price"
            total += (more - start) / PROBE * count
    return total


@cache
def _rates(model: str, batch: bool) -> list[Decimal] | None:
    """Return US dollars per token by kind, in the lowest tier."""
    rates: list[Decimal] = []
    for i in range(len(Tokens._fields)):
        probe = Tokens(*(PROBE if i == j else 0 for j in range(len(Tokens._fields))))
        dollars = _exact(model, probe, batch)
        if dollars is None:
            return None
        rates.append(dollars / PROBE)
    return rates


def _exact(model: str, tokens: Tokens, batch: bool) -> Decimal | None:
    import genai_prices

    hour = tokens.cache_write_1h_tokens
    usage = genai_prices.Usage(
        # Its input is the whole prompt, cached or not, and its writes include the hour's.
        input_tokens=tokens.prompt_tokens,
        output_tokens=tokens.output_tokens,
        cache_read_tokens=tokens.cache_read_tokens,
        cache_write_tokens=tokens.cache_write_5m_tokens + hour,
        cache_write_1h_tokens=hour,
    )

    def total(context: dict[str, str] | None) -> Decimal:
        found = genai_prices.calc_price(
            usage, SAME.get(model, model), provider_id="anthropic", price_context=context
        )
        return found.total_price

    try:
        dollars = total(None)
        if not batch or not dollars:
            return dollars
        half = total({"processing": "batch"})
    except LookupError:
        return None
    return half if half < dollars else None  # of some old models, only the live price is known
