"""Caps on dollars: never passed, whoever sends; refused before a request goes out, with the numbers."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import orjson
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import claude_batch_pandas as cbp
from claude_batch_pandas import estimates, models, money, session, weights
from claude_batch_pandas.caps import Cap, Charge, Committed
from claude_batch_pandas.emulator import Emulator, Rule
from claude_batch_pandas.estimates import Outlook
from claude_batch_pandas.exceptions import CostLimitError, InputError, PausedError
from claude_batch_pandas.results import read
from claude_batch_pandas.store import Store
from tests.conftest import JumpingClock
from tests.soak.spread import SEED
from tests.test_steps import on_list, on_post

Connect = Callable[..., anthropic.Anthropic]
DAY = 86_400.0
SCHEDULES = 20 if SEED else 8
LONG = (Rule(outcome="succeeded", text="word " * 900),)  # answers that cost what they may


@pytest.fixture
def frame() -> Any:
    return pd.DataFrame({"text": [f"row {i:02d}" for i in range(40)]})


def posts(emulator: Emulator) -> int:
    """Return how many requests may have cost something."""
    return sum(call.method == "POST" for call in emulator.calls)


def billed(emulator: Emulator) -> Decimal:
    """Return what the server's own usage of all batches comes to, in US dollars."""
    blocks = (block for batch in emulator.batches for block in batch.blocks())
    return money.bill(result for part in read(blocks) for _, result in part).dollars


def largest(emulator: Emulator, home: Path) -> Decimal:
    """Return the most that the first shard of the first run reserved."""
    reserved = Store(home).shards(Store(home).runs()[-1].id)[0].reserved
    assert reserved is not None
    return reserved


# Refusals before anything goes out


def test_a_run_that_may_cost_too_much_is_refused(
    frame: Any, client: anthropic.Anthropic, emulator: Emulator, home: Path
) -> None:
    """40 rows of 4,096 tokens at 0.25 dollars a million, a tenth more in the US, and what they ask."""
    words = (
        r"Nothing was sent\. This run of 40 requests can cost up to \$0\.05, more than "
        r"max_cost=0\.04 allows\. To go on, raise the cap, send fewer rows, or set a smaller "
        r"max_tokens\."
    )
    with pytest.raises(CostLimitError, match=words):
        frame.claude.batch("{text}", max_cost=0.04, client=client)
    assert posts(emulator) == 0
    assert Store(home).runs() == []
    assert [*(home / "drafts").glob("*")] == []


@pytest.mark.parametrize(
    ("what", "value"), [("max_cost", 0.06), ("max_tokens", 3_000), ("rows", 30)]
)
def test_each_way_out_leads_out(
    what: str, value: Any, frame: Any, client: anthropic.Anthropic, home: Path
) -> None:
    rows = frame.head(value) if what == "rows" else frame
    how = {} if what == "rows" else {what: value}
    out = rows.claude.batch("{text}", client=client, **{"max_cost": 0.04, **how})
    assert out["answer"].notna().all()
    assert Store(home).runs()[0].max_cost is not None


@pytest.mark.parametrize(
    "how",
    [
        {"model": "claude-haiku-9-9"},
        {"params": {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}},
        {"tools": ({"type": "web_search_20250305", "name": "web_search"},)},
        {"params": {"mcp_servers": [{"type": "url", "url": "https://a.example", "name": "a"}]}},
        {"tools": [{"type": "advisor_20260901", "name": "advisor"}]},
    ],
)
def test_a_cap_needs_a_price(
    how: dict[str, Any], frame: Any, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    """Not known is not nothing."""
    with pytest.raises(CostLimitError, match=r"max_cost=5\.0 cannot be kept: what it can cost at"):
        frame.claude.batch("{text}", max_cost=5.0, force=True, client=client, **how)
    cbp.options.max_cost_per_day = 100.0
    with pytest.raises(CostLimitError, match=r"options\.max_cost_per_day=100\.0 cannot be kept"):
        frame.claude.batch("{text}", force=True, client=client, **how)
    assert posts(emulator) == 0


@pytest.mark.parametrize("wrong", [0, -1, True, "5", float("nan"), float("inf"), None.__class__])
def test_a_cap_is_a_number_of_dollars(wrong: Any, frame: Any, client: anthropic.Anthropic) -> None:
    with pytest.raises(InputError, match="max_cost must be a positive number of US dollars"):
        frame.claude.batch("{text}", max_cost=wrong, client=client)


def test_a_sample_is_twice_as_dear(frame: Any, client: anthropic.Anthropic) -> None:
    """It is asked at the live price."""
    with pytest.raises(CostLimitError, match=r"can cost up to \$0\.01, more than max_cost=0\.01"):
        frame.claude.sample("{text}", n=5, max_cost=0.01, client=client)
    out = frame.claude.sample("{text}", n=5, max_cost=0.02, client=client)
    assert len(out) == 5


def test_a_run_says_first_what_it_sends(
    frame: Any, client: anthropic.Anthropic, capsys: pytest.CaptureFixture[str]
) -> None:
    """On standard error, once; a rerun sends nothing, and says nothing of it."""
    cbp.options.progress = "log"
    frame.claude.batch("{text}", client=client)
    first, *rest = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"2027\d{4}-answer-\w{4}: 40 rows, 40 distinct requests \(0 asked before\) in 1 batch: "
        r"about [\d,]+ input tokens \(± 30%\), [\d,]+ to 163,840 output tokens; about \$0\.00\d+, "
        r"at least \$0\.000\d+, at most \$0\.04; live about \$0\.00\d+\.",
        first,
    )
    assert not [line for line in rest if "distinct" in line]
    frame.claude.batch("{text}", client=client)
    assert "distinct" not in capsys.readouterr().err


# What is sent counts


def test_answers_free_what_was_reserved_for_them(
    frame: Any, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    """A day holds many runs, of which each is cheaper than it could have been."""
    cbp.options.max_cost_per_day = 0.05
    for i in range(3):
        frame.claude.batch(f"{i} {{text}}", client=client)
    assert 0 < billed(emulator) < Decimal("0.05")


def test_what_is_on_its_way_counts_as_the_most(
    frame: Any, client: anthropic.Anthropic, emulator: Emulator, clock: JumpingClock
) -> None:
    """For the day on which it was sent."""
    cbp.options.max_cost_per_day = 0.05
    emulator.rules = (Rule(outcome="succeeded", delay=10_000_000.0),)
    sent = threading.Event()
    emulator.faults = [on_post(meanwhile=lambda _: sent.set())]
    first = frame.claude.submit("{text}", client=client)
    assert sent.wait(20)
    words = r"allows\. \$0\.05 of it is spent or reserved today\. To go on"
    with pytest.raises(CostLimitError, match=words):
        frame.claude.submit("once more {text}", client=client)
    assert len(emulator.batches) == 1
    first.detach()


def test_a_lost_submission_keeps_its_reservation(
    frame: Any, connect: Connect, clock: JumpingClock, home: Path
) -> None:
    """It may be a batch, and so may the one that takes its place: both count."""
    cbp.options.max_cost_per_day = 1.0
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[on_post(drop=True)])
    run = frame.claude.submit("{text}", client=connect(emulator)).wait()
    store = Store(home)
    [twin] = store.twins(run.id)
    whole, _ = store.committed(run.id, 0.0)
    assert twin.reserved == largest(emulator, home) == store.shards(run.id)[0].reserved
    assert whole == Committed(2 * largest(emulator, home), 0)


def test_a_submission_of_unknown_fate_counts(
    frame: Any, connect: Connect, clock: JumpingClock
) -> None:
    cbp.options.max_cost_per_day = 0.05
    cbp.options.on_unknown = "ask"
    emulator = Emulator(clock=clock.now, faults=[on_post(drop=True), on_list(status=500, times=3)])
    with pytest.raises(PausedError, match="was lost"):
        frame.claude.batch("{text}", client=connect(emulator))
    with pytest.raises(CostLimitError, match="spent or reserved today"):
        frame.claude.batch("again {text}", client=connect(emulator))


def test_a_refused_submission_does_not_count(
    frame: Any, connect: Connect, clock: JumpingClock, home: Path
) -> None:
    """The API's word is taken, however often it says so."""
    cbp.options.max_cost_per_day = 0.05
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[on_post(status=429, times=3)])
    run = frame.claude.submit("{text}", client=connect(emulator)).wait()
    assert Store(home).committed(run.id, 0.0)[0].dollars == largest(emulator, home)


def test_a_lower_cap_stops_a_run_and_a_higher_one_lets_it_go_on(
    frame: Any, connect: Connect, clock: JumpingClock
) -> None:
    """The newest call's word counts; what was sent stays sent."""
    spent = {"type": "error", "error": {"type": "rate_limit_error", "message": "spend",
             "details": {"error_code": "enforced_spend_limit_reached"}}}  # fmt: skip
    faults = [on_post(status=400, body=orjson.dumps(spent), times=1)]
    emulator = Emulator(clock=clock.now, duration=60.0, faults=faults)
    how: dict[str, Any] = {"client": connect(emulator), "shard_size": 10}
    with pytest.raises(PausedError):
        frame.claude.batch("{text}", **how)
    with pytest.raises(PausedError, match=r"What goes out next can cost up to \$0\.01, more than"):
        frame.claude.batch("{text}", max_cost=0.001, **how)
    assert emulator.batches == []
    out = frame.claude.batch("{text}", max_cost=0.02, **how)
    assert out["answer"].notna().all()
    assert len(emulator.batches) == 4


def test_the_cap_of_a_day_goes_with_the_run(
    frame: Any, client: anthropic.Anthropic, emulator: Emulator, home: Path
) -> None:
    """A shell, or another kernel, has no options; whoever drives the run keeps to its maker's."""
    cbp.options.max_cost_per_day = 0.06
    emulator.faults = [on_post(status=402, times=None)]
    with pytest.raises(PausedError, match="402"):
        frame.claude.batch("{text}", shard_size=20, client=client)
    emulator.faults = []
    cbp.options.max_cost_per_day = None
    [run] = Store(home).runs()
    assert run.max_cost_per_day == Decimal("0.06")
    Store(home).set_max_cost(run.id, None, Decimal("0.01"))
    with pytest.raises(PausedError, match=r"more than options\.max_cost_per_day=0\.01 allows"):
        cbp.run(run.id, client=client).wait()
    assert emulator.batches == []
    cbp.options.max_cost_per_day = 0.07  # what is said here counts
    cbp.run(run.id, client=client).wait()
    assert [batch.total for batch in emulator.batches] == [20, 20]


def test_a_new_day_has_its_own_dollars(
    frame: Any, client: anthropic.Anthropic, clock: JumpingClock
) -> None:
    cbp.options.max_cost_per_day = 0.05
    frame.claude.batch("{text}", client=client)
    cbp.options.max_cost_per_day = 0.04
    with pytest.raises(CostLimitError, match="today"):
        frame.claude.batch("a {text}", client=client)
    cbp.options.max_cost_per_day = 0.05
    clock.advance(2 * DAY)
    frame.claude.batch("b {text}", client=client)


def test_what_others_planned_for_its_rows_is_under_the_cap(
    frame: Any, connect: Connect, clock: JumpingClock
) -> None:
    """Rows that another run has not sent yet are sent for this one, at its price."""
    spent = orjson.dumps({"type": "error", "error": {"type": "billing_error", "message": "x"}})
    faults = [on_post(status=402, body=spent, times=1)]
    emulator = Emulator(clock=clock.now, duration=60.0, faults=faults)
    how: dict[str, Any] = {"client": connect(emulator)}
    with pytest.raises(PausedError):
        frame.claude.batch("{text}", **how)
    part = frame.head(30)
    with pytest.raises(CostLimitError, match=r"This run of 40 requests can cost up to \$0\.05"):
        part.claude.batch("{text}", max_cost=0.01, **how)
    assert emulator.batches == []
    part.claude.batch("{text}", max_cost=0.06, **how)
    assert len(emulator.batches) == 1


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"max_tokens": 8_192}, r"can cost up to \$0\.09, more than max_cost=0\.06"),
        ({"model": "claude-opus-5-5"}, r"can cost up to \$1\.\d\d, more than max_cost=0\.06"),
        ({"model": "claude-haiku-9-9"}, r"max_cost=0\.06 cannot be kept"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "cannot be kept"),
    ],
)
def test_what_a_function_returns_is_what_is_bounded(
    own: dict[str, Any],
    words: str,
    frame: Any,
    client: anthropic.Anthropic,
    emulator: Emulator,
) -> None:
    """Its rows may have limits, models and tools of their own."""

    def ask(row: Any) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": row["text"]}], **own}

    with pytest.raises(CostLimitError, match=words):
        frame.claude.batch(ask, max_cost=0.06, force=True, client=client)
    assert posts(emulator) == 0


def test_a_twin_keeps_what_was_reserved_for_it(
    frame: Any, connect: Connect, clock: JumpingClock, home: Path
) -> None:
    """Also of a submission that was refused, should it turn out to be a batch."""
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[on_post(status=429, times=1)])
    run = frame.claude.submit("{text}", client=connect(emulator)).wait()
    [twin] = Store(home).twins(run.id)
    assert twin.reserved == largest(emulator, home)
    assert twin.reserved_at is not None
    assert twin.fence == ""
    assert twin.intended_at is not None


@pytest.mark.parametrize(
    ("own", "times"), [({}, 1), ({"cache_control": {"type": "ephemeral", "ttl": "1h"}}, 2)]
)
def test_what_is_marked_for_the_cache_may_be_written_to_it(own: dict[str, Any], times: int) -> None:
    """For an hour, at twice the price of what it reads, whoever marked it."""
    block = {"type": "text", "text": "x" * 9_000, **own}
    params = {"model": "claude-opus-5-5", "max_tokens": 1, "messages": [block]}
    scale = weights.Scale(params)
    scale.add([b'{"custom_id":"%b","params":%b}' % (b"0" * 45, orjson.dumps(params))])
    bound = estimates.most(scale.loads, Outlook(may_be_us=False))
    assert bound is not None
    assert bound == pytest.approx(Decimal(9_000 * 2 * times) / 1_000_000, rel=Decimal("0.05"))


@given(st.lists(st.integers(1, 250_000), min_size=1, max_size=6))
@settings(deadline=None, max_examples=30)
def test_long_prompts_are_bounded_one_by_one(sizes: list[int]) -> None:
    """However different they are: each is priced by its own tier."""
    for model in ("claude-haiku-5-5", "claude-sonnet-4-5"):
        scale = weights.Scale({"model": model, "max_tokens": 100})
        line = b'{"custom_id":"%b","params":{"max_tokens":100,"model":"%b","messages":"%b"}}'
        scale.add([line % (b"0" * 45, model.encode(), b"x" * size) for size in sizes])
        bound = estimates.most(scale.loads, Outlook(may_be_us=False))
        each = [models.price(model, models.Tokens(size, 100), large=True) for size in sizes]
        assert bound is not None
        assert bound >= sum(price for price in each if price is not None)


# The arithmetic

dollars = st.none() | st.decimals(0, 100, places=4, allow_nan=False)
charges = st.lists(st.builds(Charge, dollars, dollars), max_size=9)


@given(charges, charges, st.decimals(0, 100, places=4), st.decimals(1, 300, places=2))
def test_nothing_passes_a_cap(
    run: list[Charge], day: list[Charge], reserve: Decimal, most: Decimal
) -> None:
    """Neither of the two, and what nobody can say is never taken for nothing."""
    for per_run, per_day in ((most, None), (None, most), (most, most)):
        cap = Cap(reserve, 0.0, per_day)
        if cap.refusal(per_run, Committed.of(run), Committed.of(day)):
            continue
        for limit, found in ((per_run, run), (per_day, day)):
            parts = [charge.dollars for charge in found]
            assert limit is None or None not in parts
            assert limit is None or sum(filter(None, parts)) + reserve <= limit
    assert not Cap(None, 0.0).refusal(None, Committed.of(run), Committed.of(day))
    assert Cap(None, 0.0).refusal(most, Committed(), Committed())


@given(st.integers(0, 300_000), st.integers(1, 64_000), st.booleans(), st.integers(0, 2))
@settings(deadline=None)
def test_a_bound_is_a_bound(size: int, most: int, is_us: bool, cache: int) -> None:
    """Whatever a prompt of some bytes comes to, as long as no token is less than a byte."""
    line = (
        b'{"custom_id":"%s","params":{"max_tokens":%d,"model":"claude-haiku-5-5","messages":"%s"}}'
    )
    whole = line % (b"0" * 45, most, b"x" * size)
    scale = weights.Scale({"model": "claude-haiku-5-5", "max_tokens": most})
    scale.add([whole])
    outlook = Outlook(
        shared=cache, is_hour=cache == 2, factor=money.US_FACTOR if is_us else Decimal(1)
    )
    bound = estimates.most(scale.loads, outlook)
    writes = {0: (size, 0, 0), 1: (0, size, 0), 2: (0, 0, size)}[cache]
    tokens = models.Tokens(writes[0], most, writes[1], writes[2])
    price = models.price("claude-haiku-5-5", tokens, large=size > models.TIER_TOKENS)
    assert bound is not None
    assert price is not None
    assert bound >= price * outlook.factor


# Two engines


FATES: tuple[dict[str, Any], ...] = ({"drop": True}, {"after": True, "drop": True}, {"status": 529})


def spend(dice: random.Random, name: str, client: anthropic.Anthropic, start: Any) -> None:
    """Ask twice, whatever a cap says."""
    start.wait()
    for i in range(2):
        rows = [f"{name} {i} {row}" for row in range(dice.randint(1, 6))]
        data: Any = pd.DataFrame({"text": rows})
        try:
            data.claude.batch("{text}", client=client, shard_size=2, max_tokens=1_000)
        except (CostLimitError, PausedError):
            continue


def play(seed: int, connect: Connect) -> tuple[Decimal, Decimal]:
    """Let two engines spend under one cap at once; return the cap, and what the server bills."""
    dice = random.Random(seed)  # noqa: S311 - dice
    clock = session.clock = JumpingClock(1_800_000_000.0 + 3 * DAY * seed)  # a day of its own
    faults = [on_post(**dice.choice(FATES)) for _ in range(dice.randint(0, 3))]
    duration = dice.choice([1.0, 60.0, 4_000.0])
    emulator = Emulator(clock=clock.now, duration=duration, faults=faults, rules=LONG)
    cap = dice.choice(["0.001", "0.002", "0.004", "0.008"])
    cbp.options.max_cost_per_day = float(cap)
    cbp.options.poll_seconds = (60.0, 600.0)
    start = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        spending = []
        for name in ("a", "b"):
            own = random.Random(f"{seed}{name}")  # noqa: S311 - dice
            client = connect(emulator, api_key=name)
            spending.append(pool.submit(spend, own, f"{seed} {name}", client, start))
    for one in spending:
        one.result()
    return Decimal(cap), billed(emulator)


def test_two_engines_never_pass_their_cap(connect: Connect, clock: JumpingClock) -> None:
    """What the server bills, by its own usage, stays below; and comes near."""
    found = [play(seed, connect) for seed in range(SCHEDULES * SEED, SCHEDULES * (SEED + 1))]
    assert [bill for cap, bill in found if bill > cap] == []
    assert any(bill > cap / 2 for cap, bill in found)
