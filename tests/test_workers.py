"""Workers: one driver a run, followers that take over, companions that are waited for."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas import session, workers
from claude_batch_pandas.emulator import Emulator, Fault, Rule
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import InputError, LedgerError, PausedError, WaitTimeoutError
from claude_batch_pandas.locks import Lock
from claude_batch_pandas.records import RunState, ShardState
from claude_batch_pandas.store import FILE, Store
from claude_batch_pandas.workers import Crew
from tests.conftest import JumpingClock

Connect = Callable[..., Any]
LOOK: dict[str, Any] = {"method": "GET", "path": r"/v1/messages/batches/[^/]+"}
ENOUGH = 5.0  # seconds; far more than any of these runs needs


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame({"text": ["a", "b", "c"]})


@pytest.fixture
def more(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the frame and one more."""
    return pd.concat([frame, pd.DataFrame({"text": ["d"]})])


@pytest.fixture
def server() -> JumpingClock:
    """Return the API's clock, which stands still until a test moves it."""
    return JumpingClock()


@pytest.fixture
def slow(server: JumpingClock, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """Return an API that ends batches when the test says so, and is asked often."""
    cbp.options.poll_seconds = (0.01, 0.02)
    monkeypatch.setattr(workers, "FOLLOW_SECONDS", 0.02)
    return Emulator(clock=server.now, duration=60.0)


def engine_of(client: Any) -> Engine:
    """Return an engine of the session."""
    return session.build_engine(client)


def lock_of(home: Path, run_id: str) -> Lock:
    """Return another holder of a run's lock."""
    return Lock(home / "runs" / run_id / "lock")


def left_behind(frame: pd.DataFrame, client: Any) -> str:
    """Submit a frame, leave it once it is sent, and return the run's id."""
    run = frame.claude.submit("{text}", client=client)
    session.crew.leave(60.0)
    return str(run.id)


# Following


def test_a_follower_shows_who_drives_and_takes_over(
    frame: pd.DataFrame, slow: Emulator, server: JumpingClock, connect: Connect, home: Path
) -> None:
    """While another one holds the lock nothing is asked of the API; then the work goes on."""
    client = connect(slow)
    run_id = left_behind(frame, client)
    lock = lock_of(home, run_id)
    lock.acquire()
    calls = len(slow.calls)
    notes: list[str] = []
    asked: list[int] = []

    def show(progress: Any) -> None:
        notes.append(progress.note)
        if "driven by" in progress.note and lock.is_held:
            asked.append(len(slow.calls) - calls)
            server.advance(60.0)
            lock.release()

    out = cbp.run(run_id, client=client, progress=show).wait(ENOUGH).columns(frame)

    assert any(note.startswith(f"driven by process {os.getpid()} on ") for note in notes)
    assert asked == [0]
    assert out["answer"].tolist() == ["[simulated] a", "[simulated] b", "[simulated] c"]
    assert len(slow.batches) == 1


def test_a_follower_ends_when_the_driver_is_done(
    frame: pd.DataFrame, slow: Emulator, connect: Connect, home: Path
) -> None:
    """What the ledger says is enough; the lock is never needed."""
    client = connect(slow)
    run_id = left_behind(frame, client)
    lock = lock_of(home, run_id)
    lock.acquire()

    def show(progress: Any) -> None:
        if "driven by" in progress.note:
            Store(home).set_state(run_id, RunState.ENDED)

    run = cbp.run(run_id, client=client, progress=show).wait(ENOUGH)

    assert run.done
    assert lock.is_held
    lock.release()


def test_a_follower_can_leave(
    frame: pd.DataFrame, slow: Emulator, connect: Connect, home: Path
) -> None:
    """A process that ends does not wait for somebody else's run."""
    client = connect(slow)
    run_id = left_behind(frame, client)
    lock = lock_of(home, run_id)
    lock.acquire()
    crew = Crew()
    worker = crew.drive(run_id, engine_of(client))
    crew.leave(30.0)

    assert worker.done.is_set()
    assert worker.failure is None
    lock.release()


# The crew


def test_a_run_has_one_worker(
    frame: pd.DataFrame, slow: Emulator, server: JumpingClock, connect: Connect, home: Path
) -> None:
    """However many ask at once, one thread drives; when it is done, a new one may."""
    client = connect(slow)
    run_id = left_behind(frame, client)
    crew, engine = Crew(), engine_of(client)
    start = threading.Barrier(8)
    workers: list[Any] = []

    def ask() -> None:
        start.wait()
        workers.append(crew.drive(run_id, engine))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    at_work = crew.at_work(run_id)
    crew.stop()

    assert len(set(map(id, workers))) == 1
    assert at_work is workers[0]
    assert crew.at_work(run_id) is None
    again = crew.drive(run_id, engine)
    assert again is not at_work
    server.advance(60.0)
    assert again.done.wait(30.0)
    assert again.failure is None
    assert Store(home).run(run_id).state is RunState.ENDED


def test_stopping_leaves_the_run_to_the_api(
    frame: pd.DataFrame, slow: Emulator, connect: Connect, home: Path
) -> None:
    """Nothing is canceled, the lock is free, and the ledger knows how to go on."""
    client = connect(slow)
    run = frame.claude.submit("{text}", client=client)
    session.crew.stop()
    lock = lock_of(home, run.id)

    assert lock.acquire()
    lock.release()
    assert session.crew.at_work(run.id) is None
    assert not any(call.path.endswith("/cancel") for call in slow.calls)
    assert run.status in {"submitting", "in_progress"}


def test_leaving_waits_until_everything_is_sent(
    slow: Emulator, connect: Connect, home: Path
) -> None:
    """A script that submits and ends has submitted, and waits for no answer."""
    df = pd.DataFrame({"text": [f"row {i}" for i in range(50)]})
    run = df.claude.submit("{text}", client=connect(slow), shard_size=10)
    session.crew.leave(60.0)

    assert sum(batch.total for batch in slow.batches) == 50
    assert {shard.state for shard in Store(home).shards(run.id)} == {ShardState.IN_PROGRESS}
    assert session.crew.at_work(run.id) is None


def test_leaving_has_an_end(
    slow: Emulator, connect: Connect, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be sent in time is left in the ledger, planned, and somebody is told."""
    cbp.options.max_in_flight = 10
    df = pd.DataFrame({"text": [f"row {i}" for i in range(20)]})

    def leave(progress: Any) -> None:
        if progress.submitted:
            session.crew.leave(0.0)

    run = df.claude.submit("{text}", client=connect(slow), shard_size=10, progress=leave)
    with pytest.raises(WaitTimeoutError, match=r"was detached in this process\. It goes on"):
        run.wait(ENOUGH)
    states = [shard.state for shard in Store(home).shards(run.id)]

    assert states == [ShardState.IN_PROGRESS, ShardState.PLANNED]
    assert f"Run {run.id}: shards not sent yet: 1. Run the same call again" in caplog.text


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_script_ends_without_sending_more(connect: Connect, home: Path) -> None:
    """What was not sent stays planned, the message counts it, and nobody waits for the queue."""
    emulator = Emulator(duration=3600.0, max_queue=10)
    df = pd.DataFrame({"text": [f"row {i}" for i in range(30)]})

    def interrupt(progress: Any) -> None:
        if "takes no more for now" in progress.note and not progress.summary:
            signal.raise_signal(signal.SIGINT)

    run = df.claude.submit("{text}", client=connect(emulator), shard_size=10, progress=interrupt)
    with pytest.raises(KeyboardInterrupt, match="1 of 3 shards are not sent yet"):
        run.wait(ENOUGH)
    session.crew.leave(ENOUGH)

    states = [shard.state for shard in Store(home).shards(run.id)]
    assert states[0] is ShardState.IN_PROGRESS
    assert states[2] is ShardState.PLANNED
    assert len(emulator.batches) == 1
    assert session.crew.at_work(run.id) is None


def test_leaving_without_workers_is_nothing() -> None:
    """The end of a process that did nothing takes no time."""
    Crew().leave(60.0)
    Crew().stop()


# Failures


def test_a_purged_run_is_not_driven(frame: pd.DataFrame, client: Any, home: Path) -> None:
    """Its files are gone; the run stays purged, and no thread is started for it."""
    run = frame.claude.submit("{text}", client=client).wait()
    run.purge()
    with pytest.raises(InputError, match="was purged: its answers are gone"):
        cbp.run(run.id, client=client).result()

    assert run.status == "purged"
    assert session.crew.at_work(run.id) is None


def test_a_damaged_body_stops_the_run_before_it_is_sent(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect, home: Path
) -> None:
    """A disk error in the ledger is told, and nothing of it goes out."""
    fault = Fault(method="POST", path="/v1/messages/batches", status=401)
    emulator = Emulator(clock=clock.now, duration=0.0, faults=[fault])
    client = connect(emulator)
    with pytest.raises(PausedError, match="401"):
        frame.claude.batch("{text}", client=client)
    (body,) = home.glob("runs/*/shard-0000.requests.json")
    body.write_bytes(body.read_bytes().replace(b'"a"', b'"z"'))
    with pytest.raises(LedgerError, match="is not what was planned"):
        frame.claude.batch("{text}", client=client)

    assert emulator.batches == []


def test_a_run_of_another_server_stays_paused(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Whoever lists the runs sees that it waits for a person."""
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[Fault(**LOOK, status=401)])
    here = connect(emulator, base_url="http://127.0.0.1:9")
    with pytest.raises(PausedError, match="401"):
        frame.claude.batch("{text}", client=here)
    run_id = cbp.runs()["id"].iloc[0]
    with pytest.raises(PausedError, match=r"was sent to http://127.0.0.1:9, but the client"):
        cbp.run(run_id, client=connect(emulator)).result()

    assert cbp.runs()["state"].tolist() == ["paused"]


def test_whatever_stops_a_worker_is_told_to_who_waits(
    frame: pd.DataFrame, emulator: Emulator, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error nobody thought of ends the waiting and frees the run; the same call goes on."""

    class Broken(Store):
        def mark_seen(self, *_: Any) -> None:
            msg = "unheard of"
            raise RuntimeError(msg)

    with monkeypatch.context() as patch:
        patch.setattr(session, "Store", Broken)
        with pytest.raises(RuntimeError, match="unheard of"):
            frame.claude.batch("{text}", client=client)
    out = frame.claude.batch("{text}", client=client)

    assert out["answer"].notna().all()
    assert len(emulator.batches) == 1


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_pause_that_cannot_be_written_is_told_all_the_same(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect, home: Path
) -> None:
    """The disk is full just when a person is needed: what is needed is told, and nothing else."""

    def fill_the_disk() -> None:
        clock.on_wait = lambda: None
        with contextlib.closing(sqlite3.connect(home / FILE)) as database:
            database.execute(
                "CREATE TRIGGER full BEFORE UPDATE ON runs "
                "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
            )

    emulator = Emulator(clock=clock.now, duration=60.0, faults=[Fault(**LOOK, status=401)])
    clock.on_wait = fill_the_disk
    with pytest.raises(PausedError, match="401"):
        frame.claude.batch("{text}", client=connect(emulator))

    assert cbp.runs()["state"].tolist() == ["in_progress"]


# Companions


def test_a_pause_is_told_where_the_disk_is_full(
    frame: pd.DataFrame, slow: Emulator, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be written down, and is what the caller has to know all the same."""

    class Full(Store):
        def set_state(self, run_id: str, state: RunState, note: str = "") -> None:
            if state is RunState.PAUSED:
                msg = "database or disk is full"
                raise LedgerError(msg)
            super().set_state(run_id, state, note)

    client = connect(slow)
    run_id = left_behind(frame, client)
    monkeypatch.setattr(session, "Store", Full)
    slow.faults = [Fault(**LOOK, status=401)]

    with pytest.raises(PausedError, match="Check the API key"):
        cbp.run(run_id, client=client).wait(ENOUGH)


def test_the_pause_of_a_companion_pauses_who_waits_for_it(
    frame: pd.DataFrame, more: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Answers that another run holds do not come, and the reason is told with its name."""
    emulator = Emulator(
        clock=clock.now, duration=60.0, faults=[Fault(**LOOK, status=401, times=None)]
    )
    client = connect(emulator)
    with pytest.raises(PausedError, match="401"):
        frame.claude.batch("{text}", client=client)
    first = cbp.runs()["id"].iloc[0]
    # All requests of this one are the first's, so nothing of its own can fail.
    run = frame.claude.submit("{text}", client=client, output="other")
    with pytest.raises(PausedError, match=f"waits for answers of run {first}, which is paused: "):
        run.wait()

    assert run.status == "paused"
    assert "which is paused" in repr(run)
    assert len(emulator.batches) == 1


def test_a_pause_is_shown_whatever_caused_it(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """The last progress a hook sees is that of a paused run, so that a bar can close."""
    emulator = Emulator(
        clock=clock.now, duration=60.0, faults=[Fault(**LOOK, status=401, times=None)]
    )
    client = connect(emulator)
    with pytest.raises(PausedError, match="401"):
        frame.claude.batch("{text}", client=client)
    seen: list[RunState] = []
    with pytest.raises(PausedError, match="waits for answers"):
        frame.claude.batch(
            "{text}", client=client, output="other", progress=lambda p: seen.append(p.state)
        )

    assert seen[-1] == "paused"


def test_a_companion_that_was_detached_is_driven_again(
    frame: pd.DataFrame,
    more: pd.DataFrame,
    slow: Emulator,
    server: JumpingClock,
    connect: Connect,
) -> None:
    """Leaving one run does not leave another without the answers it waits for."""
    client = connect(slow)
    first = frame.claude.submit("{text}", client=client)

    def leave_the_first(progress: Any) -> None:
        if progress.submitted == progress.shards == 2 and server.now() == JumpingClock().now():
            first.detach()
            server.advance(60.0)

    run = more.claude.submit("{text}", client=client, progress=leave_the_first)
    try:
        run.wait(ENOUGH)
    except WaitTimeoutError:
        pytest.fail("it waits for a run that nobody drives")

    assert run.columns(more)["answer"].notna().all()


def test_a_retry_while_a_run_goes_on_waits_for_every_answer(
    frame: pd.DataFrame,
    more: pd.DataFrame,
    slow: Emulator,
    server: JumpingClock,
    connect: Connect,
) -> None:
    """Rows that failed in an older run are asked again; the result is not there without them."""
    client = connect(slow)

    def answer(progress: Any) -> None:
        if progress.submitted == progress.shards:
            server.advance(60.0)

    slow.rules = (Rule(outcome="errored", error_type="permission_error", contains="b"),)
    before = frame.claude.batch("{text}", client=client, progress=answer)
    slow.rules = ()
    run = more.claude.submit("{text}", client=client)
    run.retry()
    out = cbp.run(run.id, client=client, progress=answer).wait(ENOUGH).columns(more)

    assert before["answer_status"].tolist() == ["succeeded", "errored", "succeeded"]
    assert out["answer_status"].tolist() == ["succeeded"] * 4


def test_results_that_nobody_waits_for_any_more_are_let_go(
    frame: pd.DataFrame, slow: Emulator, server: JumpingClock, connect: Connect
) -> None:
    """A run that goes on behind holds no answers in memory when it has ended."""
    run = frame.claude.submit("{text}", client=connect(slow))
    with pytest.raises(WaitTimeoutError, match=r"is not done after 0\.05 s"):
        run.wait(timeout=0.05)
    worker = session.crew.at_work(run.id)
    assert worker is not None
    server.advance(60.0)
    assert worker.done.wait(ENOUGH)

    assert run.status == "ended"
    assert len(run._engine.parts) == 0
    assert run.result()["answer"].tolist() == ["[simulated] a", "[simulated] b", "[simulated] c"]
