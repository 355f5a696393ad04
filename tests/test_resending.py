"""Sending again: the same requests under another attempt, and bodies that are checked first."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_batch_pandas import catalog
from claude_batch_pandas.emulator import Emulator, Fault
from claude_batch_pandas.exceptions import InputError, LedgerError
from claude_batch_pandas.lines import lines_of
from claude_batch_pandas.planning import Draft
from claude_batch_pandas.records import ShardState
from claude_batch_pandas.requests import MAX_ATTEMPTS
from claude_batch_pandas.resending import checked_body, replan, retry_shards
from claude_batch_pandas.sharding import PLANNED_BYTES
from claude_batch_pandas.spool import Spool, write
from claude_batch_pandas.store import Store
from tests.conftest import JumpingClock
from tests.test_planning import NONCE, plan, read_body

ROWS = [f"row {i}" for i in range(10)]


@pytest.fixture
def spool(home: Path) -> Spool:
    return Spool(home)


@pytest.fixture
def store(home: Path) -> Store:
    return Store(home)


@pytest.fixture
def draft(spool: Spool, store: Store) -> Draft:
    """Return a run of ten requests in three shards, in the ledger."""
    made = plan(spool, ROWS, shard_size=4, betas=("b-1",))
    store.add_run(made.record, made.shards)
    return made


# Bodies


def test_a_body_is_what_was_planned(spool: Spool, draft: Draft) -> None:
    """Its bytes are those of the file."""
    for shard in draft.shards:
        body = checked_body(spool, shard)

        assert body.size == shard.size
        assert b"".join(body) == spool.body("r", shard.number).read_bytes()


@pytest.mark.parametrize("place", [0, 0.3, 0.9, 1])
def test_a_flipped_byte_is_noticed(place: float, spool: Spool, draft: Draft) -> None:
    """What was damaged on the disk is never sent."""
    shard = draft.shards[0]
    path = spool.body("r", 0)
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    path.write_bytes(data)

    with pytest.raises(LedgerError, match=r"is not what was planned \(its hash differs\)"):
        checked_body(spool, shard)


@pytest.mark.parametrize(
    "change", [lambda data: data[:-1], lambda data: data + b"\n"], ids=["cut", "longer"]
)
def test_another_size_is_noticed(change: Any, spool: Spool, draft: Draft) -> None:
    """A body that was cut or went on is never sent."""
    path = spool.body("r", 1)
    path.write_bytes(change(path.read_bytes()))

    with pytest.raises(LedgerError, match="is not what was planned"):
        checked_body(spool, draft.shards[1])


def test_a_body_that_is_gone_is_told(spool: Spool, draft: Draft) -> None:
    """The error names the file."""
    spool.body("r", 2).unlink()

    with pytest.raises(LedgerError, match=r"shard-0002\.requests\.json cannot be read: No such"):
        checked_body(spool, draft.shards[2])


# The next attempt of a shard


def test_replanning_changes_the_attempt_and_nothing_else(
    spool: Spool, store: Store, draft: Draft
) -> None:
    """Two digits in every custom_id differ; hash and attempt in the ledger follow."""
    shard = draft.shards[1]
    path = spool.body("r", 1)
    before = path.read_bytes()
    store.mark_submitting(shard, "fence", 1.0)
    replan(spool, store, draft.record, shard)
    after = path.read_bytes()

    assert after == before.replace(f"{NONCE}-01-".encode(), f"{NONCE}-02-".encode())
    assert after != before
    sha256 = hashlib.sha256(after).hexdigest()
    assert store.shards("r")[1] == replace(shard, attempt=2, sha256=sha256)
    assert b"".join(checked_body(spool, store.shards("r")[1])) == after
    assert store.shards("r")[::2] == draft.shards[::2]


def test_a_large_body_is_replanned_whole(spool: Spool, store: Store) -> None:
    """Bodies are rewritten in pieces; none is lost between two."""
    made = plan(spool, [f"row {i}" for i in range(1_100)], shard_size=1_030)
    store.add_run(made.record, made.shards)
    before = [spool.body("r", shard.number).read_bytes() for shard in made.shards]
    for shard in made.shards:
        replan(spool, store, made.record, shard)
    after = [spool.body("r", shard.number).read_bytes() for shard in made.shards]

    old, new = (f"{NONCE}-{attempt}-".encode() for attempt in ("01", "02"))
    assert after == [body.replace(old, new) for body in before]


def test_replanning_again_after_a_crash_is_the_same(
    spool: Spool, store: Store, draft: Draft
) -> None:
    """The new body was written but not the ledger: the next try makes the same body."""
    shard = draft.shards[0]
    old = spool.body("r", 0).read_bytes()
    replan(spool, store, draft.record, shard)
    new = spool.body("r", 0).read_bytes()
    other = Store(spool.root.parent / "other")
    other.add_run(draft.record, draft.shards)
    replan(spool, other, draft.record, shard)

    assert old != new
    assert spool.body("r", 0).read_bytes() == new
    assert other.shards("r")[0] == store.shards("r")[0]


def test_replanning_without_a_body_changes_nothing(
    spool: Spool, store: Store, draft: Draft
) -> None:
    """An attempt that was overtaken leaves no half of a body behind."""
    gone = replace(draft.shards[0], attempt=7)
    with pytest.raises(LedgerError, match="attempt 7 is gone"):
        replan(spool, store, draft.record, gone)

    assert store.shards("r") == draft.shards
    assert not list(spool.folder("r").glob("*.part"))


def test_attempts_are_counted_up_to_what_two_digits_hold(
    spool: Spool, store: Store, draft: Draft
) -> None:
    """Beyond, a run is asked anew."""
    last = replace(draft.shards[0], attempt=MAX_ATTEMPTS)

    with pytest.raises(InputError, match="planned 99 times; run the cell with reuse=False"):
        replan(spool, store, draft.record, last)
    with pytest.raises(InputError, match="planned 99 times"):
        retry_shards(spool, draft.record, [last], [0], 10)


# Rows that go again


@given(st.sets(st.integers(0, 9)), st.integers(1, 11))
@settings(deadline=None, max_examples=30)
def test_a_retry_asks_exactly_what_it_is_told(wanted: set[int], quota: int) -> None:
    """The same params under the next attempt, in order, no shard above the quota."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        spool = Spool(Path(folder))
        draft = plan(spool, ROWS, shard_size=4, betas=("b-1",))
        made = retry_shards(spool, draft.record, draft.shards, wanted, quota)
        sent = [request for shard in made for request in read_body(spool, shard)]
        ordinals = [i for s in made for i in catalog.load_ordinals(spool.folder("r"), s.number)]
        for shard in made:
            checked_body(spool, shard)

    assert ordinals == sorted(wanted)
    assert [r["params"]["messages"][0]["content"] for r in sent] == [ROWS[i] for i in ordinals]
    assert all(request["custom_id"].startswith(f"{NONCE}-02-") for request in sent)
    assert [int(request["custom_id"][20:28]) for request in sent] == ordinals
    assert all(1 <= shard.total <= quota for shard in made)
    assert all(shard.total == quota for shard in made[:-1])
    assert [shard.number for shard in made] == [3 + i for i in range(len(made))]
    assert all((s.attempt, s.betas, s.state) == (2, ("b-1",), ShardState.PLANNED) for s in made)


def test_a_retry_of_a_retry_is_another_attempt(spool: Spool, draft: Draft) -> None:
    """The attempt is that of the latest shard, plus one; the old bodies stay."""
    once = retry_shards(spool, draft.record, draft.shards, [1, 2], 10)
    twice = retry_shards(spool, draft.record, [*draft.shards, *once], [2, 3], 10)

    assert [(shard.number, shard.attempt, shard.total) for shard in once + twice] == [
        (3, 2, 2),
        (4, 3, 2),
    ]
    assert [request["custom_id"][17:19] for request in read_body(spool, once[0])] == ["02"] * 2
    assert [r["params"]["messages"][0]["content"] for r in read_body(spool, twice[0])] == ROWS[2:4]
    for shard in (*draft.shards, *once, *twice):
        checked_body(spool, shard)


def test_large_requests_are_retried_within_the_bytes_of_a_batch(spool: Spool) -> None:
    """The quota is not the only limit of a batch."""
    large = "x" * (PLANNED_BYTES // 2)
    draft = plan(spool, [f"1{large}", f"2{large}"])
    made = retry_shards(spool, draft.record, draft.shards, [0, 1], 10)

    assert [shard.total for shard in made] == [1, 1]
    assert all(shard.size <= PLANNED_BYTES for shard in made)


def test_a_retry_needs_the_bodies(spool: Spool, draft: Draft) -> None:
    """Requests whose body is gone or damaged cannot be asked again; others can."""
    spool.body("r", 0).unlink()
    path = spool.body("r", 1)
    path.write_bytes(path.read_bytes().replace(b'{"custom_id"', b'{"custom_xx"', 1))

    with pytest.raises(LedgerError, match=r"request body .* is gone or is not what was planned"):
        retry_shards(spool, draft.record, draft.shards, [0], 10)
    with pytest.raises(LedgerError, match=r"shard-0001.requests.json is gone or"):
        retry_shards(spool, draft.record, draft.shards, [5], 10)
    assert len(retry_shards(spool, draft.record, draft.shards, [9], 10)) == 1


# The first lines of a download


@given(st.binary(max_size=60).map(lambda data: data.replace(b"a", b"\n")), st.data())
@settings(deadline=None, max_examples=200)
def test_lines_are_whole_whatever_the_blocks(data: bytes, draw: Any) -> None:
    """However the bytes are cut, every line comes, the last one also without its end."""
    cuts = sorted(draw.draw(st.sets(st.integers(0, len(data)))) | {0, len(data)})
    blocks = [data[start:end] for start, end in pairwise(cuts)]

    *whole, last = data.split(b"\n")
    assert list(lines_of(iter(blocks))) == whole + [last] * bool(last)


def test_lines_of_are_not_waited_for(spool: Spool) -> None:
    """A line comes as soon as its end is there, without reading on."""
    path = spool.root / "file"
    write(path, b"one\ntwo")

    def blocks() -> Any:
        yield path.read_bytes()
        msg = "read on"
        raise AssertionError(msg)

    assert next(lines_of(blocks())) == b"one"


@pytest.mark.parametrize("head", [b"\n", b"{\n", b"\n\n5\n"], ids=["blank", "broken", "several"])
def test_a_candidate_is_recognised_below_lines_that_say_nothing(
    head: bytes, clock: JumpingClock, connect: Any
) -> None:
    """The answer to a POST is lost, and the results of its batch begin with an odd line."""
    faults = [
        Fault(method="POST", path="/v1/messages/batches", after=True, drop=True),
        Fault(method="GET", path=r".*/results", edit=lambda body: head + body),
    ]
    emulator = Emulator(clock=clock.now, duration=0.0, faults=faults)
    out = pd.DataFrame({"text": ROWS}).claude.batch("{text}", client=connect(emulator))

    assert out["answer"].tolist() == [f"[simulated] {text}" for text in ROWS]
    assert len(emulator.batches) == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"\n", b"<html>Log in</html>\n", b'{"custom_id":"cut'],
    ids=["empty", "blank", "portal", "cut"],
)
def test_a_candidate_that_shows_no_readable_line_is_not_ruled_out(
    body: bytes, clock: JumpingClock, connect: Any
) -> None:
    """Its first download says nothing about whose it is; to send again now would pay twice."""
    faults = [
        Fault(method="POST", path="/v1/messages/batches", after=True, drop=True),
        Fault(method="GET", path=r".*/results", edit=lambda _: body),
    ]
    emulator = Emulator(clock=clock.now, duration=0.0, faults=faults)
    out = pd.DataFrame({"text": ROWS}).claude.batch("{text}", client=connect(emulator))

    assert out["answer"].tolist() == [f"[simulated] {text}" for text in ROWS]
    assert len(emulator.batches) == 1
