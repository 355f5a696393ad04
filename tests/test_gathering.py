"""Results as columns: what a run says in little memory is what it says request by request."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator

from claude_batch_pandas import copies, money
from claude_batch_pandas.answers import sent_by
from claude_batch_pandas.columns import STATUSES, Builder, Columns, Stock
from claude_batch_pandas.exceptions import LedgerError
from claude_batch_pandas.gathering import Gatherer, Parts
from claude_batch_pandas.matching import Matched
from claude_batch_pandas.outputs import Output, output_of
from claude_batch_pandas.planning import Draft
from claude_batch_pandas.records import Counts, RowStatus, Shard
from claude_batch_pandas.rendered import Reason
from claude_batch_pandas.results import read, read_block
from claude_batch_pandas.texts import Texts
from tests.strategies import line, succeeded, usage
from tests.test_answers import ERRORED, Ledger

ASIDE = [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "B"}]
CALL = [{"type": "tool_use", "id": "1", "name": "find", "input": {"x": 1}}]
CHEAP = usage(input_tokens=11, output_tokens=3)
OUTCOMES: list[Any] = [
    succeeded("A", usage=CHEAP),
    succeeded("", usage=CHEAP),
    succeeded(ASIDE, usage=usage(output_tokens=7, cache_read_input_tokens=5)),
    succeeded([*ASIDE, *ASIDE], stop_reason="stop_sequence", usage=CHEAP),
    succeeded('{"topic": "cards", "stars": 3}', usage=CHEAP),
    succeeded('{"topic": "cards", "stars": "many"}', usage=CHEAP),
    succeeded('{"topic": "car', usage=CHEAP, stop_reason="max_tokens"),
    succeeded([], usage=usage(output_tokens=9)),
    succeeded(CALL, usage=CHEAP, stop_reason="tool_use"),
    succeeded("cut", usage=CHEAP, stop_reason="max_tokens"),
    succeeded("no", usage=CHEAP, stop_reason="refusal"),
    succeeded("to be", usage=CHEAP, stop_reason="pause_turn"),
    succeeded("odd", usage=CHEAP, stop_reason="something_new"),
    succeeded("unpriced"),
    succeeded("C", model="claude-of-tomorrow", usage=CHEAP),
    succeeded("long", usage=usage(input_tokens=99_000, cache_creation_input_tokens=2_000)),
    succeeded(
        "cached",
        usage=usage(cache_creation_input_tokens=9, cache_creation={"ephemeral_1h_input_tokens": 4}),
    ),
    succeeded("live", usage={**CHEAP, "service_tier": "standard"}),
    succeeded(
        "us", usage={**CHEAP, "inference_geo": "us", "server_tool_use": {"web_search_requests": 2}}
    ),
    ERRORED,
    {
        "type": "errored",
        "error": {"type": "billing_error", "message": "Your credit balance is low"},
    },
    {"type": "expired"},
    {"type": "canceled"},
    {"type": "of_tomorrow"},
]
TYPED = output_of("answer", {"topic": str, "stars": int})
PLAIN = output_of("answer")


def gatherer(
    ledger: Ledger, output: Output, ids: Sequence[str], parts: Parts | None = None
) -> Gatherer:
    """Return what gathers the results of runs that were read as an output."""
    reader = ledger.reader
    reader.outputs = dict.fromkeys(ids, output)
    return Gatherer(reader, {} if parts is None else parts)


def settle(ledger: Ledger, draft: Draft, shard: Shard, dice: random.Random) -> None:
    """Bring a shard to some end, or none."""
    fate = dice.choice(["whole", "whole", "whole", "damaged", "open", "withdrawn"])
    if fate == "open":
        return
    if fate == "withdrawn":
        ledger.store.mark_withdrawn(shard)
        return
    names = ledger.names(draft.record, shard)
    lines = [line(name, dice.choice(OUTCOMES)) for name in names]
    dice.shuffle(lines)
    if fate == "damaged":
        lines = [*lines[1:], *dice.sample(lines, 1), b"{", line("foreign", OUTCOMES[0])]
        lines += [line(dice.choice(names), OUTCOMES[0])]
    counts = dice.choice([None, Counts(succeeded=len(lines))])
    ledger.collect(draft.record, shard, lines, complete=fate == "whole", counts=counts)


def check(ledger: Ledger, output: Output, draft: Draft, ids: Sequence[str]) -> None:
    """Compare what is gathered with what is read request by request."""
    gathering = gatherer(ledger, output, ids)
    rows, bill = gathering.rows(draft.record)
    answers = gathering.reader.of_requests(draft.record)
    expected = gathering.reader.of_rows(draft.record, answers).results

    assert [STATUSES[code] for code in rows.codes] == [result.status for result in expected]
    assert [listed(cells) for cells in rows.cells] == output.cells(expected)
    assert listed(rows.errors) == [result.error for result in expected]
    assert bill == money.bill(sent_by(answers, draft.record))


def copy(ledger: Ledger, output: Output, ids: Sequence[str]) -> None:
    """Write copies of the results that a run collects whole."""
    gathering = gatherer(ledger, output, ids)
    for record in map(ledger.store.run, ids):
        for shard in ledger.store.shards(record.id):
            if shard.results_sha256 is not None and shard.complete:
                part = gathering.part(record, shard, output)
                path = ledger.reader.spool.copy(record.id, shard.number)
                copies.save(path, part, shard.results_sha256)


def listed(cells: Texts | list[Any]) -> list[Any]:
    """Return the cells of a column."""
    return cells.array.to_pylist() if isinstance(cells, Texts) else cells


@given(
    st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f", None, ""]), max_size=14),
    st.lists(st.sampled_from(["a", "c", "f", "g", "h", None]), max_size=6),
    st.integers(1, 5),
    st.booleans(),
    st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=50)
def test_columns_say_what_the_results_say(
    one: list[str | None], two: list[str | None], size: int, is_typed: bool, seed: int
) -> None:
    """Whatever became of which shard, was asked again, borrowed, lost, or never sent."""
    dice = random.Random(seed)  # noqa: S311 - fates, no secrets
    output = TYPED if is_typed else PLAIN
    with TemporaryDirectory() as home:
        ledger = Ledger(Path(home))
        first = ledger.plan(one, id="one", nonce="1" * 16, shard_size=size)
        second = ledger.plan(two, id="two", nonce="2" * 16, shard_size=size, known=["one"])
        for draft in (first, second):
            for shard in draft.shards:
                settle(ledger, draft, shard, dice)
            sent = [*range(len(ledger.reader.map(draft.record.id).own))]
            again = dice.sample(sent, dice.randint(0, len(sent)))
            if again:
                settle(ledger, draft, ledger.retry(draft, again), dice)
        for _ in range(2):  # from the results, and then from copies of them
            for draft in (first, second):
                check(ledger, output, draft, ["one", "two"])
            copy(ledger, output, ["one", "two"])


def test_what_was_read_is_not_read_again_as_long_as_it_is_held(home: Path) -> None:
    """The part of a shard serves as long as its hash and the schema are the same."""
    ledger = Ledger(home)
    draft = ledger.plan(["a", "b"])
    ledger.answer(draft.record, draft.shards[0], {0: "A", 1: "B"})
    [shard] = ledger.store.shards("r")
    parts: Parts = {}
    part = gatherer(ledger, PLAIN, ["r"], parts).part(draft.record, shard, PLAIN)
    ledger.spool.results("r", 0).write_bytes(b"")
    with pytest.raises(LedgerError, match=r"shard-0000\.results\.jsonl was changed"):
        gatherer(ledger, PLAIN, ["r"], parts).rows(draft.record)
    parts["r", 0, shard.results_sha256] = part

    assert listed(gatherer(ledger, PLAIN, ["r"], parts).rows(draft.record).rows.cells[0]) == [
        "A",
        "B",
    ]
    with pytest.raises(LedgerError, match=r"shard-0000\.results\.jsonl was changed"):
        gatherer(ledger, TYPED, ["r"], parts).rows(draft.record)


@given(st.lists(st.sampled_from(OUTCOMES), max_size=30), st.integers(1, 7))
@settings(deadline=None, max_examples=60)
def test_lines_read_in_blocks_are_what_they_are_one_by_one(outcomes: list[Any], size: int) -> None:
    """Names, types, results and dollars, wherever a block ends."""
    lines = [line(f"n{i}", outcome) + b"\n" for i, outcome in enumerate(outcomes)]
    blocks = [b"".join(lines[i : i + size]) for i in range(0, len(lines), size)]
    builder = Builder(PLAIN)
    for block in blocks:
        builder.add(read_block(block), 1 << 22)
    stock = builder.stock()
    results = [result for block in read(blocks) for _, result in block]

    assert builder.names == [f"n{i}" for i in range(len(lines))]
    assert builder.kinds == [outcome["type"] for outcome in outcomes]
    assert builder.unreadable == 0
    assert stock.bill == money.bill(results)
    whole = Columns.of(PLAIN, results)
    assert stock.codes.tolist() == whole.codes.tolist()
    assert listed(stock.cells[0]) == listed(whole.cells[0])
    assert dict(stock.others) == dict(Stock.of(PLAIN, results).others)


def test_answers_are_matched_as_they_are_one_by_one(home: Path) -> None:
    """Of the requests of a frame, and of rows that ask nothing or something new."""
    ledger = Ledger(home)
    draft = ledger.plan(["a", "b", "c"])
    ledger.answer(draft.record, draft.shards[0], {0: "A", 1: "!", 2: "C"})
    new, gap = Reason(RowStatus.SKIPPED, "new"), Reason(RowStatus.INVALID, "too large")
    asked: list[int | Reason] = [2, new, 0, 1, gap, 2, new]
    gathering = gatherer(ledger, PLAIN, ["r"])
    rows = gathering.matching(draft.record, asked)
    matched = Matched([*asked], [1, 6], 4)
    expected = matched.results(gathering.reader.of_requests(draft.record).results)

    assert rows is not None
    assert [STATUSES[code] for code in rows.codes] == [result.status for result in expected]
    assert listed(rows.cells[0]) == PLAIN.cells(expected)[0]
    assert listed(rows.errors) == [result.error for result in expected]
    votes = output_of("answer", votes=3)
    assert gatherer(ledger, votes, ["r"]).matching(draft.record, asked) is None


def test_values_that_are_no_texts_are_spelled_out() -> None:
    """JSON has a UUID as text, and so has a column of texts."""
    output = output_of("answer", {"id": uuid.UUID, "at": Annotated[str, AfterValidator(len)]})
    answer = {"id": "12345678-1234-5678-1234-567812345678", "at": "four"}
    builder = Builder(output)
    block = line("n", succeeded(json.dumps(answer), usage=CHEAP)) + b"\n"
    builder.add(read_block(block), len(block))

    assert [listed(cells) for cells in builder.stock().cells] == [[answer["id"]], ["4"]]
