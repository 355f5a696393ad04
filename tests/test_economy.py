"""What a row costs, in Python calls and in memory: counted, since seconds say how busy a machine is.

A loop that calls a function per row, or an object that is kept per row, shows here long before
anybody notices it in `python -m tests.benchmarks`.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from claude_batch_pandas import frames
from claude_batch_pandas.columns import Builder
from claude_batch_pandas.ids import Ids
from claude_batch_pandas.outputs import Output, output_of
from claude_batch_pandas.results import read_block
from claude_batch_pandas.spool import Spool
from tests.strategies import line, succeeded, usage
from tests.test_answers import Ledger
from tests.test_gathering import gatherer
from tests.test_planning import plan

FEW, MANY = 3_000, 9_000
USED = usage(input_tokens=180, output_tokens=60)
TYPED = output_of("answer", {"topic": str, "stars": int, "urgent": bool})
OUTPUTS = [output_of("answer"), TYPED]


def calls_of(do: Callable[[], Any]) -> int:
    """Return how many functions of Python are called."""
    count = 0

    def note(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event == "call"

    gc.disable()  # others are told of every collection
    sys.setprofile(note)
    try:
        do()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


def peak_of(do: Callable[[], Any]) -> int:
    """Return the most bytes that are allocated at once, beyond what there was."""
    tracemalloc.start()
    try:
        do()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def per_row(measure: Callable[[Callable[[], Any]], int], do: Callable[[int], Any]) -> float:
    """Return what each row adds, apart from what does not depend on their number."""
    do(FEW)  # whatever is done once is done now
    few, many = (measure(lambda rows=rows: do(rows)) for rows in (FEW, MANY))  # type: ignore[misc]
    return (many - few) / (MANY - FEW)


def planner(home: Path) -> Callable[[int], None]:
    """Return what plans a run of so many different rows, every time another one."""
    spool, runs = Spool(home), iter(range(100))

    def do(rows: int) -> None:
        plan(spool, [f"text {i}" for i in range(rows)], id=f"run{next(runs)}")

    return do


def ids_of(rows: int) -> Ids:
    """Return the custom_ids of so many requests."""
    return Ids("0" * 16, 1, range(rows), np.full((rows, 16), ord("a"), np.uint8))


def results(output: Output, rows: int) -> bytes:
    """Return a results file."""
    answer = "an answer" if output.is_text else '{"topic": "cards", "stars": 3, "urgent": false}'
    return b"".join(line(name, succeeded(answer, usage=USED)) + b"\n" for name in ids_of(rows))


def test_planning_calls_nothing_per_row(home: Path) -> None:
    """Rows are rendered, encoded, hashed and written by the thousand."""
    assert per_row(calls_of, planner(home)) < 0.9  # a shard of a thousand takes hundreds


def test_planning_keeps_little_per_row(home: Path) -> None:
    """Sixteen bytes of a hash, a table of numbers, a number: a dict would take two hundred."""
    texts = 80 + 8  # of the list that is planned here

    assert per_row(peak_of, planner(home)) < 100 + texts


@pytest.mark.parametrize("output", OUTPUTS, ids=["text", "typed"])
def test_collecting_calls_little_per_line(output: Output) -> None:
    """One function looks at each answer."""
    files = {rows: results(output, rows) for rows in (FEW, MANY)}

    def do(rows: int) -> None:
        builder = Builder(output)
        builder.add(read_block(files[rows]), len(files[rows]))
        places = builder.places(ids_of(rows))
        assert places is not None
        part = builder.part(places)
        assert len(part.stock.codes) == rows

    assert per_row(calls_of, do) < 1.5


def test_columns_are_made_without_a_call_per_row(home: Path) -> None:
    """From the files of a run to what pandas is given."""
    ledger = Ledger(home)
    drafts = {}
    for rows in (FEW, MANY):
        texts = [*map(str, range(rows))]
        draft = drafts[rows] = ledger.plan(texts, id=f"r{rows}", nonce=f"{rows:016}")
        for shard in draft.shards:
            names = ledger.names(draft.record, shard)
            lines = [line(name, succeeded("yes", usage=USED)) for name in names]
            ledger.collect(draft.record, shard, lines)
    output = OUTPUTS[0]
    parts: Any = {}
    for rows, draft in drafts.items():
        gathering = gatherer(ledger, output, [f"r{rows}"])
        for shard in ledger.store.shards(f"r{rows}"):
            part = gathering.part(draft.record, shard, output)
            parts[f"r{rows}", shard.number, shard.results_sha256] = part

    def do(rows: int) -> None:
        found = gatherer(ledger, output, [f"r{rows}"], parts).rows(drafts[rows].record).rows
        assert len(frames.arrays(output, found)["answer"]) == rows

    assert per_row(calls_of, do) < 0.1
