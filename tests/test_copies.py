"""A copy of results as columns says what they say, or is not there."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

import claude_batch_pandas as cbp
from claude_batch_pandas import copies
from claude_batch_pandas.columns import Builder, Part
from claude_batch_pandas.emulator import Emulator, Rule
from claude_batch_pandas.results import read_block
from claude_batch_pandas.spool import Spool, write_sealed
from claude_batch_pandas.store import Store
from tests.strategies import line, succeeded, texts, usage
from tests.test_gathering import CHEAP, OUTCOMES, PLAIN, TYPED, listed

answers = texts.map(lambda text: succeeded(text, usage=CHEAP))
paid = st.integers(0, 2**40).map(lambda n: succeeded("A", usage=usage(output_tokens=n)))


def part_of(outcomes: list[Any]) -> Part:
    """Return the results of requests with odd ordinals, in their order."""
    block = b"".join(line(str(i), one) + b"\n" for i, one in enumerate(outcomes))
    builder = Builder(PLAIN)
    builder.add(read_block(block), len(block))
    return Part(PLAIN, builder.stock(), np.arange(1, 2 * len(outcomes), 2))


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame({"text": [f"row {i}" for i in range(12)]}, index=[*"abcdefghijkl"])


@pytest.fixture
def emulator(clock: Any) -> Emulator:
    """Return an API that refuses one row and fails another."""
    rules = [
        Rule(outcome="refusal", contains="row 3"),
        Rule(outcome="errored", error_type="invalid_request_error", contains="row 5"),
    ]
    return Emulator(clock=clock.now, duration=60.0, rules=rules)


@given(st.lists(st.one_of(st.sampled_from(OUTCOMES), answers, paid), max_size=30))
@settings(max_examples=60)
def test_a_copy_is_what_was_copied(outcomes: list[Any]) -> None:
    part = part_of(outcomes)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "copy"
        copies.save(path, part, "the hash")
        copy = copies.load(path, PLAIN, "the hash")

        assert copies.load(path, PLAIN, "another hash") is None
        assert copies.load(path, TYPED, "the hash") is None
    assert copy is not None
    assert copy.ordinals.tolist() == part.ordinals.tolist()
    assert copy.stock.codes.tolist() == part.stock.codes.tolist()
    assert [*map(listed, copy.stock.cells)] == [*map(listed, part.stock.cells)]
    assert (copy.stock.others, copy.stock.bill) == (part.stock.others, part.stock.bill)


def test_a_run_is_opened_again_without_its_lines(
    frame: pd.DataFrame, clock: Any, emulator: Emulator, connect: Any, home: Path
) -> None:
    client = connect(emulator)
    out = frame.claude.batch("{text}", shard_size=4, client=client)
    again = cbp.run(cbp.runs()["id"].iloc[0], client=client)
    assert_frame_equal(again.result(frame), out)
    assert_frame_equal(again.result(), out.drop(columns="text"))

    for shard in Store(home).shards(again.id):  # a copy says something else, which is then told
        part = part_of([succeeded("copied", usage=CHEAP)] * shard.total)
        part = dataclasses.replace(part, ordinals=part.ordinals // 2 + shard.total * shard.number)
        path = Spool(home).copy(again.id, shard.number)
        copies.save(path, part, str(shard.results_sha256))
    assert again.result()["answer"].tolist() == ["copied"] * len(frame)


@pytest.mark.parametrize("offset", [0, 40, 400, -1, -70, -700])
def test_a_byte_that_changed_changes_no_answer(
    offset: int, frame: pd.DataFrame, clock: Any, emulator: Emulator, connect: Any, home: Path
) -> None:
    """The results are read instead, and `verify` names the copy."""
    client = connect(emulator)
    out = frame.claude.batch("{text}", client=client)
    [path] = home.glob("runs/*/*.columns")
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)

    assert_frame_equal(cbp.run(cbp.runs()["id"].iloc[0], client=client).result(frame), out)
    assert cbp.verify()["file"].tolist() == [path.name]


@pytest.mark.parametrize("head", [b"", b"{}\n", b"no json\n", b"\n" * 9])
def test_a_copy_of_another_making_is_none(head: bytes, tmp_path: Path) -> None:
    """Whole, but not as this package makes it."""
    write_sealed(tmp_path / "copy", head)

    assert copies.load(tmp_path / "copy", PLAIN, "the hash") is None


def test_other_prices_are_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies.save(tmp_path / "copy", part_of(OUTCOMES), "the hash")
    monkeypatch.setattr(copies, "edition", lambda: "the prices of tomorrow")

    assert copies.load(tmp_path / "copy", PLAIN, "the hash") is None


def test_what_is_large_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy is held in memory as a whole, for a moment."""
    part = part_of([succeeded("A" * 1000, usage=CHEAP)])
    monkeypatch.setattr(copies, "MOST_BYTES", 999)
    copies.save(tmp_path / "copy", part, "the hash")

    assert not (tmp_path / "copy").exists()


def test_typed_answers_are_read_anew(
    frame: pd.DataFrame, clock: Any, connect: Any, home: Path
) -> None:
    """A type of a user's may have changed since."""
    emulator = Emulator(clock=clock.now, duration=60.0)
    frame.claude.batch("{text}", schema={"topic": str}, client=connect(emulator))

    assert list(home.glob("runs/*/*.columns")) == []
