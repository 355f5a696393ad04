"""What a model costs: golden numbers from the published price list, in dollars per million tokens."""

from __future__ import annotations

from decimal import Decimal

import pytest

from claude_batch_pandas.models import Tokens, price

MILLION = 1_000_000

# Standard prices: input, output, write for 5 minutes, write for an hour, read. Batch is half.
PRICES = {
    "claude-fable-5-2": ("8", "40", "10", "16", "0.20"),
    "claude-mythos-5-2": ("8", "40", "10", "16", "0.20"),
    "claude-fable-5-1": ("10", "50", "12.50", "20", "0.25"),
    "claude-mythos-5-1": ("10", "50", "12.50", "20", "0.25"),
    "claude-mythos-5": ("10", "50", "12.50", "20", "1"),
    "claude-fable-5": ("10", "50", "12.50", "20", "1"),
    "claude-opus-5-5": ("4", "20", "5", "8", "0.20"),
    "claude-opus-5": ("5", "25", "6.25", "10", "0.50"),
    "claude-opus-4-8": ("5", "25", "6.25", "10", "0.50"),
    "claude-opus-4-7": ("5", "25", "6.25", "10", "0.50"),
    "claude-opus-4-6": ("5", "25", "6.25", "10", "0.50"),
    "claude-opus-4-5": ("5", "25", "6.25", "10", "0.50"),
    "claude-sonnet-5-5": ("2", "10", "2.50", "4", "0.10"),
    "claude-sonnet-5": ("2", "10", "2.50", "4", "0.20"),
    "claude-sonnet-4-6": ("3", "15", "3.75", "6", "0.30"),
    "claude-sonnet-4-5": ("3", "15", "3.75", "6", "0.30"),
    "claude-haiku-5-5": ("0.10", "0.50", "0.125", "0.20", "0.01"),
    "claude-haiku-4-5": ("1", "5", "1.25", "2", "0.10"),
}


@pytest.mark.parametrize("model", PRICES)
@pytest.mark.parametrize("kind", range(5))
def test_price_of_a_million_tokens(model: str, kind: int) -> None:
    """Each kind of token costs what the price list says, live, and half of it in a batch."""
    tokens = Tokens(*(MILLION if i == kind else 0 for i in range(5)))
    listed = Decimal(PRICES[model][kind])

    assert price(model, tokens, batch=False) == listed
    assert price(model, tokens, batch=True) == listed / 2


@pytest.mark.parametrize("model", [*PRICES, "claude-opus-4-1", "claude-3-haiku-20240307"])
def test_a_batch_is_never_at_the_price_of_answers_at_once(model: str) -> None:
    """Of some old models the list has no other, which would be twice too much."""
    tokens = Tokens(input_tokens=1_000, output_tokens=1_000)
    live, half = (price(model, tokens, batch=batch) for batch in (False, True))
    assert live
    assert half == (live / 2 if model in PRICES else None)


@pytest.mark.parametrize(
    ("kind", "listed"), list(enumerate(["0.50", "2.50", "0.625", "1", "0.05"])), ids=Tokens._fields
)
def test_price_of_a_large_prompt(kind: int, listed: str) -> None:
    """A Haiku 5.5 request above 100,000 prompt tokens is wholly at the higher rate."""
    base = Tokens(input_tokens=100_001)
    more = base._replace(**{Tokens._fields[kind]: base[kind] + MILLION})
    costs = [price("claude-haiku-5-5", tokens, batch=True, large=True) for tokens in (base, more)]
    assert costs[0] is not None
    assert costs[1] is not None

    assert costs[0] == Decimal("0.25") * 100_001 / MILLION
    assert costs[1] - costs[0] == Decimal(listed) / 2


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("model", ["", "gpt-5", "claude-nothing-9"])
def test_unknown_model_has_no_price(model: str, large: bool) -> None:
    """A price that is not known is None, never 0."""
    assert price(model, Tokens(200_000, 1), large=large) is None


def test_fields_stand_in_the_order_they_are_priced() -> None:
    """The prompt is everything but the output, cached or not."""
    tokens = Tokens(1, 10, 100, 1_000, 10_000)

    assert tokens.prompt_tokens == 11_101
    assert Tokens().prompt_tokens == 0


def test_dated_model_is_priced_like_its_family() -> None:
    """The id that answers carry, with its date, has the price of the model."""
    dated = price("claude-haiku-4-5-20251001", Tokens(MILLION), batch=True)

    assert dated == Decimal("0.50")
