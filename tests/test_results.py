"""Bytes of a results file -> `Result`: whatever comes, one odd line costs at most one row."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_batch_pandas.records import RowStatus
from claude_batch_pandas.results import DOUBTFUL
from tests.soak import fuzz
from tests.strategies import line, message, read_all, read_one, succeeded, tags_of, texts, usage

TEXT = {"type": "text", "text": "hi"}
NESTED = {
    "type": "error",
    "error": {"type": "overloaded_error", "message": "Overloaded"},
    "request_id": "req_1",
}

blocks = st.one_of(
    texts.map(lambda text: {"type": "text", "text": text}),
    texts.map(lambda text: {"type": "thinking", "thinking": text, "signature": "s"}),
    st.just({"type": "tool_use", "id": "t", "name": "n", "input": {"text": "no"}}),
    st.just({"type": "redacted_thinking", "data": "x"}),
    st.just({"type": "brand_new", "text": "no"}),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
good_lines = st.one_of(
    texts.map(lambda text: line("a", succeeded(text))),
    st.just(line("b", {"type": "errored", "error": NESTED})),
    st.just(line("c", {"type": "canceled"})),
    st.just(line("d", {"type": "expired"})),
)
bad_lines = st.sampled_from(
    [
        b"<html>",
        b"{",
        b"\xff\xfe\xff",
        b'{"custom_id":"x"}',
        b"null",
        b"[]",
        b"5",
        b"\x00\x00",
        b"[" * 200_000,
        b'{"custom_id":null,"result":{"type":"canceled"}}',
    ]
)


def test_answer_is_read_with_its_facts() -> None:
    """A plain answer gives its text, stop reason, model, message id and tokens."""
    tokens = usage(
        input_tokens=3,
        output_tokens=9,
        cache_creation_input_tokens=30,
        cache_read_input_tokens=40,
        cache_creation={"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
        output_tokens_details={"thinking_tokens": 4},
        server_tool_use={"web_search_requests": 2},
        inference_geo="us",
    )
    found = read_one(succeeded("hi", usage=tokens))
    assert found.usage is not None

    assert (found.status, found.text, found.error) == (RowStatus.SUCCEEDED, "hi", None)
    assert (found.stop_reason, found.model) == ("end_turn", "claude-haiku-5-5")
    assert found.usage.prompt_tokens == 3 + 30 + 40
    assert found.usage.cache_write_5m_tokens == 10
    assert found.usage.cache_write_1h_tokens == 20
    assert found.usage.thinking_tokens == 4
    assert found.usage.web_searches == 2
    assert found.usage.service_tier == "batch"
    assert found.usage.inference_geo == "us"


@given(st.lists(blocks, max_size=6))
@settings(deadline=None, max_examples=200)
def test_answer_is_all_text_blocks(content: list[dict[str, Any]]) -> None:
    """Only text blocks are the answer, all of them, wherever they stand; none is an empty text."""
    expected = "".join(block["text"] for block in content if block["type"] == "text")
    found = read_one(succeeded(content))

    assert (found.status, found.text) == (RowStatus.SUCCEEDED, expected)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "brand_new", "text": {"nested": 1}},
        {"type": "brand_new", "text": ["a"]},
        {"type": "brand_new", "text": 5},
        {"no": "type"},
    ],
)
def test_odd_block_does_not_cost_the_answer(block: dict[str, Any]) -> None:
    """A block of an unknown shape is passed over; the paid answer beside it is kept."""
    found = read_one(succeeded([block, TEXT]))

    assert (found.status, found.text) == (RowStatus.SUCCEEDED, "hi")


@pytest.mark.parametrize(
    "fields",
    [
        {"usage": {"input_tokens": 5, "server_tool_use": []}},
        {"usage": {"input_tokens": "many"}},
        {"usage": "none"},
        {"stop_details": "odd"},
        {"model": None, "id": None},
        {"stop_sequence": {"odd": 1}},
    ],
)
def test_odd_facts_do_not_cost_the_answer(fields: dict[str, Any]) -> None:
    """Facts beside the answer that have an unknown shape never cost the paid answer."""
    found = read_one(succeeded("hi", **fields))

    assert (found.status, found.text) == (RowStatus.SUCCEEDED, "hi")


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("end_turn", RowStatus.SUCCEEDED),
        ("stop_sequence", RowStatus.SUCCEEDED),
        ("tool_use", RowStatus.SUCCEEDED),
        (None, RowStatus.SUCCEEDED),
        ("refusal", RowStatus.REFUSED),
        ("max_tokens", RowStatus.TRUNCATED),
        ("model_context_window_exceeded", RowStatus.TRUNCATED),
        ("pause_turn", RowStatus.TRUNCATED),
    ],
)
def test_stop_reason_decides(reason: str | None, status: RowStatus) -> None:
    """A result of type succeeded is a success only when the answer was neither cut nor refused."""
    found = read_one(succeeded("part", stop_reason=reason))

    assert (found.status, found.text, found.stop_reason) == (status, "part", reason)
    assert (found.error is None) == (status is RowStatus.SUCCEEDED)


def test_refusal_says_why() -> None:
    """A refusal's category and explanation are in the error."""
    details = {"type": "refusal", "category": "cyber", "explanation": "No exploits."}
    found = read_one(succeeded([], stop_reason="refusal", stop_details=details))

    assert found.error == "the model refused to answer: cyber: No exploits."
    assert found.text == ""


def test_refusal_without_details() -> None:
    """A refusal may come without details."""
    found = read_one(succeeded([], stop_reason="refusal", stop_details=None))

    assert found.error == "the model refused to answer"


def test_nested_error_is_read() -> None:
    """Type, message and request id come from result.error.error, as the API sends it."""
    found = read_one({"type": "errored", "error": NESTED})

    assert found.status is RowStatus.ERRORED
    assert found.error_type == "overloaded_error"
    assert found.error == "overloaded_error: Overloaded"
    assert found.request_id == "req_1"
    assert found.text is None


def test_flat_error_is_read() -> None:
    """The flat shape of the API's own samples is understood as well."""
    found = read_one({"type": "errored", "error": NESTED["error"]})

    assert (found.status, found.error_type) == (RowStatus.ERRORED, "overloaded_error")
    assert found.error == "overloaded_error: Overloaded"


@pytest.mark.parametrize(
    "error",
    [
        None,
        {},
        "boom",
        {"type": "error", "error": None},
        {"type": "error", "error": "boom"},
        {"type": "error", "error": {"type": None, "message": None}},
        {"type": "error", "error": {"type": "new_error", "message": ["odd"]}},
    ],
)
def test_odd_error_is_an_error(error: Any) -> None:
    """An error of any shape is errored, which is not billed, and never unreadable."""
    found = read_one({"type": "errored", "error": error})

    assert found.status is RowStatus.ERRORED
    assert found.error


@pytest.mark.parametrize("kind", ["canceled", "expired"])
@pytest.mark.parametrize("extra", [{}, {"error": "why"}, {"message": 1}])
def test_request_that_was_never_answered(kind: str, extra: dict[str, Any]) -> None:
    """Canceled and expired requests are told apart, say how to go on, and cost nothing."""
    found = read_one({"type": kind, **extra})

    assert found.status == kind
    how = "retry(canceled=True)" if kind == "canceled" else "retry()"
    assert f"{how} of its run" in str(found.error)
    assert (found.text, found.usage) == (None, None)


@pytest.mark.parametrize(
    "extra", [{}, {"message": message("hi")}, {"message": "later"}, {"error": "later"}]
)
def test_unknown_type_is_errored_by_name(extra: dict[str, Any]) -> None:
    """A result type we do not know is errored with its name, whatever it carries."""
    found = read_one({"type": "brand_new", **extra})

    assert (found.status, found.error_type) == (RowStatus.ERRORED, DOUBTFUL)
    assert "'brand_new'; it may have been paid" in str(found.error)
    assert found.text is None


def test_success_without_a_message_is_errored() -> None:
    """A success that holds no message is no success."""
    assert read_one({"type": "succeeded"}).status is RowStatus.ERRORED


@given(texts)
@settings(deadline=None, max_examples=200)
def test_any_text_round_trips(text: str) -> None:
    """Text comes out as it went in, escaped or not, line separators such as U+2028 included."""
    plain = json.dumps(
        {"custom_id": "a", "result": succeeded(text + "\u2028\u0085")}, ensure_ascii=False
    )
    found = read_all([line("a", succeeded(text)), plain.encode()])

    assert [result.text for _, result in found] == [text, text + "\u2028\u0085"]


@given(st.lists(st.sampled_from(["\ud800", "\udfff", "x", "é", "😀"]), max_size=8))
@settings(deadline=None, max_examples=100)
def test_lone_surrogates_become_replacement_characters(parts: list[str]) -> None:
    """A lone surrogate costs one character: what is left can be written as UTF-8."""
    # A space after each part keeps two halves from becoming a pair.
    found = read_one(succeeded("".join(part + " " for part in parts)))
    shown = ["\ufffd" if "\ud800" <= part <= "\udfff" else part for part in parts]

    assert found.text == "".join(part + " " for part in shown)
    assert found.status is RowStatus.SUCCEEDED


@given(st.lists(st.binary(max_size=200), max_size=4))
@settings(deadline=None, max_examples=300)
def test_random_bytes_never_raise(lines: list[bytes]) -> None:
    """No bytes make the reader fail; what cannot be read is left out."""
    assert all(isinstance(name, str) for name, _ in read_all(lines))


@given(values, values, values)
@settings(deadline=None, max_examples=300)
def test_random_json_never_raises(custom_id: Any, result: Any, odd: Any) -> None:
    """No JSON makes the reader fail, however odd its types."""
    lines = [
        line(custom_id, result),
        line("a", {"type": "succeeded", "message": odd}),
        line("a", {"type": "succeeded", "message": {**message("x"), "usage": odd}}),
        line("a", {"type": "errored", "error": odd}),
        line("a", {"type": odd}),
    ]

    assert all(isinstance(name, str) for name, _ in read_all(lines))
    assert len(tags_of(lines)) == len(lines)


@given(st.lists(good_lines, max_size=6), st.data())
@settings(deadline=None, max_examples=100)
def test_splitting_is_irrelevant(lines: list[bytes], data: st.DataObject) -> None:
    """Lines give the same results one by one, in blocks, or as one file."""
    cut = data.draw(st.integers(0, len(lines)))
    each = read_all([one + b"\n" for one in lines])
    whole = b"".join(one + b"\n" for one in lines)
    halves = [b"".join(one + b"\n" for one in part) for part in (lines[:cut], lines[cut:])]

    assert len(each) == len(lines)
    assert read_all([whole]) == each
    assert read_all(halves) == each
    assert read_all([whole.removesuffix(b"\n")]) == each


@given(st.lists(good_lines, max_size=5), bad_lines, st.lists(good_lines, max_size=5))
@settings(deadline=None, max_examples=100)
def test_bad_line_costs_itself_only(before: list[bytes], bad: bytes, after: list[bytes]) -> None:
    """A line that cannot be read leaves the lines before and after it readable."""
    block = b"".join(one + b"\n" for one in [*before, bad, *after])
    found = read_all([block])

    assert found == read_all([*before, *after])
    assert len(found) == len(before) + len(after)


@given(st.lists(st.one_of(good_lines, bad_lines), max_size=6))
@settings(deadline=None, max_examples=100)
def test_tags_agree_with_results(lines: list[bytes]) -> None:
    """Tags name every line in order, None exactly for those that give no result."""
    tags = tags_of([one + b"\n" for one in lines])
    readable = [tag for tag in tags if tag is not None]

    assert len(tags) == len(lines)
    assert [name for name, _ in readable] == [name for name, _ in read_all(lines)]


@pytest.mark.parametrize(
    "odd",
    [
        b"\n",
        b"\r\n",
        b" \n",
        line("b", {"type": "canceled"}) + line("c", {"type": "canceled"}) + b"\n",
        json.dumps({"custom_id": "b", "result": {"type": "canceled"}}, indent=1).encode() + b"\n",
    ],
    ids=["blank", "carriage return", "space", "two objects", "one object over lines"],
)
def test_line_is_read_alike_beside_a_bad_one(odd: bytes) -> None:
    """What a line gives does not depend on whether another line of its block is bad."""
    good = line("a", {"type": "canceled"}) + b"\n"
    alone = tags_of([good + odd + good])
    beside = tags_of([good + odd + good + b"<html>\n"])

    assert beside == [*alone, None]


@pytest.mark.parametrize(
    "raw",
    [
        b"\xef\xbb\xbf" + line("a", succeeded("hi")),
        line("a", succeeded("hi")) + b"\r",
        line("a", succeeded("hi")).replace(b'"stop_sequence": null', b'"stop_sequence": NaN'),
        line("a", succeeded("hi")).replace(b'"stop_sequence": null', b'"x": ' + b"9" * 4000),
        line("a", succeeded("hi")).replace(b'"stop_sequence": null', b'"x": "\\ud800"'),
        line("a", succeeded("hi", stop_reason="end_turn", new=[[[1]]])),
    ],
)
def test_harmless_oddities_are_tolerated(raw: bytes) -> None:
    """A byte order mark, carriage returns, NaN and long numbers do not cost the row."""
    [(name, found)] = read_all([raw])

    assert (name, found.status, found.text) == ("a", RowStatus.SUCCEEDED, "hi")


def test_missing_usage_is_unknown() -> None:
    """An answer without usage has none, rather than zeros."""
    assert read_one(succeeded("hi")).usage is None


def test_writes_without_a_split_are_for_five_minutes() -> None:
    """Cache writes whose duration is not told are taken for the default of five minutes."""
    found = read_one(succeeded("hi", usage=usage(cache_creation_input_tokens=30)))
    assert found.usage is not None

    assert (found.usage.cache_write_5m_tokens, found.usage.cache_write_1h_tokens) == (30, 0)


@pytest.mark.parametrize("seed", range(len(fuzz.SEEDS)))
def test_what_the_fuzzer_starts_from_holds(seed: int) -> None:
    """So does every prefix of it, and every copy with one byte changed."""
    data = fuzz.SEEDS[seed]
    step = max(1, len(data) // 60)
    for i in range(0, len(data), step):
        fuzz.check(data[:i])
        fuzz.check(data[:i] + bytes([data[i] ^ 0x15]) + data[i + 1 :])
