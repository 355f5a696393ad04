"""Dollars of answers: the sum of the rows is the bill, and unknown is never 0."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_batch_pandas.answers import LOST, PROCESSING
from claude_batch_pandas.money import Bill, bill, cost, show
from claude_batch_pandas.records import RowStatus
from claude_batch_pandas.results import Result
from tests.strategies import read_one, succeeded, usage

# input 1,000; output 500; written for 5 minutes 400 and for an hour 300; read 2,000
TOKENS: dict[str, Any] = {
    "input_tokens": 1_000,
    "output_tokens": 500,
    "cache_creation_input_tokens": 700,
    "cache_creation": {"ephemeral_5m_input_tokens": 400, "ephemeral_1h_input_tokens": 300},
    "cache_read_input_tokens": 2_000,
}

counts = st.one_of(st.none(), st.integers(0, 50), st.integers(0, 300_000))
splits = st.builds(
    lambda short, hour: {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": hour},
    counts,
    counts,
)
usages = st.fixed_dictionaries(
    {
        "input_tokens": counts,
        "output_tokens": counts,
        "cache_creation_input_tokens": counts,
        "cache_read_input_tokens": counts,
        "cache_creation": st.one_of(st.none(), splits),
        "server_tool_use": st.one_of(st.none(), st.just({"web_search_requests": 3})),
        "service_tier": st.sampled_from(["batch", "standard", None]),
        "inference_geo": st.sampled_from([None, "us", "global", "not_available"]),
    }
)
answers = st.builds(
    lambda model, tokens, reason, text: read_one(
        succeeded(text, model=model, usage=tokens, stop_reason=reason)
    ),
    st.sampled_from(["claude-haiku-5-5", "claude-opus-5-5", "claude-sonnet-5-5", "unheard-of"]),
    st.one_of(st.none(), usages),
    st.sampled_from(["end_turn", "refusal", "max_tokens"]),
    st.sampled_from(["", "hi"]),
)


def answer(model: str, **tokens: Any) -> Result:
    return read_one(succeeded("hi", model=model, usage=usage(**tokens)))


@pytest.mark.parametrize(
    ("model", "batch"),
    [
        ("claude-haiku-5-5", "0.00024"),  # 50 + 125 + 25 + 30 + 10 millionths
        ("claude-opus-5-5", "0.0094"),  # 2,000 + 5,000 + 1,000 + 1,200 + 200
        ("claude-sonnet-5-5", "0.0047"),  # 1,000 + 2,500 + 500 + 600 + 100
        ("claude-fable-5-2", "0.0186"),  # 4,000 + 10,000 + 2,000 + 2,400 + 200
        ("claude-haiku-4-5", "0.0024"),  # 500 + 1,250 + 250 + 300 + 100
    ],
)
def test_cost_of_an_answer(model: str, batch: str) -> None:
    """An answer costs what the price list says: half in a batch, a tenth more in the US."""
    half = Decimal(batch)

    assert cost(answer(model, **TOKENS)) == half
    assert cost(answer(model, **TOKENS, service_tier="standard")) == 2 * half
    assert cost(answer(model, **TOKENS, inference_geo="us")) == half * Decimal("1.1")
    assert cost(answer(model, **TOKENS, inference_geo="global")) == half


def test_cost_of_a_large_prompt() -> None:
    """Above 100,000 prompt tokens, cached ones included, Haiku 5.5 costs five times as much."""
    tokens = {**TOKENS, "cache_read_input_tokens": 200_000}

    # 250 + 625 + 125 + 150 + 5,000 millionths
    assert cost(answer("claude-haiku-5-5", **tokens)) == Decimal("0.00615")
    assert cost(answer("claude-haiku-5-5", **tokens, service_tier="standard")) == Decimal("0.0123")
    assert cost(answer("claude-haiku-5-5", **tokens, inference_geo="us")) == Decimal("0.006765")


def test_tier_begins_above_its_limit() -> None:
    """A prompt of exactly 100,000 tokens is at the lower rate; one more is at the higher."""
    assert cost(answer("claude-haiku-5-5", input_tokens=100_000)) == Decimal("0.005")
    assert cost(answer("claude-haiku-5-5", input_tokens=100_001)) == Decimal("0.02500025")


def test_web_searches_have_no_discount() -> None:
    """A search costs a cent, in a batch and in the US too."""
    tokens = {"input_tokens": 1_000, "server_tool_use": {"web_search_requests": 3}}

    assert cost(answer("claude-haiku-5-5", **tokens)) == Decimal("0.03005")
    assert cost(answer("claude-haiku-5-5", **tokens, inference_geo="us")) == Decimal("0.030055")


def test_answer_without_a_tier_is_taken_for_a_batch() -> None:
    """The service tier may be missing; what we send is a batch."""
    assert cost(answer("claude-haiku-5-5", input_tokens=1_000, service_tier=None)) == Decimal(
        "0.00005"
    )


@pytest.mark.parametrize(
    "result",
    [
        Result(RowStatus.ERRORED, error="x"),
        Result(RowStatus.CANCELED),
        Result(RowStatus.EXPIRED),
        Result(RowStatus.SKIPPED),
        read_one(succeeded([], stop_reason="refusal", usage=usage(**TOKENS))),
    ],
    ids=["errored", "canceled", "expired", "skipped", "refused"],
)
def test_what_is_not_billed_costs_nothing(result: Result) -> None:
    """Errors, cancels, expiries, skipped rows and refusals before any output are free."""
    assert cost(result) == 0
    assert bill([result]) == Bill(Decimal(0), 0)


@pytest.mark.parametrize(
    "result",
    [read_one(succeeded("hi")), LOST],
    ids=["without usage", "unreadable"],
)
def test_what_may_have_been_billed_is_unknown(result: Result) -> None:
    """An answer that tells no tokens, or that cannot be read, is never free."""
    assert cost(result) is None
    assert bill([result]) == Bill(Decimal(0), 1)


def test_an_answer_to_come_has_no_price_yet() -> None:
    """What is still processing is unknown, and not free."""
    assert cost(PROCESSING) is None


def test_refusal_after_some_output_is_billed() -> None:
    """A refusal in the middle of an answer is billed as far as it came."""
    refused = read_one(
        succeeded("I was", stop_reason="refusal", usage=usage(input_tokens=1_000_000))
    )

    assert cost(refused) == Decimal("0.25")


@pytest.mark.parametrize("tokens", [1_000, 200_000])
def test_unknown_price_stays_unknown(tokens: int) -> None:
    """An unknown model's answers are counted, not taken for free."""
    unknown = answer("unheard-of", input_tokens=tokens)
    known = answer("claude-haiku-5-5", input_tokens=1_000_000)

    assert cost(unknown) is None
    assert bill([unknown, known, unknown]) == Bill(Decimal("0.25"), 2)


@given(st.lists(answers, max_size=8))
@settings(deadline=None, max_examples=200)
def test_bill_is_the_sum_of_the_rows(results: list[Result]) -> None:
    """The bill is the sum of what each answer costs, and counts those of unknown price."""
    costs = [cost(result) for result in results]
    found = bill(results)

    assert found.dollars == sum((one for one in costs if one is not None), Decimal(0))
    assert found.unpriced == costs.count(None)


@given(st.lists(answers, max_size=6), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=100)
def test_order_does_not_matter(results: list[Result], dice: Any) -> None:
    """The same answers in another order cost the same."""
    mixed = list(results)
    dice.shuffle(mixed)

    assert bill(mixed) == bill(results)


@given(answers)
@settings(deadline=None, max_examples=100)
def test_no_answer_costs_less_than_nothing(result: Result) -> None:
    """A cost is unknown or at least 0."""
    price = cost(result)

    assert price is None or price >= 0


@pytest.mark.parametrize(
    ("dollars", "text"),
    [
        ("0", "$0.00"),
        ("0.00024", "$0.00024"),
        ("0.0047", "$0.0047"),
        ("0.01", "$0.01"),
        ("0.125", "$0.12"),
        ("1234.5", "$1,234.50"),
        ("0.00005", "$0.000050"),
    ],
)
def test_dollars_are_shown_with_digits_that_say_something(dollars: str, text: str) -> None:
    """Cents where there are cents, more digits below."""
    assert show(Decimal(dollars)) == text


def test_least_cost_is_not_shown_as_nothing() -> None:
    """One token of the cheapest model in a batch is shown as something."""
    assert show(Decimal("0.00000005")).strip("$0.") != ""


def test_bill_tells_what_is_unknown() -> None:
    """Unknown prices are told in words, beside the dollars that are known."""
    assert str(Bill(Decimal("1.5"), 0)) == "$1.50"
    assert str(Bill(Decimal("1.5"), 1_200)) == "$1.50 and an unknown price for 1,200"
    assert str(Bill(Decimal(0), 3)) == "an unknown price for 3"
    assert str(Bill(Decimal(0), 0)) == "$0.00"
