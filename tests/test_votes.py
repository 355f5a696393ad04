"""Several answers per row: the one that most agree on, and their share."""

from __future__ import annotations

from typing import Any, Literal

import anthropic
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import claude_batch_pandas as cbp
from claude_batch_pandas.emulator import Emulator, Rule
from claude_batch_pandas.outputs import Output, output_of
from claude_batch_pandas.records import RowStatus
from claude_batch_pandas.rendered import Reason, Rendered
from claude_batch_pandas.results import Result
from claude_batch_pandas.votes import counted, replicated
from tests.conftest import JumpingClock

GOOD = RowStatus.SUCCEEDED
TEXT = Output("x").ballot


def answer(text: str) -> Result:
    return Result(GOOD, text)


def test_the_most_frequent_answer_wins() -> None:
    failed = Result(RowStatus.ERRORED, error="e")
    rows = [*map(answer, ["a", "b", " b "]), failed, answer("c"), failed, failed, failed, failed]
    first, second, third = counted(rows, 3, TEXT)

    assert (first.text, first.agreement) == ("b", 2 / 3)
    assert (second.text, second.agreement) == ("c", 1 / 3)  # what failed agrees with nobody
    assert (third.status, third.agreement) == (RowStatus.ERRORED, None)


def test_labels_in_another_order_are_the_same() -> None:
    def labels(*names: str) -> Result:
        return Result(GOOD, value={"value": list(names)})

    row = [labels("a", "b"), labels("c"), labels("b", "a"), labels("c"), labels("a", "b", "a")]
    output = output_of("x", list[Literal["a", "b", "c"]], flags=("a", "b", "c"))
    (found,) = counted(row, 5, output.ballot)
    assert (found.value, found.agreement) == ({"value": ["a", "b"]}, 3 / 5)


def test_reasons_do_not_vote() -> None:
    """They are never the same twice; the label is what is asked for."""
    output = output_of("label", {"label_reason": str, "label": Literal["yes", "no"]})
    values = [("r1", "no"), ("r2", "yes"), ("r3", "yes")]
    row = [Result(GOOD, value={"label_reason": why, "label": label}) for why, label in values]
    (found,) = counted(row, 3, output.ballot)
    assert (found.value["label"], found.agreement) == ("yes", 2 / 3)


def test_of_equals_the_first_wins_and_what_waits_is_shown() -> None:
    waiting = Result(RowStatus.PROCESSING)
    assert counted([answer("x"), answer("y")], 2, TEXT)[0].text == "x"
    (row,) = counted([Result(RowStatus.REFUSED), waiting], 2, TEXT)
    assert row.status is RowStatus.PROCESSING


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=3, max_size=3), max_size=5))
def test_a_winner_has_as_many_votes_as_any(rows: list[list[str]]) -> None:
    found = counted([answer(text) for row in rows for text in row], 3, TEXT)
    assert len(found) == len(rows)
    for row, result in zip(rows, found, strict=True):
        most = max(row.count(text) for text in row)
        assert row.count(result.text or "") == most
        assert result.agreement == most / 3


def test_replicas_are_different_requests() -> None:
    """The first is the request of a row that is asked once."""
    reason = Reason(RowStatus.SKIPPED, "why")
    block = Rendered([b"a", None], [b"1" * 16, None], {1: reason})
    found = replicated(block, 3)

    assert found.tails == [b"a"] * 3 + [None] * 3
    assert found.digests[0] == b"1" * 16
    assert len(set(found.digests[:3])) == 3
    assert found.reasons == dict.fromkeys((3, 4, 5), reason)
    assert replicated(block, 1) is block


# Through the whole way


@pytest.fixture
def split_client(clock: JumpingClock, connect: Any) -> tuple[anthropic.Anthropic, Emulator]:
    """Return an API that answers every third request otherwise."""
    emulator = Emulator(
        clock=clock.now,
        rules=[Rule(outcome="succeeded", text='{"value":"b"}', every=3)],
        duration=60,
    )
    return connect(emulator), emulator


def test_votes_are_asked_in_one_run(
    split_client: tuple[anthropic.Anthropic, Emulator],
) -> None:
    client, emulator = split_client
    df = pd.DataFrame({"text": ["x", "y", None, "x"]}, index=[5, 5, 6, 7])
    out = df.claude.classify("text", ["a", "b"], votes=3, client=client)

    names = ["text", "label", "label_agreement", "label_status", "label_error"]
    assert list(out.columns) == names
    assert str(out["label_agreement"].dtype) == "Float64"
    assert out["label_status"].tolist() == ["succeeded", "succeeded", "skipped", "succeeded"]
    assert pd.isna(out["label_agreement"].iloc[2])
    assert out["label_agreement"].dropna().between(1 / 3, 1).all()
    requests = [request for batch in emulator.batches for request in batch.requests]
    assert len(requests) == 6  # the row that stands twice has the same votes
    calls = len(emulator.calls)
    again = df.claude.classify("text", ["a", "b"], votes=3, client=client)
    pd.testing.assert_frame_equal(out, again)
    assert len(emulator.calls) == calls


def test_a_frame_in_another_order_gets_its_own_votes(
    split_client: tuple[anthropic.Anthropic, Emulator],
) -> None:
    client, _ = split_client
    df = pd.DataFrame({"text": list("uvwxyz")})
    run = df.claude.submit("{text}", votes=3, client=client)
    out = run.result(df)
    later = cbp.run(run.id, client=client).result(df.iloc[::-1])
    pd.testing.assert_frame_equal(out, later.iloc[::-1])
    details = run.details()
    assert len(details) == 18
    assert details.index.tolist()[:4] == [0, 0, 0, 1]
    pd.testing.assert_frame_equal(out.drop(columns="text"), run.result(), check_column_type=False)


def test_one_answer_is_a_vote_already(
    split_client: tuple[anthropic.Anthropic, Emulator],
) -> None:
    """What was asked once is asked twice more, not three times."""
    client, emulator = split_client
    df = pd.DataFrame({"text": list("ab")})
    df.claude.batch("{text}", client=client)
    df.claude.batch("{text}", votes=3, client=client, output="b")
    assert sum(len(batch.requests) for batch in emulator.batches) == 6


@pytest.mark.parametrize("votes", [0, 26, 1.5, True, "3"])
def test_impossible_votes_are_refused(votes: Any, queries: pd.DataFrame) -> None:
    with pytest.raises(cbp.InputError, match="votes must be a whole number from 1 to 25"):
        queries.claude.batch("{text}", votes=votes)
