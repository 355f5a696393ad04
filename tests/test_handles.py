"""A run in the hand: wait, result, details, cancel, detach, retry, purge, await."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas import session
from claude_batch_pandas.emulator import Emulator, Fault, Rule
from claude_batch_pandas.exceptions import LedgerError, WaitTimeoutError
from claude_batch_pandas.looks import why
from tests.conftest import JumpingClock
from tests.test_reconciling import whole

Connect = Callable[..., Any]


@pytest.fixture
def frame() -> pd.DataFrame:
    """Return rows that all ask something else."""
    return pd.DataFrame({"text": [f"row {i}" for i in range(6)]}, index=list("aabbcc"))


def test_submit_returns_a_run_that_joins_later(
    frame: pd.DataFrame, client: Any, emulator: Emulator
) -> None:
    """The kernel is free; the result is the same frame that batch gives."""
    run = frame.claude.submit("{text}", client=client)
    out = run.result(frame)

    pd.testing.assert_frame_equal(out, frame.claude.batch("{text}", client=client))
    assert run.done
    assert run.status == "ended"
    assert run.id in repr(run)
    assert "6 rows" in repr(run)


def test_result_without_the_frame_is_on_the_saved_index(frame: pd.DataFrame, client: Any) -> None:
    """In a new kernel the answers come back without the data."""
    named = frame.set_index(
        pd.MultiIndex.from_tuples([(i // 2, "x") for i in range(6)], names=["k", None])
    )
    run = cbp.run(named.claude.submit("{text}", client=client).wait().id, client=client)
    out = run.result()

    assert list(out.columns) == ["answer", "answer_status", "answer_error"]
    pd.testing.assert_index_equal(out.index, named.index)
    assert out["answer"].tolist() == [f"[simulated] row {i}" for i in range(6)]


def test_the_same_rows_under_other_labels_never_get_each_others_labels(
    frame: pd.DataFrame, client: Any, emulator: Emulator
) -> None:
    """Whatever index a frame has now is the index of what comes back, and nothing is sent."""
    first = frame.claude.submit("{text}", client=client).wait()
    other = frame.set_axis(pd.Index([3, 1, 2, 6, 5, 4]))
    run = other.claude.submit("{text}", client=client).wait()
    awaited = asyncio.run(_result(run))

    for found in (run.result(), run.details(), awaited, cbp.run(run.id).result()):
        assert found.index.tolist() == [3, 1, 2, 6, 5, 4]
    assert first.result().index.tolist() == list("aabbcc")
    assert len(emulator.batches) == 1


def test_labels_that_cannot_be_saved_are_known_here_and_warned_of_there(
    frame: pd.DataFrame, client: Any
) -> None:
    """In another process positions stand in for them, and nobody takes them for labels."""
    odd = frame.set_axis(pd.Index([1j, 2j, 3j, 4j, 5j, 6j]))
    run = odd.claude.submit("{text}", client=client).wait()

    assert run.result().index.tolist() == odd.index.tolist()
    with pytest.warns(
        UserWarning,
        match=r"could not be saved, so its rows are numbered by position here\. Pass the frame, ",
    ):
        there = cbp.run(run.id).result()
    assert there.index.name == "position"
    assert cbp.run(run.id).result(odd).index.tolist() == odd.index.tolist()


@pytest.mark.parametrize(
    "change",
    [
        lambda df: df.iloc[::-1],
        lambda df: df.iloc[[2, 2, 0]],
        lambda df: df.iloc[1:3].reset_index(),
        lambda df: df.assign(text=[None, *df["text"].iloc[1:]]),
    ],
    ids=["reordered", "repeated", "shorter", "a gap"],
)
def test_every_row_of_a_changed_frame_gets_its_own_answer(
    change: Callable[[pd.DataFrame], pd.DataFrame], frame: pd.DataFrame, client: Any
) -> None:
    """Answers are found by what a row asks, wherever it stands now."""
    changed = change(frame)
    out = frame.claude.submit("{text}", client=client).wait().result(changed)

    pd.testing.assert_frame_equal(out[changed.columns.tolist()], changed)
    told = [None if pd.isna(text) else f"[simulated] {text}" for text in changed["text"]]
    assert [None if pd.isna(answer) else answer for answer in out["answer"]] == told


def test_rows_a_run_did_not_ask_are_told_of(frame: pd.DataFrame, client: Any) -> None:
    """Of an edited and extended frame, what is new is skipped, warned of, and not sent."""
    run = frame.claude.submit("{text}", client=client).wait()
    more = pd.concat([frame, pd.DataFrame({"text": ["new", "newer"]})])
    more.iloc[1, 0] = "edited"
    message = (
        f"3 of 8 rows ask what run {run.id} did not, the first at position 1; they are skipped "
        "here. Run the cell again to ask them: only what is new is sent."
    )
    with pytest.warns(UserWarning, match=whole(message)):
        out = run.result(more)

    new = out["answer_status"] == "skipped"
    assert new.tolist() == [False, True, False, False, False, False, True, True]
    assert set(out["answer_error"][new]) == {
        f"run {run.id} did not ask this: the row is new or was edited"
    }
    assert out["answer"].iloc[5] == "[simulated] row 5"


def test_a_frame_that_shares_nothing_is_refused(frame: pd.DataFrame, client: Any) -> None:
    """The wrong frame is no frame of skipped rows."""
    run = frame.claude.submit("{text}", client=client).wait()

    message = (
        f"No row of this frame asks what run {run.id} sent (5 rows here, 6 there). Pass the frame "
        "that was sent, call result() without one, or run the cell again: only what is new is sent."
    )
    with pytest.raises(cbp.ChangedFrameError, match=whole(message)):
        run.result(frame.assign(text=frame["text"].str.upper()).iloc[:5])


def test_a_function_is_known_where_the_call_was_made(frame: pd.DataFrame, client: Any) -> None:
    """Its answers join by hash in this process; another one says what to do instead."""
    run = frame.claude.submit(lambda row: f"Say {row.text}", client=client).wait()
    out = run.result(frame.iloc[::-1])

    assert out["answer"].iloc[0] == "[simulated] Say row 5"
    elsewhere = cbp.run(run.id, client=client)
    assert elsewhere.result()["answer"].iloc[0] == "[simulated] Say row 0"
    message = (
        f"The template of run {run.id} was a function, which is not kept on disk. Run the same "
        "cell again (it sends nothing twice), or call result() without a frame."
    )
    with pytest.raises(cbp.InputError, match=whole(message)):
        elsewhere.result(frame)


def test_partial_result_shows_what_is_processing(frame: pd.DataFrame, connect: Connect) -> None:
    """Without waiting, a row has no answer and the status says so."""
    emulator = Emulator(duration=3600.0)
    run = frame.claude.submit("{text}", client=connect(emulator))
    out = run.result(frame, partial=True)

    assert out["answer_status"].tolist() == ["processing"] * 6
    assert out["answer"].isna().all()
    details = run.details()
    assert details["dollars"].isna().all()
    assert details["input_tokens"].isna().all()
    run.detach()
    assert run.status in {"submitting", "in_progress"}


def test_timeout_ends_only_the_waiting(frame: pd.DataFrame, connect: Connect) -> None:
    """The error says how to come back."""
    run = frame.claude.submit("{text}", client=connect(Emulator(duration=3600.0)))

    with pytest.raises(cbp.WaitTimeoutError, match=rf"not done after 0\.0 s.*run\('{run.id}'\)"):
        run.result(timeout=0.0)


@pytest.mark.usefixtures("interruptible")
def test_interrupt_detaches_and_says_how_to_come_back(
    frame: pd.DataFrame, connect: Connect
) -> None:
    """Stopping the cell loses nothing: the worker and the batch go on."""
    emulator = Emulator(duration=3600.0)
    run = frame.claude.submit("{text}", client=connect(emulator))

    summaries: list[str] = []

    def interrupt(progress: Any) -> None:
        summaries.append(progress.summary)
        if progress.submitted and not progress.summary:
            signal.raise_signal(signal.SIGINT)

    waiting = cbp.run(run.id, client=connect(emulator), progress=interrupt)
    with pytest.raises(KeyboardInterrupt, match=f"Detached from run {run.id}; nothing is canceled"):
        waiting.wait()

    assert session.crew.at_work(run.id) is not None
    assert summaries[-1].startswith(
        f"detached from run {run.id}, which goes on; come back: run the same cell again, or "
    )
    assert len(emulator.batches) == 1


def test_await_gives_the_columns(frame: pd.DataFrame, connect: Connect) -> None:
    """In asyncio, several runs at once, each with its own answers."""

    async def main() -> list[pd.DataFrame]:
        client = connect(Emulator(duration=0.0))
        runs = [
            frame.claude.submit(f"{i}: {{text}}", output=f"a{i}", client=client) for i in range(4)
        ]
        return list(await asyncio.gather(*runs))

    cbp.options.poll_seconds = (0.01, 0.02)
    outs = asyncio.run(main())

    for i, out in enumerate(outs):
        assert out[f"a{i}"].tolist() == [f"[simulated] {i}: row {k}" for k in range(6)]


def test_a_timeout_ends_what_is_shown(frame: pd.DataFrame, connect: Connect) -> None:
    """Nobody waits any more, so nothing may look as if somebody did."""
    seen: list[Any] = []
    emulator = Emulator(duration=10_000.0)
    client = connect(emulator)
    run = frame.claude.submit("{text}", client=client, progress=seen.append)
    with pytest.raises(WaitTimeoutError, match="is not done after 1 s"):
        run.wait(1)
    assert "is not done after 1 s. It goes on: " in seen[-1].summary
    run.detach()


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (LedgerError("The disk is full."), "The disk is full."),
        (KeyError("a prompt"), "stopped: KeyError"),
    ],
)
def test_a_card_tells_of_others_failures_by_name(failure: BaseException, words: str) -> None:
    """What they say may be a row's."""
    assert why(failure) == words


def test_clicks_are_obeyed_between_two_looks_at_the_api(
    frame: pd.DataFrame, connect: Connect
) -> None:
    """Not only when there is news."""

    class Display:
        obeyed: ClassVar[list[float]] = []

        def bind(self, run: Any) -> None:
            self.run = run

        def __call__(self, progress: Any) -> None:
            self.progress = progress

        def obey(self, now: float) -> None:
            self.obeyed.append(now)
            if len(self.obeyed) == 3:
                self.run.cancel()

    cbp.options.poll_seconds = (1.0, 1.0)
    client = connect(Emulator(duration=10_000.0))
    run = frame.claude.submit("{text}", client=client, progress=Display())
    out = run.result()
    assert set(out["answer_status"]) == {"canceled"}
    assert len(Display.obeyed) >= 3


def test_cancelling_the_task_detaches(frame: pd.DataFrame, connect: Connect) -> None:
    """A canceled waiter cancels no batch."""
    emulator = Emulator(duration=3600.0)

    async def main() -> None:
        run = frame.claude.submit("{text}", client=connect(emulator))
        task = asyncio.ensure_future(asyncio.wait_for(_result(run), timeout=0.3))
        with pytest.raises(TimeoutError):
            await task

    asyncio.run(main())

    assert len(emulator.batches) == 1
    assert not any(call.path.endswith("/cancel") for call in emulator.calls)


async def _result(run: cbp.Run) -> pd.DataFrame:
    return await run


def test_batch_works_inside_a_running_loop(frame: pd.DataFrame, client: Any) -> None:
    """A notebook's loop is running while the cell blocks."""

    async def cell() -> pd.DataFrame:
        out: pd.DataFrame = frame.claude.batch("{text}", client=client)
        return out

    assert asyncio.run(cell())["answer"].notna().all()


def test_four_calls_at_once_from_threads(frame: pd.DataFrame, connect: Connect) -> None:
    """Runs in one process do not disturb each other."""
    cbp.options.poll_seconds = (0.01, 0.02)
    emulator = Emulator(duration=0.0)
    client = connect(emulator)
    outs: dict[int, pd.DataFrame] = {}

    def call(i: int) -> None:
        outs[i] = frame.claude.batch(f"{i}: {{text}}", client=client)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(emulator.batches) == 4
    for i, out in outs.items():
        assert out["answer"].tolist() == [f"[simulated] {i}: row {k}" for k in range(6)]


def test_two_runs_share_what_is_in_flight(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """A request that another run is waiting for is not sent again; both get its answer."""
    emulator = Emulator(clock=clock.now, duration=60.0)
    client = connect(emulator)
    first = frame.claude.submit("{text}", client=client, output="a")
    second = pd.concat([frame, frame.assign(text=frame["text"] + "!")])
    out = second.claude.batch("{text}", client=client, output="b")

    sent = [r["params"]["messages"][0]["content"] for b in emulator.batches for r in b.requests]
    assert sorted(sent) == sorted(second["text"])
    assert out["b"].tolist() == [f"[simulated] {text}" for text in second["text"]]
    assert first.result(frame)["a"].tolist() == out["b"].tolist()[:6]


def test_details_tell_tokens_dollars_and_origin(frame: pd.DataFrame, client: Any) -> None:
    """What is known of a row beyond the three columns."""
    run = frame.claude.submit("{text}", client=client).wait()
    details = run.details()

    assert details.index.tolist() == list("aabbcc")
    assert details["text"].tolist() == [f"[simulated] row {i}" for i in range(6)]
    assert (details["input_tokens"] > 0).all()
    assert (details["dollars"] > 0).all()
    assert details["run"].eq(run.id).all()
    assert details["attempts"].tolist() == [1] * 6
    assert details["request_id"].str.startswith("msg_sim").all()
    assert details["shard"].tolist() == [0] * 6
    assert details["model"].eq("claude-haiku-5-5").all()
    assert details["stop_reason"].eq("end_turn").all()
    assert details["status"].tolist() == ["succeeded"] * 6
    assert details["error"].isna().all()
    assert details["retried"].isna().all()
    kinds = details.dtypes.astype(str).to_dict()
    texts = {"error", "text", "stop_reason", "model", "request_id", "run", "retried"}
    assert {name for name, kind in kinds.items() if kind in {"string", "str"}} == texts
    tokens = {name for name in kinds if name.endswith("_tokens")}
    assert {name for name, kind in kinds.items() if kind == "Int64"} == tokens | {
        "shard",
        "attempts",
    }
    assert (kinds["status"], kinds["dollars"]) == ("category", "Float64")


def test_unknown_price_is_shown_as_unknown(
    frame: pd.DataFrame, client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model that is in no price list does not cost 0."""
    run = frame.claude.submit("{text}", model="claude-of-tomorrow", client=client, progress="log")
    run.wait()

    assert "an unknown price for 6" in capsys.readouterr().err
    assert run.details()["dollars"].isna().all()
    assert run.report().bill.unpriced == 6


def test_report_counts_statuses_and_errors(clock: JumpingClock, connect: Connect) -> None:
    """The distinct error messages stand with their counts and an example row."""
    rule = Rule(outcome="errored", error_type="api_error", message="Oops", contains="bad")
    emulator = Emulator(clock=clock.now, duration=0.0, rules=[rule])
    df = pd.DataFrame({"text": ["good", "bad 1", "bad 2", None]})
    report = df.claude.submit("{text}", client=connect(emulator)).wait().report()

    assert report.statuses == {"succeeded": 1, "errored": 2, "skipped": 1}
    assert report.errors["api_error: Oops"] == (2, 1)
    assert "2 x api_error: Oops (first at position 1)" in str(report)


def test_retry_sends_just_what_failed(clock: JumpingClock, connect: Connect) -> None:
    """Errored, and if asked canceled rows go again under another attempt; nothing else does."""
    outcomes = ("errored", "canceled")
    rules = [
        Rule(outcome=outcome, contains=outcome, error_type="permission_error")
        for outcome in outcomes
    ]
    emulator = Emulator(clock=clock.now, duration=0.0, rules=rules)
    client = connect(emulator)
    df = pd.DataFrame({"text": ["good", *outcomes, "refused", "errored"]})
    first = df.claude.batch("{text}", client=client)
    again = df.claude.batch("{text}", client=client)
    before = len(emulator.batches)
    emulator.rules = ()
    run = cbp.run(cbp.runs()["id"].iloc[0], client=client)
    out = run.retry(canceled=True).result(df)

    pd.testing.assert_frame_equal(first, again)
    assert before == 1
    sent = [r["params"]["messages"][0]["content"] for r in emulator.batches[1].requests]
    assert sent == list(outcomes)
    assert [name[17:19] for name in emulator.batches[1].custom_ids] == ["02"] * 2
    assert out["answer_status"].eq("succeeded").all()
    assert run.details()["attempts"].tolist() == [1, 2, 2, 1, 2]
    assert run.retry().done
    assert len(emulator.batches) == 2


def test_failed_rows_wait_for_retry_in_other_runs_too(
    clock: JumpingClock, connect: Connect
) -> None:
    """Adding rows sends only those; retry of the new run sends the old failure."""
    emulator = Emulator(
        clock=clock.now,
        duration=0.0,
        rules=[Rule(outcome="errored", error_type="permission_error", contains="bad")],
    )
    client = connect(emulator)
    df = pd.DataFrame({"text": ["bad", "good"]})
    df.claude.batch("{text}", client=client)
    more = pd.DataFrame({"text": ["bad", "good", "new"]})
    run = more.claude.submit("{text}", client=client)
    out = run.result(more)
    emulator.rules = ()
    healed = run.retry().result(more)

    assert out["answer_status"].tolist() == ["errored", "succeeded", "succeeded"]
    assert [batch.total for batch in emulator.batches] == [2, 1, 1]
    assert healed["answer_status"].eq("succeeded").all()


def test_a_handle_that_has_waited_sees_what_was_asked_again_since(
    clock: JumpingClock, connect: Connect
) -> None:
    """The rows it read for its closing line were another run's, which somebody retried."""
    rules = [Rule(outcome="errored", error_type="permission_error", contains="bad")]
    emulator = Emulator(clock=clock.now, duration=0.0, rules=rules)
    client = connect(emulator)
    first = pd.DataFrame({"text": ["bad", "good"]}).claude.submit("{text}", client=client).wait()
    more = pd.DataFrame({"text": ["bad", "good", "new"]})
    run = more.claude.submit("{text}", client=client).wait()
    emulator.rules = ()
    cbp.run(first.id, client=client).retry().wait()

    assert run.result()["answer_status"].eq("succeeded").all()
    assert len(emulator.batches) == 3


def test_cancel_keeps_what_was_done(connect: Connect) -> None:
    """What finished before the cancel was paid and is kept; what was never sent is withdrawn."""
    cbp.options.max_in_flight = 100
    cbp.options.poll_seconds = (0.01, 0.02)
    server = JumpingClock()
    client = connect(Emulator(clock=server.now, duration=100.0))
    df = pd.DataFrame({"text": [f"row {i}" for i in range(200)]})
    canceled: list[str] = []

    def on_progress(progress: Any) -> None:
        if progress.submitted and not canceled:
            server.advance(50.0)
            canceled.append(run.cancel().id)
        elif canceled:
            server.advance(50.0)

    run = df.claude.submit("{text}", client=client, shard_size=90)
    out = cbp.run(run.id, client=client, progress=on_progress).wait().columns(df)

    assert out["answer_status"].value_counts().to_dict()["succeeded"] == 45
    assert out["answer_status"].value_counts().to_dict()["canceled"] == 155
    kept = out[out["answer_status"] == "succeeded"]
    assert kept["answer"].tolist() == [f"[simulated] {text}" for text in kept["text"]]
    assert set(out["answer_error"].dropna().str.split(";").str[0]) == {
        "canceled before it was sent",
        "the batch was canceled before this request was processed",
    }
    assert run.cancel().done


def test_purge_deletes_prompts_and_answers(
    frame: pd.DataFrame, client: Any, home: Path, emulator: Emulator
) -> None:
    """Nothing of the rows stays on this disk; the run is remembered by name only."""
    run = frame.claude.submit("{text}", client=client).wait()
    run.purge()

    assert run.status == "purged"
    files = [path for path in home.rglob("*") if path.is_file()]
    assert files
    assert not any(b"row 3" in path.read_bytes() for path in files)
    frame.claude.batch("{text}", client=client)
    assert len(emulator.batches) == 2


def test_purge_of_an_unfinished_run_is_refused(frame: pd.DataFrame, connect: Connect) -> None:
    """Its results would be lost."""
    run = frame.claude.submit("{text}", client=connect(Emulator(duration=3600.0)))

    with pytest.raises(cbp.InputError, match="cancel it and collect it before purging"):
        run.purge()


def test_unknown_run_names_the_latest(frame: pd.DataFrame, client: Any) -> None:
    """A typo in a run id tells what exists."""
    known = frame.claude.submit("{text}", client=client).wait().id

    with pytest.raises(cbp.RunNotFoundError, match=f"no run 'nope'.*The latest are: {known}"):
        cbp.run("nope")


def test_runs_lists_everything(frame: pd.DataFrame, client: Any) -> None:
    """One line per run, newest first."""
    frame.claude.batch("{text}", client=client, name="first")
    frame.claude.batch("{text}", client=client, output="second")
    listed = cbp.runs()

    assert list(listed.columns) == ["id", "name", "state", "rows", "shards", "created", "expires"]
    assert listed["name"].tolist() == ["second", "first"]
    assert listed["state"].tolist() == ["ended", "ended"]
    assert listed["rows"].tolist() == [6, 6]
    assert listed["shards"].tolist() == [0, 1]


def test_a_run_of_one_server_is_never_asked_of_another(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """A run of the emulator does not send its batch ids to the real API."""
    emulator = Emulator(
        clock=clock.now,
        duration=60.0,
        faults=[Fault(method="GET", path=r".*/msgbatch_[^/]*", status=401)],
    )
    here = connect(emulator, base_url="http://127.0.0.1:9")
    with pytest.raises(cbp.PausedError):
        frame.claude.batch("{text}", client=here)
    calls = len(emulator.calls)

    with pytest.raises(cbp.PausedError, match=r"was sent to http://127.0.0.1:9, but the client"):
        cbp.run(cbp.runs()["id"].iloc[0], client=connect(emulator)).result()
    assert len(emulator.calls) == calls


def test_closing_line_is_shown(
    frame: pd.DataFrame, client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every run ends with counts, dollars, time and name, on standard error."""
    run = frame.claude.submit("{text}", client=client, progress="log").wait()
    shown = capsys.readouterr()

    assert shown.out == ""
    assert shown.err.splitlines()[-1].startswith("6 succeeded; $0.000")
    assert shown.err.splitlines()[-1].endswith(f"run {run.id}")


def test_a_broken_hook_never_breaks_the_run(
    frame: pd.DataFrame, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Drawing errors are logged once, and the answers come."""

    def broken(progress: Any) -> None:
        msg = "no display"
        raise RuntimeError(msg)

    out = frame.claude.batch("{text}", client=client, progress=broken)

    assert out["answer"].notna().all()
    assert caplog.text.count("Progress can no longer be shown") == 1


def test_a_purged_run_says_that_its_answers_are_gone(frame: pd.DataFrame, client: Any) -> None:
    """Not an error about files."""
    run = frame.claude.submit("{text}", client=client).wait()
    run.purge()

    with pytest.raises(cbp.InputError, match=f"Run {run.id} was purged.*Run the cell"):
        run.result()


def test_what_waiting_read_is_given_without_reading_it_again(
    frame: pd.DataFrame, client: Any, home: Path
) -> None:
    """Once; then it is on the disk only, where every look checks it."""
    run = frame.claude.submit("{text}", client=client).wait()
    [path] = home.rglob("*.results.jsonl")
    path.write_bytes(b"")

    assert run.result()["answer"].tolist() == [f"[simulated] row {i}" for i in range(6)]
    with pytest.raises(LedgerError, match=r"shard-0000\.results\.jsonl was changed"):
        run.result()
