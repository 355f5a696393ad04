"""What a call will cost, before: tokens, answers, dollars; and what the card says of it."""

from __future__ import annotations

import base64
import io
from decimal import Decimal
from typing import Any

import anthropic
import orjson
import pandas as pd
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import claude_batch_pandas as cbp
from claude_batch_pandas import models, weights
from claude_batch_pandas.emulator import Emulator, Rule, serve
from claude_batch_pandas.estimates import (
    GUESS,
    SAMPLE,
    Counted,
    Outlook,
    Rate,
    Sample,
    dump,
    estimate,
    load,
    told,
)
from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.stretches import Stretch
from claude_batch_pandas.weights import (
    FRAME,
    NEW_BYTES,
    OLD_BYTES,
    PAGE_TOKENS,
    Load,
    Scale,
    Tier,
    together,
    weigh,
)

HAIKU, OPUS = "claude-haiku-5-5", "claude-opus-5-5"
PARAMS = {"model": HAIKU, "max_tokens": 100}


def body(text: str, **more: Any) -> bytes:
    return orjson.dumps({**PARAMS, "messages": [{"role": "user", "content": text}], **more})


def line(params: bytes) -> bytes:
    """Return params as a line of a body."""
    return Stretch.of("0" * 16, 1, 0, b"", {b"0" * 16: params})[0]


def picture(width: int, height: int) -> dict[str, Any]:
    from PIL import Image

    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    return {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": data},
    }


@given(st.lists(st.text(), max_size=30), st.integers(0, 60))
@settings(deadline=None, max_examples=60)
def test_requests_weigh_the_same_however_they_come(texts: list[str], cut: int) -> None:
    """In one go, one by one or in two parts, read or not."""
    found = [line(body(text, tag="x" * 60)) for text in texts]
    at_once, one_by_one, read = Scale(PARAMS), Scale(PARAMS), Scale({**PARAMS, "model": object()})
    parts, uniform = (Scale(PARAMS), Scale(PARAMS)), Scale(PARAMS, is_uniform=True)
    at_once.add(found)
    uniform.add(found, map(len, found))
    for request in found:
        one_by_one.add([request])
        read.add([request])
    for part, some in zip(parts, (found[:cut], found[cut:]), strict=True):
        part.add(some)
    assert at_once.loads == one_by_one.loads == read.loads == uniform.loads
    assert at_once.loads == together(part.loads for part in parts)
    assert at_once.loads == weights.load(weights.dump(at_once.loads))
    total = sum(load.requests for load in at_once.loads.values())
    assert total == len(texts)


def test_an_image_costs_its_pixels_not_its_bytes() -> None:
    """A token per square of 28 pixels, as large as the model sees it; a PDF by its pages."""
    content = [{"type": "text", "text": "look"}, picture(280, 56)]
    request = orjson.dumps({**PARAMS, "messages": [{"role": "user", "content": content}]})
    model, one = weigh(request)
    assert (model, one.media) == (HAIKU, 10 * 2)
    assert one.text == len(request) - FRAME - len(content[1]["source"]["data"])
    huge = picture(4_000, 4_000)
    assert weigh(body("", system=[huge]))[1].media <= 4_784
    pdf = base64.b64encode(b"%PDF-1.4 /Type /Pages /Type /Page /Type /Page").decode()
    document = {"type": "document", "source": {"type": "base64", "data": pdf}}
    assert weigh(body("", system=[document]))[1].media == 2 * PAGE_TOKENS
    unseen = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    assert weigh(body("", system=[unseen]))[1].media == 4_784
    broken = {"type": "image", "source": {"type": "base64", "data": "no base64"}}
    assert weigh(body("", system=[broken]))[1].media == 4_784


def test_golden_dollars() -> None:
    """By hand from the price sheet: Haiku 5.5 at 0.05 and 0.25 a million in batches, twice live."""
    loads = {(HAIKU, Tier.SHORT): Load(1_000, 3_100_000, 0, 4_000_000)}
    found = estimate(loads, Rate(), Outlook(answer=100))
    assert found.input_tokens == 1_000_000
    assert (found.output_tokens, found.max_output_tokens) == (100_000, 4_000_000)
    assert found.dollars is not None
    assert found.dollars.expected == Decimal("0.05") + Decimal("0.025")
    assert found.dollars.live == Decimal("0.10") + Decimal("0.05")
    assert found.dollars.high == Decimal("0.05") * Decimal("1.3") + Decimal("1.00")
    assert found.dollars.low == Decimal("0.05") * Decimal("0.7") + Decimal("0.00025")


def test_long_prompts_are_dearer() -> None:
    """Haiku 5.5 costs five times as much for a prompt of more than 100,000 tokens, all of it."""
    scale = Scale(PARAMS)
    scale.add([line(body(text)) for text in ("x" * 400_000, "x" * 200_000, "short")])
    assert set(scale.loads) == {(HAIKU, tier) for tier in Tier}
    long = {(HAIKU, Tier.LONG): Load(2, 2 * 310_000 * 2, 0, 0)}
    found = estimate(long, Rate(), Outlook())
    assert found.dollars is not None
    assert found.dollars.expected == Decimal("0.25") * Decimal(400_000) / Decimal(1_000_000)


def test_us_inference_is_dearer_and_an_unknown_price_is_none() -> None:
    loads = {(OPUS, Tier.SHORT): Load(1, 31_000, 0, 0)}
    here = estimate(loads, Rate(), Outlook()).dollars
    us = estimate(loads, Rate(), Outlook(factor=Decimal("1.1"))).dollars
    assert here is not None
    assert us is not None
    assert us.expected == here.expected * Decimal("1.1")
    unknown = estimate({**loads, ("my-model", Tier.SHORT): Load(1, 1, 0, 1)}, Rate(), Outlook())
    assert unknown.dollars is None
    assert "the price is not known" in repr(unknown)


def test_a_cache_is_written_once_at_best_and_always_at_worst() -> None:
    """What all rows share is read at a tenth or less; writing it costs a quarter more, or twice."""
    loads = {(OPUS, Tier.SHORT): Load(100, 100 * 31_000, 0, 0)}
    plain = estimate(loads, Rate(), Outlook()).dollars
    cached = estimate(loads, Rate(), Outlook(shared=15_500)).dollars
    hour = estimate(loads, Rate(), Outlook(shared=15_500, is_hour=True)).dollars
    short = estimate(loads, Rate(), Outlook(shared=155)).dollars  # too few tokens to be cached
    assert plain is not None
    assert cached is not None
    assert hour is not None
    assert cached.low < cached.expected < plain.expected
    assert cached.high > plain.high
    assert hour.high > cached.high
    assert short == plain
    # 100 requests of 10,000 tokens, half of each shared: 2 dollars in batches, writes 2.50, reads 0.10.
    assert plain.expected == Decimal(2)
    half = Decimal("0.5")
    reads, writes = Decimal("0.65") * half, Decimal("0.35") * half
    assert cached.expected == 1 + reads * Decimal("0.1") + writes * Decimal("2.5")


def test_what_requests_have_cached_themselves_is_in_the_most() -> None:
    """Whatever they mark, and for how long: at worst all of it is written, at twice the price."""
    key, load_ = (HAIKU, Tier.SHORT), Load(10, 31_000, 0, 100)
    plain = estimate({key: load_}, Rate(), Outlook())
    marked = estimate({key: load_._replace(marked=10)}, Rate(), Outlook())
    assert plain.dollars is not None
    assert marked.dollars is not None
    answers = Decimal("0.25") * 100 / 1_000_000
    assert marked.dollars.high - answers == 2 * (plain.dollars.high - answers)
    assert marked.dollars.expected == plain.dollars.expected
    assert "mark parts for the prompt cache themselves" in marked.notes[0]
    assert plain.notes == ()


def test_what_tools_of_the_api_read_is_in_no_number() -> None:
    load_ = Load(10, 31_000, 0, 100, unbounded=1)
    found = estimate({(HAIKU, Tier.SHORT): load_}, Rate(), Outlook())
    assert found.words.endswith(", without what the API's own tools read")
    assert "high, without what the API's own tools read" in repr(found)
    assert not found.facts()["is_bounded"]


def test_a_sample_tells_its_error() -> None:
    """Twice the standard error; one request tells nothing about others."""
    same = [Counted(Load(1, size, 0, 0), size // 4) for size in (400, 800, 4_000)]
    assert Rate.of(same) == Rate(0.25, 0.0, 3)
    spread = [Counted(Load(1, 400, 0, 0), tokens) for tokens in (90, 110)]
    assert Rate.of(spread).error == pytest.approx(2 * (10 * 2**0.5) / 2**0.5 / 100)
    assert Rate.of(same[:1]) == Rate(0.25, GUESS, 1)
    assert Rate.of([]) == Rate()
    assert Rate.of([Counted(Load(1, 400, 100, 0), 200)]).tokens == 0.25  # without the image's


@given(st.sets(st.binary(min_size=16, max_size=16), max_size=60))
def test_a_sample_does_not_depend_on_the_order(digests: set[bytes]) -> None:
    there, back = Sample(), Sample()
    for digest in sorted(digests):
        there.add(digest, b"", digest)
    for digest in sorted(digests, reverse=True):
        back.add(digest, b"", digest)
    assert sorted(there.requests) == sorted(back.requests) == sorted(digests)[:SAMPLE]


def test_what_a_ledger_keeps_gives_the_same_dollars() -> None:
    outlook = Outlook(40, 6_000, True, Decimal("1.1"), has_tools=True, shards=4)
    assert load(dump(outlook)) == outlook


def test_older_models_have_longer_tokens() -> None:
    old = estimate({("claude-haiku-4-5", Tier.SHORT): Load(1, 12_400, 0, 0)}, Rate(), Outlook())
    new = estimate({(HAIKU, Tier.SHORT): Load(1, 12_400, 0, 0)}, Rate(), Outlook())
    assert (old.input_tokens, new.input_tokens) == (12_400 / OLD_BYTES, 12_400 / NEW_BYTES)


@pytest.fixture
def frame() -> pd.DataFrame:
    texts = [f"Where is my card number {i}? " * (1 + i % 4) for i in range(60)]
    return pd.DataFrame({"text": [*texts, texts[0], None]})


def test_an_estimate_counts_and_sends_nothing(
    frame: pd.DataFrame, emulator: Emulator, client: Any
) -> None:
    """Rows, distinct requests, tokens as the API counts them; and no request is asked."""
    found = frame.claude.estimate("{text}", client=client)
    assert (found.rows, found.requests, found.answered, found.shards) == (62, 60, 0, 1)
    assert found.counted == SAMPLE
    assert not emulator.batches
    out = frame.claude.batch("{text}", client=client)
    used = cbp.run(cbp.runs()["id"].iloc[0], client=client).details()["input_tokens"].iloc[:60]
    assert out["answer_status"].iloc[-1] == "skipped"
    assert found.input_tokens == pytest.approx(int(used.sum()), rel=max(0.05, 2 * found.error))
    again = frame.claude.estimate("{text}", client=client)
    assert (again.answered, again.input_tokens, again.shards) == (60, 0, 0)
    assert again.dollars is not None
    assert again.dollars.high == 0


def test_offline_asks_nobody(frame: pd.DataFrame, client: Any, emulator: Emulator) -> None:
    emulator.faults = [
        cbp.emulator.Fault(method=method, path=".*", status=500, times=None)
        for method in ("GET", "POST")
    ]
    found = frame.claude.estimate("{text}", client=client, offline=True)
    assert (found.counted, found.error) == (0, GUESS)
    assert "guessed from bytes" in repr(found)


def test_without_a_key_an_estimate_is_a_guess(frame: pd.DataFrame) -> None:
    found = frame.claude.estimate("{text}")
    assert found.counted == 0
    assert any("there is no key." in note for note in found.notes)


def test_a_server_that_does_not_count_is_told_of(
    frame: pd.DataFrame, client: Any, emulator: Emulator
) -> None:
    emulator.faults = [
        cbp.emulator.Fault(method="POST", path=".*count_tokens", status=404, times=None)
    ]
    found = frame.claude.estimate("{text}", client=client)
    assert found.counted == 0
    assert any(note.startswith("Tokens are guessed from bytes") for note in found.notes)


def test_a_wrong_call_is_refused(frame: pd.DataFrame, client: Any) -> None:
    with pytest.raises(InputError, match="columns that the DataFrame lacks: 'txt'"):
        frame.claude.estimate("{txt}", client=client)


def test_verbs_and_models_by_row(frame: pd.DataFrame, client: Any) -> None:
    """Choices are short answers; each model has its own price."""
    verb = frame.claude.estimate("text", verb="classify", labels=["a", "b"], client=client)
    words = frame.claude.estimate("{text}", client=client)
    assert verb.output_tokens < words.output_tokens
    both = frame.assign(model=[HAIKU, OPUS] * 31)
    mixed = both.claude.estimate("{text}", model=cbp.col("model"), client=client)
    assert mixed.dollars is not None
    assert words.dollars is not None
    assert mixed.dollars.expected > words.dollars.expected


def test_thinking_is_output_and_told_of(frame: pd.DataFrame) -> None:
    """The newer models think unless they are told not to."""
    found = frame.claude.estimate("{text}", model="claude-opus-5-5", offline=True)
    assert any("thinks before it answers" in note for note in found.notes)
    off = frame.claude.estimate("{text}", thinking={"type": "disabled"}, offline=True)
    assert not any("thinks" in note for note in off.notes)
    on = frame.claude.estimate("{text}", offline=True)
    assert on.output_tokens > off.output_tokens


def test_the_low_is_a_low(client: Any) -> None:
    """Answers of a word cost less than typical ones, and not less than that."""
    df: Any = pd.DataFrame({"text": [f"Answer yes or no. {i}" for i in range(30)]})
    rule = Rule(outcome="succeeded", text="yes")
    with serve(emulator=Emulator(rules=[rule], duration=0.0)) as url:
        own = anthropic.Anthropic(base_url=url, api_key="none")
        found = df.claude.estimate("{text}", client=own)
        run = df.claude.submit("{text}", client=own, canary=False).wait()
    assert found.dollars is not None
    assert found.dollars.low <= run.report().bill.dollars <= found.dollars.high


def test_a_canary_is_in_the_estimate(frame: pd.DataFrame, client: Any) -> None:
    """One of 60 requests at twice the price."""
    without = frame.claude.estimate("{text}", client=client, canary=False).dollars
    found = frame.claude.estimate("{text}", client=client, canary=True).dollars
    assert without is not None
    assert found is not None
    assert found.high == without.high * (1 + Decimal(1) / 60)


def test_files_are_weighed_and_not_sent(client: Any, emulator: Emulator) -> None:
    """As if they stood in the requests."""
    df: Any = pd.DataFrame({"photo": [PIL.Image.new("L", (280, 280), i) for i in range(3)]})
    asked = ["What is it?", cbp.image("photo")]
    plain = df.claude.estimate(asked, client=client)
    found = df.claude.estimate(asked, upload=True, client=client)
    assert found.input_tokens == plain.input_tokens
    assert found.counted == 3
    assert any(note.startswith("With upload=True") for note in found.notes)


def test_an_empty_frame_costs_nothing(client: Any) -> None:
    found = pd.DataFrame({"text": []}).claude.estimate("{text}", client=client)
    assert (found.rows, found.requests, found.shards) == (0, 0, 0)
    assert found.dollars is not None
    assert found.dollars.high == 0


def test_the_card_says_what_was_estimated(frame: pd.DataFrame, client: Any) -> None:
    """From what was planned, without counting; a rerun has nothing to estimate."""
    run = frame.claude.submit("{text}", client=client).wait()
    offline = frame.claude.estimate("{text}", client=client, offline=True, reuse=False)
    assert run.card(run.progress).estimate == told(offline.dollars)


def test_prices_come_from_the_table() -> None:
    """The estimate and the bill agree about what a token costs."""
    loads = {(OPUS, Tier.SHORT): Load(1, 31_000, 0, 1_000)}
    found = estimate(loads, Rate(error=0.0), Outlook(answer=1_000)).dollars
    assert found is not None
    assert found.expected == models.price(OPUS, models.Tokens(10_000, 1_000))
