"""What failed is asked again by its cause: by us, by a person, or never."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas import session
from claude_batch_pandas.emulator import Emulator, Rule
from claude_batch_pandas.locks import PLANNING, Lock
from claude_batch_pandas.store import Store
from tests.conftest import JumpingClock

Connect = Callable[..., Any]
CREDIT = "Your credit balance is too low to access the Anthropic API."


@pytest.fixture
def frame() -> pd.DataFrame:
    """Return rows of which one fails."""
    return pd.DataFrame({"text": ["good", "poor", "good", "fine"]}, index=[1, 1, 2, 3])


def fail(emulator: Emulator, **how: Any) -> None:
    """Have the bad row fail from now on."""
    emulator.rules = (Rule(contains="poor", **how),)


def texts(emulator: Emulator) -> list[list[str]]:
    """Return what each batch asked."""
    return [
        [request["params"]["messages"][0]["content"] for request in batch.requests]
        for batch in emulator.batches
    ]


def heal_after(emulator: Emulator, batches: int) -> Callable[[], None]:
    """Return a hook that makes all well once there are so many batches."""

    def heal() -> None:
        if len(emulator.batches) >= batches:
            emulator.rules = ()

    return heal


@pytest.mark.parametrize(
    "how",
    [
        {"outcome": "expired"},
        *(
            {"outcome": "errored", "error_type": kind}
            for kind in ("overloaded_error", "api_error", "timeout_error", "rate_limit_error")
        ),
    ],
    ids=lambda how: how.get("error_type", how["outcome"]),
)
def test_what_passes_by_itself_goes_out_again(
    how: dict[str, Any], frame: pd.DataFrame, emulator: Emulator, client: Any, clock: JumpingClock
) -> None:
    """In a batch of its own, and the answers that came are not asked again."""
    fail(emulator, **how)
    clock.on_wait = heal_after(emulator, 1)
    out = frame.claude.batch("{text}", client=client)
    details = cbp.run(cbp.runs()["id"].iloc[0], client=client).details()

    assert out["answer_status"].eq("succeeded").all()
    assert texts(emulator) == [["good", "poor", "fine"], ["poor"]]
    assert details["attempts"].tolist() == [1, 2, 1, 1]
    why = how.get("error_type", how["outcome"])
    assert details["retried"].tolist()[1] == why
    assert details["retried"].isna().tolist() == [True, False, True, True]


def test_it_goes_out_max_attempts_times_at_most(
    frame: pd.DataFrame, emulator: Emulator, client: Any
) -> None:
    """Then it is a row that failed; a person may ask once more."""
    fail(emulator, outcome="errored", error_type="overloaded_error", message="Overloaded")
    out = frame.claude.batch("{text}", client=client)
    run = cbp.run(cbp.runs()["id"].iloc[0], client=client)
    details = run.details()
    emulator.rules = ()
    healed = run.retry().result(frame)

    assert out["answer_status"].tolist() == ["succeeded", "errored", "succeeded", "succeeded"]
    assert texts(emulator) == [["good", "poor", "fine"], *[["poor"]] * 3]
    assert details["retried"].iloc[1] == "overloaded_error, overloaded_error"
    assert healed["answer_status"].eq("succeeded").all()


def test_refused_posts_are_no_attempts(
    frame: pd.DataFrame, connect: Connect, clock: JumpingClock
) -> None:
    """Only a batch that was created counts."""
    from tests.test_steps import on_post

    emulator = Emulator(clock=clock.now, duration=60.0, faults=[on_post(status=429, times=5)])
    fail(emulator, outcome="expired")
    frame.claude.batch("{text}", client=connect(emulator))

    assert texts(emulator) == [["good", "poor", "fine"], ["poor"], ["poor"]]


@pytest.mark.parametrize("attempts", [1, 2])
def test_how_often_is_an_option(
    attempts: int, frame: pd.DataFrame, emulator: Emulator, client: Any
) -> None:
    cbp.options.max_attempts = attempts
    fail(emulator, outcome="expired")
    frame.claude.batch("{text}", client=client)

    assert len(emulator.batches) == attempts


def test_an_invalid_request_is_never_sent_again(
    frame: pd.DataFrame, emulator: Emulator, client: Any
) -> None:
    """It would fail the same way."""
    fail(emulator, outcome="errored", error_type="invalid_request_error", message="no such tool")
    out = frame.claude.batch("{text}", client=client)
    run = cbp.run(cbp.runs()["id"].iloc[0], client=client)

    assert run.retry().done
    assert len(emulator.batches) == 1
    assert out["answer_error"].iloc[1] == "invalid_request_error: no such tool"


def test_what_was_not_paid_for_waits_for_a_person(
    frame: pd.DataFrame, emulator: Emulator, client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The closing line and the row quote the API; retry() sends it once there is credit."""
    fail(emulator, outcome="errored", error_type="invalid_request_error", message=CREDIT)
    out = frame.claude.batch("{text}", client=client, progress="log")
    run = cbp.run(cbp.runs()["id"].iloc[0], client=client)
    emulator.rules = ()

    assert len(emulator.batches) == 1
    assert CREDIT in out["answer_error"].iloc[1]
    told = capsys.readouterr().err.splitlines()[-1]
    assert f"The API says of 1 rows: 'invalid_request_error: {CREDIT}'; then run.retry()" in told
    assert run.retry().result(frame)["answer_status"].eq("succeeded").all()


def test_canceled_rows_are_sent_again_when_asked_for(
    frame: pd.DataFrame, emulator: Emulator, client: Any
) -> None:
    """Who canceled does not find them sent by an ordinary retry."""
    fail(emulator, outcome="canceled")
    frame.claude.batch("{text}", client=client)
    run = cbp.run(cbp.runs()["id"].iloc[0], client=client)
    emulator.rules = ()

    with pytest.warns(UserWarning, match=r"Nothing was sent again. .*\(1 canceled: canceled=True"):
        run.retry()
    assert len(emulator.batches) == 1
    assert run.retry(canceled=True).result(frame)["answer_status"].eq("succeeded").all()
    assert texts(emulator)[1:] == [["poor"]]


def test_truncated_rows_get_more_tokens_when_asked_for(
    frame: pd.DataFrame, emulator: Emulator, client: Any
) -> None:
    """The same request but for max_tokens; both answers are in the bill, the second in the row."""
    fail(emulator, outcome="max_tokens")
    out = frame.claude.batch("{text}", client=client, max_tokens=200)
    run = cbp.run(cbp.runs()["id"].iloc[0], client=client)
    before = run.report().bill.dollars
    emulator.rules = ()
    with pytest.warns(UserWarning, match=r"1 truncated: truncated=True, max_tokens=\.\.\."):
        run.retry()
    healed = run.retry(truncated=True, max_tokens=4000).result(frame)

    assert out["answer_status"].iloc[1] == "truncated"
    assert healed["answer_status"].eq("succeeded").all()
    first, again = (batch.requests for batch in emulator.batches)
    asked = next(request for request in first if "poor" in str(request))
    assert again[0]["params"] == {**asked["params"], "max_tokens": 4000}
    assert list(again[0]["params"]) == list(asked["params"])
    assert again[0]["custom_id"][20:] == asked["custom_id"][20:]
    assert run.report().bill.dollars > before
    assert run.details()["retried"].iloc[1] == "truncated"
    # The same cell finds the longer answer.
    pd.testing.assert_frame_equal(
        frame.claude.batch("{text}", client=client, max_tokens=200), healed
    )
    assert len(emulator.batches) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"truncated": True}, "truncated=True needs max_tokens=, a whole number of at least 1"),
        ({"truncated": True, "max_tokens": "9"}, "needs max_tokens=, a whole number .*not '9'"),
        ({"truncated": True, "max_tokens": True}, "needs max_tokens=, .*, not True"),
        ({"max_tokens": 9}, "max_tokens= is for truncated=True"),
        ({"truncated": True, "max_tokens": 200}, "max_tokens=200 is not more than the 200 that"),
    ],
)
def test_what_retry_cannot_do_is_told(
    arguments: dict[str, Any], words: str, frame: pd.DataFrame, emulator: Emulator, client: Any
) -> None:
    """Nothing is planned for it."""
    fail(emulator, outcome="max_tokens")
    frame.claude.batch("{text}", client=client, max_tokens=200)
    run = cbp.run(cbp.runs()["id"].iloc[0], client=client)

    with pytest.raises(cbp.InputError, match=words):
        run.retry(**arguments)
    assert run.done
    assert len(emulator.batches) == 1


def test_unreadable_rows_are_sent_again_when_asked_for(
    frame: pd.DataFrame, connect: Connect, clock: JumpingClock
) -> None:
    """They may have been paid, so it is a person's decision."""
    from tests.test_steps import on_results

    def spoil(body: bytes) -> bytes:
        return b"\n".join(line[:-5] if b"poor" in line else line for line in body.split(b"\n"))

    emulator = Emulator(clock=clock.now, duration=60.0, faults=[on_results(edit=spoil, times=3)])
    client = connect(emulator)
    out = frame.claude.batch("{text}", client=client)
    run = cbp.run(cbp.runs()["id"].iloc[0], client=client)
    with pytest.warns(UserWarning, match="1 unreadable: missing=True"):
        run.retry()
    healed = run.retry(missing=True).result(frame)

    assert out["answer_error"].iloc[1] == "no readable result; it may have been paid"
    assert healed["answer_status"].eq("succeeded").all()
    assert texts(emulator)[1:] == [["poor"]]
    assert run.report().bill.unpriced == 1


def test_a_canceled_run_retries_nothing_by_itself(
    frame: pd.DataFrame, emulator: Emulator, client: Any, clock: JumpingClock, home: Path
) -> None:
    """Who canceled wants no more batches."""
    fail(emulator, outcome="expired")
    store = Store(home)

    def cancel() -> None:
        if emulator.batches:
            store.set_cancel(store.runs()[0].id)

    clock.on_wait = cancel
    frame.claude.batch("{text}", client=client)

    assert len(emulator.batches) == 1


def test_who_borrows_waits_for_what_goes_out_again(
    frame: pd.DataFrame, emulator: Emulator, client: Any, clock: JumpingClock
) -> None:
    """Another run that needs the row gets its answer, not its first failure."""
    fail(emulator, outcome="expired")
    clock.on_wait = heal_after(emulator, 1)
    runs = [frame.claude.submit("{text}", client=client, output=name) for name in ("one", "two")]
    found = [run.result(frame) for run in runs]

    assert found[1]["two_status"].eq("succeeded").all()
    assert found[0]["one"].tolist() == found[1]["two"].tolist()
    assert len(emulator.batches) == 2


def test_nothing_is_read_twice_when_nothing_failed(
    frame: pd.DataFrame, emulator: Emulator, client: Any
) -> None:
    """What the API counted tells that there is nothing to retry."""
    frame.claude.batch("{text}", client=client)
    run = cbp.run(cbp.runs()["id"].iloc[0], client=client)

    assert run.retry().done
    assert orjson.dumps(texts(emulator)) == b'[["good","poor","fine"]]'


@pytest.mark.parametrize("outcome", ["errored", "canceled"])
def test_an_answer_that_was_paid_is_not_displaced_by_a_failure(
    outcome: str, frame: pd.DataFrame, emulator: Emulator, client: Any
) -> None:
    """A second try that fails leaves the row as it was: cut, but there."""
    fail(emulator, outcome="max_tokens")
    out = frame.claude.batch("{text}", client=client, max_tokens=200)
    run = cbp.run(cbp.runs()["id"].iloc[0], client=client)
    fail(emulator, outcome=outcome, error_type="invalid_request_error")
    again = run.retry(truncated=True, max_tokens=4000).result(frame)

    pd.testing.assert_frame_equal(again, out)
    assert out["answer"].notna().all()
    assert len(emulator.batches) == 2


def test_a_cancel_that_comes_while_rows_go_out_again_wins(
    frame: pd.DataFrame,
    emulator: Emulator,
    client: Any,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between looking for failures and planning them: nothing more is sent."""
    fail(emulator, outcome="expired")

    class Canceled(Store):
        def add_shards(self, shards: Any, *, by_itself: bool = False) -> bool:
            self.set_cancel(self.runs()[0].id)
            return super().add_shards(shards, by_itself=by_itself)

    monkeypatch.setattr(session, "Store", Canceled)
    out = frame.claude.batch("{text}", client=client)

    assert len(emulator.batches) == 1
    assert Store(home).runs()[0].cancel
    assert out["answer_status"].iloc[1] == "expired"


def test_who_plans_for_long_is_not_waited_for(
    frame: pd.DataFrame, emulator: Emulator, client: Any, clock: JumpingClock, home: Path
) -> None:
    """A template function may itself wait for the run whose rows go out again."""
    fail(emulator, outcome="expired")
    lock = Lock(home / PLANNING)
    run = frame.claude.submit("{text}", client=client)
    notes: list[str] = []

    def on_wait() -> None:
        heal_after(emulator, 1)()
        if run.progress.ended and not notes:
            lock.acquire()
        if "being planned" in run.progress.note:
            notes.append(run.progress.note)
            lock.release()

    clock.on_wait = on_wait
    out = run.result(frame)

    assert out["answer_status"].eq("succeeded").all()
