"""Answers: a request's latest result, a row's request, wherever it was sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas.answers import NEVER_SENT, Origin, Reader
from claude_batch_pandas.causes import Cause, cause_of, has_answer
from claude_batch_pandas.emulator import Emulator
from claude_batch_pandas.exceptions import LedgerError
from claude_batch_pandas.planning import Draft
from claude_batch_pandas.records import Batch, Counts, RunRecord, Shard
from claude_batch_pandas.requests import MAX_ATTEMPTS
from claude_batch_pandas.resending import retry_shards
from claude_batch_pandas.results import Result
from claude_batch_pandas.spool import Spool, write
from claude_batch_pandas.store import Store
from tests.conftest import JumpingClock
from tests.strategies import line, succeeded
from tests.test_planning import plan

ERRORED = {"type": "errored", "error": {"type": "api_error", "message": "Oops"}}
UNREADABLE = "no readable result; it may have been paid"


def batch(name: str, counts: Counts) -> Batch:
    """Return what a submission was told."""
    return Batch(id=name, processing_status="ended", counts=counts, created_at=1.0, expires_at=2.0)


class Ledger:
    """A ledger whose batches are answered by hand."""

    def __init__(self, home: Path) -> None:
        self.spool, self.store = Spool(home), Store(home)

    @property
    def reader(self) -> Reader:
        """A reader that has read nothing yet."""
        return Reader(self.store, self.spool)

    def plan(self, rows: Sequence[Any], **options: Any) -> Draft:
        """Plan a run and remember it."""
        draft = plan(self.spool, rows, **options)
        self.store.add_run(draft.record, draft.shards)
        return draft

    def names(self, record: RunRecord, shard: Shard) -> list[str]:
        """Return the custom_ids of a shard."""
        return self.reader.expected(record, shard)

    def collect(
        self,
        record: RunRecord,
        shard: Shard,
        lines: Sequence[bytes],
        *,
        complete: bool = True,
        counts: Counts | None = None,
    ) -> None:
        """Put the results of a shard into the spool."""
        path = self.spool.results(record.id, shard.number)
        sha256 = write(path, b"".join(part + b"\n" for part in lines))
        told = counts or Counts(errored=sum(b'"errored"' in part for part in lines))
        self.store.mark_submitted(shard, batch(f"msgbatch_{record.id}_{shard.number}", told))
        self.store.mark_collected(shard, sha256, complete=complete)

    def answer(
        self, record: RunRecord, shard: Shard, texts: Mapping[int, str] | str = "yes"
    ) -> None:
        """Answer every request of a shard, the last first; a text "!" is an error."""
        lines = []
        for i, name in enumerate(self.names(record, shard)):
            text = texts if isinstance(texts, str) else texts[i]
            lines.append(line(name, ERRORED if text == "!" else succeeded(text)))
        self.collect(record, shard, lines[::-1])

    def retry(self, draft: Draft, ordinals: Sequence[int]) -> Shard:
        """Plan some requests of a run again, and return the one new shard."""
        shards = self.store.shards(draft.record.id)
        (made,) = retry_shards(self.spool, draft.record, shards, ordinals, 100)
        self.store.add_shards([made])
        return made

    def texts(self, draft: Draft) -> list[str | None]:
        """Return the texts of a run's rows."""
        return [result.text for result in self.rows(draft)]

    def rows(self, draft: Draft) -> list[Result]:
        """Return the results of a run's rows."""
        return self.reader.of_rows(draft.record).results


@pytest.fixture
def ledger(home: Path) -> Ledger:
    return Ledger(home)


def test_rows_share_the_answer_of_their_request(ledger: Ledger) -> None:
    """Duplicates have one answer; a row that was never sent has its reason."""
    draft = ledger.plan(["a", None, "b", "a", ""])
    ledger.answer(draft.record, draft.shards[0], {0: "A", 1: "B"})
    results, origins, _ = ledger.reader.of_rows(draft.record)

    assert [result.text for result in results] == ["A", None, "B", "A", None]
    assert [str(result.status) for result in results] == [
        "succeeded",
        "skipped",
        "succeeded",
        "succeeded",
        "skipped",
    ]
    assert results[1].error == "column 'text' is missing a value"
    assert results[4].error == "the rendered text is empty"
    sent = Origin("r", 0, 1)
    assert origins == [sent, NEVER_SENT, sent, sent, NEVER_SENT]


def test_what_is_not_collected_is_processing(ledger: Ledger) -> None:
    """Shard by shard; requests of a shard that is here have their answers already."""
    draft = ledger.plan(["a", "b", "c"], shard_size=1)
    ledger.answer(draft.record, draft.shards[1], "B")
    results, origins, _ = ledger.reader.of_requests(draft.record)

    assert [result.text for result in results] == [None, "B", None]
    assert [str(result.status) for result in results] == ["processing", "succeeded", "processing"]
    assert origins == [Origin("r", number, number % 2) for number in range(3)]


def test_the_latest_attempt_wins(ledger: Ledger) -> None:
    """A retry's answer replaces the first one; the others keep theirs."""
    draft = ledger.plan(["a", "b", "c"])
    ledger.answer(draft.record, draft.shards[0], {0: "A", 1: "!", 2: "!"})
    second = ledger.retry(draft, [1, 2])
    while_waiting = [str(result.status) for result in ledger.rows(draft)]
    ledger.answer(draft.record, second, {0: "B", 1: "!"})
    results, origins, _ = ledger.reader.of_requests(draft.record)

    assert while_waiting == ["succeeded", "processing", "processing"]
    assert [result.text for result in results] == ["A", "B", None]
    assert results[2].error == "api_error: Oops"
    again = Origin("r", 1, 2, ("api_error",))
    assert origins == [Origin("r", 0, 1), again, again]


def test_a_withdrawn_attempt_keeps_the_earlier_result(ledger: Ledger) -> None:
    """A retry that was canceled before it was sent costs no answer and no reason."""
    draft = ledger.plan(["a", "b"])
    ledger.answer(draft.record, draft.shards[0], {0: "A", 1: "!"})
    before = ledger.reader.of_requests(draft.record)
    ledger.store.mark_withdrawn(ledger.retry(draft, [1]))

    assert ledger.reader.of_requests(draft.record) == before


def test_a_withdrawn_first_attempt_is_canceled(ledger: Ledger) -> None:
    """It says that it was never sent, and can be sent again."""
    draft = ledger.plan(["a", "b"], shard_size=1)
    ledger.answer(draft.record, draft.shards[0], "A")
    ledger.store.mark_withdrawn(draft.shards[1])
    rows = ledger.rows(draft)
    ledger.answer(draft.record, ledger.retry(draft, [1]), "B")

    assert rows[1].status == "canceled"
    assert rows[1].error == "canceled before it was sent; retry(canceled=True) of its run sends it"
    assert not has_answer(rows[1])
    assert ledger.texts(draft) == ["A", "B"]


# Shards that could not be read as a whole


def test_an_incomplete_shard_costs_only_the_rows_in_doubt(ledger: Ledger) -> None:
    """Missing and repeated results are lost; foreign and unreadable lines are nobody's."""
    draft = ledger.plan(list("abcd"))
    record, shard = draft.record, draft.shards[0]
    a, b, c, _ = ledger.names(record, shard)
    foreign = b[:20] + "00000003" + b[28:]  # ours by run and ordinal, but of another question
    lines = [
        line(c, succeeded("C")),
        line(b, succeeded("one")),
        line(foreign, succeeded("a lie")),
        line(b, succeeded("two")),
        b'{"custom_id": "cut',
        line("theirs", succeeded("a lie")),
        line(a, ERRORED),
    ]
    ledger.collect(record, shard, lines, complete=False)
    rows = ledger.rows(draft)

    assert [row.text for row in rows] == [None, None, "C", None]
    assert [row.error for row in rows] == ["api_error: Oops", UNREADABLE, None, UNREADABLE]
    assert [row.error_type for row in rows] == ["api_error", "unreadable", None, "unreadable"]
    assert [has_answer(row) for row in rows] == [False, False, True, False]


def test_an_attempt_that_was_lost_does_not_fall_back(ledger: Ledger) -> None:
    """The latest attempt's result is unknown, so the earlier one is not shown as if it were it."""
    draft = ledger.plan(["a", "b"])
    ledger.answer(draft.record, draft.shards[0], {0: "A", 1: "!"})
    ledger.collect(draft.record, ledger.retry(draft, [1]), [], complete=False)

    assert [row.error for row in ledger.rows(draft)] == [None, UNREADABLE]


def test_results_of_another_attempt_are_foreign(ledger: Ledger) -> None:
    """A late twin's lines are not taken for those of the attempt that was collected."""
    draft = ledger.plan(["a"])
    (name,) = ledger.names(draft.record, draft.shards[0])
    twin = name.replace("-01-", "-02-")
    ledger.collect(draft.record, draft.shards[0], [line(twin, succeeded("A"))], complete=False)

    assert [row.error for row in ledger.rows(draft)] == [UNREADABLE]


# Answers of other runs


def test_answers_are_borrowed_from_the_runs_that_sent_them(ledger: Ledger) -> None:
    """Every row says where its answer came from; needed shards are those that hold it."""
    one = ledger.plan(["a", "b", "c"], id="one", nonce="1" * 16, shard_size=1)
    two = ledger.plan(["d"], id="two", nonce="2" * 16)
    draft = ledger.plan(["e", "d", "c", "a"], known=["two", "one"], id="three", nonce="3" * 16)
    for source in (one, two):
        for shard in source.shards:
            names = ledger.names(source.record, shard)
            ledger.answer(source.record, shard, f"{source.record.id} {names[0][20:28]}")
    ledger.answer(draft.record, draft.shards[0], "own")
    results, origins, _ = ledger.reader.of_rows(draft.record)

    assert [result.text for result in results] == [
        "own",
        "two 00000000",
        "one 00000002",
        "one 00000000",
    ]
    assert origins == [
        Origin("three", 0, 1),
        Origin("two", 0, 1),
        Origin("one", 2, 1),
        Origin("one", 0, 1),
    ]
    assert ledger.reader.needed(draft.record, "two") == [0]
    assert ledger.reader.needed(draft.record, "one") == [0, 2]


def test_a_borrowed_answer_follows_its_run(ledger: Ledger) -> None:
    """When the run that sent it asks again, whoever borrowed has the new answer too."""
    one = ledger.plan(["a", "b"], id="one", nonce="1" * 16)
    draft = ledger.plan(["b", "a"], known=["one"], id="two", nonce="2" * 16)
    waiting = [str(row.status) for row in ledger.rows(draft)]
    ledger.answer(one.record, one.shards[0], {0: "A", 1: "!"})
    failed = ledger.texts(draft)
    again = ledger.retry(one, [1])
    ledger.answer(one.record, again, "B")

    assert waiting == ["processing"] * 2
    assert failed == [None, "A"]
    assert ledger.texts(draft) == ["B", "A"]
    assert ledger.reader.needed(draft.record, "one") == [0, 1]


def test_purging_a_run_does_not_break_the_runs_that_borrowed_from_it(
    clock: JumpingClock, connect: Any
) -> None:
    """The same cell still gives an answer for every row, at worst by asking again."""
    client = connect(Emulator(clock=clock.now, duration=0.0))
    pd.DataFrame({"text": ["a"]}).claude.batch("{text}", client=client)
    first = cbp.runs()["id"].iloc[0]
    more = pd.DataFrame({"text": ["a", "b"]})
    more.claude.batch("{text}", client=client)
    cbp.run(first, client=client).purge()
    out = more.claude.batch("{text}", client=client)

    assert out["answer"].tolist() == ["[simulated] a", "[simulated] b"]


# Damage


@pytest.mark.parametrize("name", ["rows.npy", "shard-0000.ordinals.npy"])
def test_files_that_are_gone_are_told(name: str, ledger: Ledger) -> None:
    """The error names the file."""
    draft = ledger.plan(["a"])
    (ledger.spool.folder("r") / name).unlink()

    with pytest.raises(LedgerError, match=rf"{name} cannot be read \(No such file"):
        ledger.rows(draft)


def test_results_that_are_gone_are_told(ledger: Ledger) -> None:
    """A results file deleted by hand is an error of the ledger, not of Python's files."""
    draft = ledger.plan(["a"])
    ledger.answer(draft.record, draft.shards[0])
    ledger.spool.results("r", 0).unlink()

    with pytest.raises(LedgerError, match=r"shard-0000\.results\.jsonl"):
        ledger.rows(draft)


@pytest.mark.parametrize("damage", ["swapped", "cut"])
def test_results_that_changed_since_they_were_verified_are_not_believed(
    damage: str, ledger: Ledger
) -> None:
    """The ledger knows the file's hash, so another run's answers never become this one's."""
    one = ledger.plan(["a", "b"], id="one", nonce="1" * 16)
    two = ledger.plan(["c", "d"], id="two", nonce="2" * 16)
    for draft in (one, two):
        ledger.answer(draft.record, draft.shards[0], f"of {draft.record.id}")
    path = ledger.spool.results("two", 0)
    theirs = ledger.spool.results("one", 0).read_bytes()
    path.write_bytes(theirs if damage == "swapped" else path.read_bytes()[:-40])

    with pytest.raises(LedgerError, match=r"shard-0000\.results\.jsonl"):
        ledger.rows(two)


def test_custom_ids_of_a_shard_are_those_of_its_attempt(ledger: Ledger) -> None:
    """Nonce, attempt, ordinal and hash, in the order of the shard."""
    draft = ledger.plan(["a", "b"], nonce="a" * 16)
    again = ledger.retry(draft, [1])
    first, second = ledger.names(draft.record, draft.shards[0])

    assert first.startswith(f"{'a' * 16}-01-00000000-")
    assert second.startswith(f"{'a' * 16}-01-00000001-")
    assert ledger.names(draft.record, again) == [second.replace("-01-", "-02-", 1)]
    assert again.attempt <= MAX_ATTEMPTS


def test_a_failure_that_the_api_did_not_count_may_have_been_paid(ledger: Ledger) -> None:
    """The file says errored, which costs nothing; the batch says that all succeeded."""
    draft = ledger.plan(["a", "b"])
    [shard] = draft.shards
    one, two = ledger.names(draft.record, shard)
    ledger.collect(
        draft.record,
        shard,
        [line(one, succeeded("A")), line(two, ERRORED)],
        complete=False,
        counts=Counts(succeeded=2),
    )
    rows = ledger.rows(draft)

    assert rows[0].text == "A"
    assert rows[1].error == ("api_error: Oops; the API counted otherwise, so it may have been paid")
    assert cause_of(rows[1]) is Cause.UNREADABLE
