"""What requests will cost before they are sent: their tokens, guessed or counted, at a price.

Input is guessed from bytes, by the tokenizer of the model's family, and better known where the API
counted a sample. What a model will write is not known by anybody: a typical answer is assumed, and
`max_tokens` is the most. Pure.
"""

from __future__ import annotations

import heapq
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

import orjson

from claude_batch_pandas import models, money
from claude_batch_pandas.abilities import cache_minimum, least_thinking
from claude_batch_pandas.markup import facts_html
from claude_batch_pandas.outputs import Output
from claude_batch_pandas.weights import FRAME, Key, Load, Tier, bytes_per_token

GUESS = 0.3  # by how much of itself a guess from bytes may be wrong; other languages are dearer
TEXT_TOKENS = 150  # of a typical answer in words
THINKING_TOKENS = 300  # before a typical answer, of a model that thinks
FIELD_TOKENS = 15  # of a field of a typed one, and of what surrounds it
HIT_RATE = 0.65  # of the prompt cache in batches: users see 30 to 98 %
SAMPLE = 12  # requests that the API counts
CONFIDENCE = 2.0  # standard errors that are told
TOOLS_READ = "what the API's own tools read"
MARKED = (
    "Requests mark parts for the prompt cache themselves: the high is for the case that all of them "
    "are written to it, for an hour."
)
ADDED = 100  # tokens that the API adds to a request, at most
ADDED_BY_TOOLS = 1_000  # and to one with tools (its page says up to 800), or with a schema


class Counted(NamedTuple):
    """One request of a sample: what it weighs, and how many tokens the API counted."""

    load: Load
    tokens: int


class Rate(NamedTuple):
    """How many tokens a byte is.

    Attributes
    ----------
    tokens : float or None
        Per byte; None for what is usual of the model.
    error : float
        By how much of itself it may be wrong.
    counted : int
        Requests of which the API counted the tokens.
    """

    tokens: float | None = None
    error: float = GUESS
    counted: int = 0

    @classmethod
    def of(cls, sample: Sequence[Counted]) -> Rate:
        """Return the rate of a sample, with twice its standard error."""
        size = sum(counted.load.text for counted in sample)
        if size <= 0:
            return cls()
        texts = [max(0, counted.tokens - counted.load.media) for counted in sample]
        rate = sum(texts) / size
        if rate == 0:
            return cls()
        if len(sample) == 1:
            return cls(rate, GUESS, 1)
        off = [text - rate * counted.load.text for text, counted in zip(texts, sample, strict=True)]
        spread = statistics.pstdev(off) * math.sqrt(len(sample) / (len(sample) - 1))
        error = CONFIDENCE * spread * math.sqrt(len(sample)) / sum(texts)
        return cls(rate, min(1.0, error), len(sample))


@dataclass(slots=True)
class Sample:
    """Some of many requests, chosen by their hashes: by chance, and the same ones every time."""

    _heap: list[tuple[int, bytes]] = field(default_factory=list)

    def add(self, digest: bytes, head: bytes, tail: bytes) -> None:
        """Consider a request; the params of many begin alike."""
        rank = -int.from_bytes(digest)
        if len(self._heap) < SAMPLE:
            heapq.heappush(self._heap, (rank, head + tail))
        elif rank > self._heap[0][0]:
            heapq.heapreplace(self._heap, (rank, head + tail))

    @property
    def requests(self) -> list[bytes]:
        """Those that were chosen."""
        return [request for _, request in sorted(self._heap)]


class Sums(NamedTuple):
    """US dollars: with answers of one token, with typical ones, and with all of `max_tokens`.

    Attributes
    ----------
    low, expected, high : Decimal
        At the price of batches.
    live : Decimal
        What the expected would cost through the Messages API.
    """

    low: Decimal
    expected: Decimal
    high: Decimal
    live: Decimal

    def plus(self, other: Sums) -> Sums:
        """Return both together."""
        return Sums(*(mine + its for mine, its in zip(self, other, strict=True)))


@dataclass(frozen=True, slots=True, repr=False)
class Estimate:
    """What a call would send, and about what it would cost; nothing was sent.

    Attributes
    ----------
    rows, requests, answered, shards : int
        Rows of the frame; distinct requests among them; those of them that this ledger has
        asked before and are not paid again; batches for the others.
    input_tokens : int
        Of the requests that would be sent.
    error : float
        By how much of itself that may be wrong; 0.02 is 2 %.
    counted : int
        Requests of which the API counted the tokens; 0 when it is a guess from their bytes.
    output_tokens, max_output_tokens : int
        Of typical answers; and the most that they may have.
    dollars : Sums or None
        None when the price of a model is not known.
    notes : tuple of str
        What the numbers do not say.
    is_bounded : bool
        False when the API's own tools may read any amount beside, which is in none of the numbers.
    """

    rows: int
    requests: int
    answered: int
    shards: int
    input_tokens: int
    error: float
    counted: int
    output_tokens: int
    max_output_tokens: int
    dollars: Sums | None
    notes: tuple[str, ...] = ()
    is_bounded: bool = True

    @property
    def _facts(self) -> list[tuple[str, str]]:
        how = f"counted on {self.counted}" if self.counted else "guessed from bytes"
        facts = [
            ("rows", f"{self.rows:,}"),
            ("distinct requests", f"{self.requests:,}"),
            ("asked before, not paid again", f"{self.answered:,}"),
            ("batches", f"{self.shards:,}"),
            (
                f"input tokens ({how})",
                f"{self.input_tokens:,} \N{PLUS-MINUS SIGN} {self.error:.0%}",
            ),
            ("output tokens, typical", f"{self.output_tokens:,}"),
            ("output tokens, at most", f"{self.max_output_tokens:,}"),
        ]
        if self.dollars is not None:
            low, expected, high, live = map(money.show, self.dollars)
            facts += [("low", low), ("expected", expected), (f"high{self._beside}", high)]
            facts.append(("expected, if asked live", live))
        return facts

    def facts(self) -> dict[str, Any]:
        """Return it as JSON can hold it; dollars are US dollars, None when a price is unknown."""
        told = {name: getattr(self, name) for name in self.__slots__ if name != "dollars"}
        sums = None if self.dollars is None else self.dollars._asdict()
        return {**told, "dollars": sums and {name: float(value) for name, value in sums.items()}}

    def __repr__(self) -> str:
        lines = [f"  {value:>14} {name}" for name, value in self._facts]
        return "\n".join([self._head, *lines, *self.notes])

    def _repr_html_(self) -> str:
        return facts_html(self._head, self._facts, self.notes)

    @property
    def _beside(self) -> str:
        return "" if self.is_bounded else f", without {TOOLS_READ}"

    @property
    def words(self) -> str:
        """About what it costs, in a few words."""
        return f"{told(self.dollars)}{self._beside if self.dollars is not None else ''}"

    @property
    def line(self) -> str:
        """All of it in a line, for what a run shows first."""
        head = (
            f"{self.rows:,} rows, {self.requests:,} distinct requests ({self.answered:,} asked "
            f"before) in {self.shards:,} batch{'es' * (self.shards != 1)}: about {self.input_tokens:,} input tokens "
            f"(\N{PLUS-MINUS SIGN} {self.error:.0%}), {self.output_tokens:,} to "
            f"{self.max_output_tokens:,} output tokens; {self.words}"
        )
        live = "" if self.dollars is None else f"; live about {money.show(self.dollars.live)}"
        return f"{head}{live}."

    @property
    def _head(self) -> str:
        return f"Estimate: {self.words}; nothing was sent."


def told(dollars: Sums | None) -> str:
    """Return an estimate in one line."""
    if dollars is None:
        return "the price is not known"
    low, expected, high, _ = map(money.show, dollars)
    return f"about {expected}, at least {low}, at most {high}"


class Outlook(NamedTuple):
    """What is known of a call beside its requests.

    Attributes
    ----------
    answer : int
        Tokens of a typical answer.
    shared : int
        Bytes that the prompt cache may serve.
    is_hour : bool
        Whether its entries live for an hour, which costs more to write.
    factor : Decimal
        On all prices, for where it is computed.
    live : int
        Requests that are asked at once, at twice the price.
    has_tools : bool
        Whether the API adds what tools or a schema need.
    is_bounded : bool
        False when the API's own tools may read any amount.
    may_be_us : bool
        Whether it may be computed in the US alone, which costs a tenth more: a workspace can say so.
    shards : int
        Of a run, when it was planned; retries add more.
    """

    answer: int = TEXT_TOKENS
    shared: int = 0
    is_hour: bool = False
    factor: Decimal = Decimal(1)
    live: int = 0
    has_tools: bool = False
    is_bounded: bool = True
    may_be_us: bool = True
    shards: int = 0


def estimate(
    loads: Mapping[Key, Load],
    rate: Rate,
    outlook: Outlook,
    *,
    rows: int = 0,
    requests: int = 0,
    answered: int = 0,
    shards: int = 0,
    notes: Sequence[str] = (),
) -> Estimate:
    """Return what requests would cost.

    Parameters
    ----------
    loads : mapping
        Of a `Scale`.
    rate : Rate
    outlook : Outlook
    rows, requests, answered, shards : int
    notes : sequence of str
    """
    tokens = {key: _input(key, load, rate) for key, load in loads.items()}
    typical = {key: min(load.most, load.requests * outlook.answer) for key, load in loads.items()}
    sums: list[Sums | None] = [
        _sums(key, load, tokens[key], typical[key], rate.error, outlook)
        for key, load in loads.items()
    ]
    known = [part for part in sums if part is not None]
    whole = Sums(*[Decimal(0)] * len(Sums._fields))
    for part in known:
        whole = whole.plus(part)
    sent = sum(load.requests for load in loads.values())
    if outlook.live and sent:
        share = Decimal(outlook.live) / sent
        whole = whole._replace(
            low=whole.low * (1 + share),
            expected=whole.expected * (1 + share),
            high=whole.high * (1 + share),
        )
    return Estimate(
        rows=rows,
        requests=requests,
        answered=answered,
        shards=shards,
        input_tokens=sum(tokens.values()),
        error=rate.error,
        counted=rate.counted,
        output_tokens=sum(typical.values()),
        max_output_tokens=sum(load.most for load in loads.values()),
        dollars=whole if len(known) == len(sums) else None,
        notes=(*notes, *([MARKED] if _is_marked(loads, outlook) else [])),
        is_bounded=outlook.is_bounded and not any(load.unbounded for load in loads.values()),
    )


def _is_marked(loads: Mapping[Key, Load], outlook: Outlook) -> bool:
    """Tell whether requests are cached in another way than a call asked for."""
    return not outlook.shared and any(load.marked for load in loads.values())


def dump(outlook: Outlook) -> bytes:
    """Return an outlook as a ledger keeps it."""
    return orjson.dumps(outlook._asdict(), default=str)


def load(data: bytes) -> Outlook:
    """Return the outlook that `dump` wrote."""
    kept = orjson.loads(data)
    return Outlook(**{**kept, "factor": Decimal(kept["factor"])})


def most(loads: Mapping[Key, Load], outlook: Outlook) -> Decimal | None:
    """Return what requests can cost at most, in US dollars at the price of batches.

    An estimate may be wrong; this is a bound: no token is less than a byte, no answer is longer
    than `max_tokens`. None when there is none: a price is not known, or the API's own tools may
    read any amount.
    """
    total = Decimal(0)
    for (model, tier), load in loads.items():
        added = FRAME + ADDED + ADDED_BY_TOOLS * outlook.has_tools
        tokens = load.at_most + load.requests * added
        written = tokens if load.marked or outlook.shared else 0  # to the cache, for an hour
        kinds = models.Tokens(tokens - written, load.most, cache_write_1h_tokens=written)
        part = models.price(model, kinds) if tier is Tier.SHORT else models.dearest(model, kinds)
        if part is None or load.unbounded or not outlook.is_bounded:
            return None
        total += part
    return total * (money.US_FACTOR if outlook.may_be_us else 1)


def typical_tokens(output: Output, params: Mapping[str, Any]) -> int:
    """Return the tokens of a typical answer, thinking included."""
    fields = 0 if output.schema is None else len(output.fields)
    tokens = FIELD_TOKENS * (fields + 1) if fields else TEXT_TOKENS
    return tokens + THINKING_TOKENS * thinks(params)


def thinks(params: Mapping[str, Any]) -> bool:
    """Tell whether a model will think, as its newer ones do unless they are told not to."""
    thinking, model = params.get("thinking"), params["model"]
    if isinstance(thinking, Mapping):
        return thinking.get("type") != "disabled"
    return isinstance(model, str) and bool(least_thinking(model))


def _input(key: Key, load: Load, rate: Rate) -> int:
    per_byte = 1 / bytes_per_token(key[0]) if rate.tokens is None else rate.tokens
    return round(load.text * per_byte) + load.media


def _sums(
    key: Key, load: Load, tokens: int, typical: int, error: float, outlook: Outlook
) -> Sums | None:
    """Return the dollars of some requests, None when their price is not known."""
    few, many = round(tokens * (1 - error)), round(tokens * (1 + error))
    cached = min(tokens, _cached(key[0], load, outlook))
    first = cached // load.requests if load.requests else 0
    missed = round(cached * (1 - HIT_RATE))
    kind = key[0], key[1] is Tier.LONG
    worst, dearest = cached, outlook
    if load.marked and not outlook.shared:
        worst, dearest = many, outlook._replace(is_hour=True)
    parts = [
        _price(kind, load, few, min(load.most, load.requests), (min(few, cached), first), outlook),
        _price(kind, load, tokens, typical, (cached, missed), outlook),
        _price(kind, load, many, load.most, (worst, worst), dearest),
        _price(kind, load, tokens, typical, (cached, missed), outlook, batch=False),
    ]
    known = [part for part in parts if part is not None]
    return Sums(*known) if len(known) == len(parts) else None


def _price(
    key: tuple[str, bool],
    load: Load,
    tokens: int,
    written: int,
    cache: tuple[int, int],
    outlook: Outlook,
    *,
    batch: bool = True,
) -> Decimal | None:
    """Return what requests cost whose prompts are cached in part: tokens, and those written."""
    model, is_large = key
    cached, missed = cache[0], min(cache)
    kinds = models.Tokens(
        input_tokens=tokens - cached,
        output_tokens=written,
        cache_write_5m_tokens=0 if outlook.is_hour else missed,
        cache_write_1h_tokens=missed if outlook.is_hour else 0,
        cache_read_tokens=cached - missed,
    )
    if not is_large:
        price = models.price(model, kinds, batch=batch)
    else:  # the tier goes by what one request has
        one = models.Tokens(*(count // load.requests for count in kinds))
        price = models.price(model, one, batch=batch, large=True)
        price = None if price is None else price * load.requests
    return None if price is None else price * outlook.factor


def _cached(model: str, load: Load, outlook: Outlook) -> int:
    """Return the tokens that a prompt cache may serve; too few are not cached."""
    tokens = round(outlook.shared / bytes_per_token(model))
    least = cache_minimum(model)
    return tokens * load.requests if least is None or tokens >= least else 0
