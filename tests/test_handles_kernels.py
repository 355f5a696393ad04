"""The same run in several kernels, after a fork, and beside runs that share its requests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas import locks, session, workers
from claude_batch_pandas.answers import Reader
from claude_batch_pandas.emulator import Emulator, Rule, serve
from claude_batch_pandas.exceptions import InputError, LedgerError, WaitTimeoutError
from claude_batch_pandas.locks import Lock
from claude_batch_pandas.progress import silent
from claude_batch_pandas.records import RunRecord, RunState, Shard
from claude_batch_pandas.spool import Spool
from claude_batch_pandas.store import Store
from claude_batch_pandas.workers import Crew
from tests.conftest import JumpingClock

Connect = Callable[..., Any]
Kernel = Callable[[str], cbp.Run]
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


@pytest.fixture
def sdk(slow: Emulator, connect: Connect) -> Any:
    """Return a real SDK client that talks to the slow API."""
    return connect(slow)


@pytest.fixture
def kernel(sdk: Any) -> Any:
    """Return a function that opens a run in another kernel, with workers of its own."""
    crews: list[Crew] = []

    def open_(run_id: str) -> cbp.Run:
        crews.append(Crew())
        return cbp.Run(run_id, session.build_engine(sdk), crews[-1], lambda: silent)

    yield open_
    for crew in crews:
        crew.stop()


def sent(emulator: Emulator) -> list[str]:
    """Return the prompts of every batch."""
    return [r["params"]["messages"][0]["content"] for b in emulator.batches for r in b.requests]


def ending(server: JumpingClock) -> Callable[[Any], None]:
    """Return a hook that lets the API end what is sent."""

    def end(progress: Any) -> None:
        if progress.submitted == progress.shards:
            server.advance(60.0)

    return end


def failed(frame: pd.DataFrame, slow: Emulator, sdk: Any, server: JumpingClock, text: str) -> str:
    """Make a run in which a row errored, let the API be well again, and return the run's id."""
    slow.rules = (Rule(outcome="errored", error_type="permission_error", contains=text),)
    run = frame.claude.submit("{text}", client=sdk, progress=ending(server)).wait(ENOUGH)
    slow.rules = ()
    return str(run.id)


# Several kernels


def test_a_detached_run_is_come_back_to(
    frame: pd.DataFrame, slow: Emulator, sdk: Any, server: JumpingClock
) -> None:
    """The same handle goes on where the ledger is; detaching twice is nothing."""
    run = frame.claude.submit("{text}", client=sdk, progress=ending(server))
    run.detach().detach()
    stopped = session.crew.at_work(run.id) is None
    out = run.result(frame, timeout=ENOUGH)

    assert stopped
    assert out["answer"].tolist() == ["[simulated] a", "[simulated] b", "[simulated] c"]
    assert sent(slow) == ["a", "b", "c"]


def test_a_cancel_in_another_kernel_is_heard_by_the_driver(
    frame: pd.DataFrame, slow: Emulator, sdk: Any, server: JumpingClock, kernel: Kernel
) -> None:
    """The kernel that asks does not hold the run; the one that drives it cancels, once."""
    asked: list[str] = []

    def cancel(progress: Any) -> None:
        if progress.submitted and not asked:
            asked.append(kernel(progress.run_id).cancel().id)
        elif progress.state == "canceling":
            server.advance(1.0)

    out = frame.claude.submit("{text}", client=sdk, progress=cancel).wait(ENOUGH).columns(frame)

    assert out["answer_status"].eq("canceled").any()
    assert sum(call.path.endswith("/cancel") for call in slow.calls) == 1


def test_progress_is_known_without_a_worker(frame: pd.DataFrame, sdk: Any, kernel: Kernel) -> None:
    """Whoever only looks reads the ledger, and drives nothing."""
    run = frame.claude.submit("{text}", client=sdk)
    session.crew.leave(60.0)
    other = kernel(run.id)

    assert (other.progress.rows, other.progress.shards, other.progress.submitted) == (3, 1, 1)
    assert other.progress.state == "in_progress"
    assert other._crew.at_work(run.id) is None


def test_two_kernels_that_retry_send_once(
    frame: pd.DataFrame, slow: Emulator, sdk: Any, server: JumpingClock, kernel: Kernel
) -> None:
    """What one kernel asks again is in flight for the other."""
    run_id = failed(frame, slow, sdk, server, "b")
    one, two = kernel(run_id), kernel(run_id)
    one.retry()
    two.retry()
    run = cbp.run(run_id, client=sdk, progress=ending(server))
    out = run.result(frame, timeout=ENOUGH)

    assert sent(slow) == ["a", "b", "c", "b"]
    assert out["answer_status"].eq("succeeded").all()


def test_a_retry_holds_the_planners_lock(
    frame: pd.DataFrame,
    slow: Emulator,
    sdk: Any,
    server: JumpingClock,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that between looking for failures and planning them nobody else plans them too."""
    run_id = failed(frame, slow, sdk, server, "b")
    taken: list[bool] = []

    class Watched(Store):
        def add_shards(self, shards: Sequence[Shard], *, by_itself: bool = False) -> bool:
            taken.append(Lock(home / locks.PLANNING).acquire())
            return super().add_shards(shards, by_itself=by_itself)

    monkeypatch.setattr(session, "Store", Watched)
    cbp.run(run_id, client=sdk).retry()

    assert taken == [False]


def test_a_retry_as_a_run_ends_is_not_left_behind(
    frame: pd.DataFrame,
    connect: Connect,
    server: JumpingClock,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Shards that come in between the last result and the end are driven by the same worker."""
    cbp.options.poll_seconds = (0.01, 0.02)
    emulator = Emulator(duration=0.0)
    sdk = connect(emulator)
    run_id = failed(frame, emulator, sdk, server, "b")

    class Late(Store):
        def mark_ended(self, run_id: str, now: float) -> bool:
            cbp.run(run_id, client=sdk).retry()
            return super().mark_ended(run_id, now)

    monkeypatch.setattr(session, "Store", Late)
    worker = session.crew.drive(run_id, session.build_engine(sdk))

    assert worker.done.wait(ENOUGH)
    assert Store(home).run(run_id).state is RunState.ENDED
    assert sent(emulator) == ["a", "b", "c", "b"]


def test_who_waits_for_a_run_that_another_kernel_reopened_waits_on(
    frame: pd.DataFrame, slow: Emulator, sdk: Any, server: JumpingClock, kernel: Kernel
) -> None:
    """Its own worker was done; the answers asked again are waited for all the same."""
    slow.rules = (Rule(outcome="errored", error_type="permission_error", contains="b"),)
    run = frame.claude.submit("{text}", client=sdk, progress=ending(server))
    worker = run._worker
    assert worker is not None
    cbp.run(run.id, client=sdk, progress=ending(server)).wait(ENOUGH)
    slow.rules = ()
    kernel(run.id).retry()
    out = run.result(frame, timeout=ENOUGH)

    assert worker.done.is_set()
    assert out["answer_status"].eq("succeeded").all()


# Canceled runs and retries


def test_a_run_that_is_being_canceled_is_not_retried(
    frame: pd.DataFrame, sdk: Any, home: Path
) -> None:
    """Planning its rows again would take the cancel back."""
    run = frame.claude.submit("{text}", client=sdk)
    session.crew.leave(60.0)
    run.cancel()

    with pytest.raises(InputError, match=f"Run {run.id} is being canceled; wait for its end"):
        run.retry()
    assert Store(home).run(run.id).cancel


def test_a_retry_does_not_take_back_the_cancel_of_another_run(
    frame: pd.DataFrame, slow: Emulator, sdk: Any, server: JumpingClock, home: Path
) -> None:
    """Rows of a run that is being canceled are asked again when it has ended, not before."""
    slow.rules = (
        Rule(outcome="errored", error_type="permission_error", contains="a"),
        Rule(outcome="refusal", contains="b", delay=1e3),
    )

    def leave(progress: Any) -> None:
        if progress.collected:
            session.crew.leave(0.0)
        elif progress.submitted == 3:
            server.advance(60.0)

    first = frame.claude.submit("{text}", client=sdk, shard_size=1, progress=leave)
    with pytest.raises(WaitTimeoutError, match="was detached"):
        first.wait(ENOUGH)
    second = frame.claude.submit("{text}", client=sdk, output="other")
    session.crew.stop()
    Store(home).set_cancel(first.id)

    with pytest.raises(InputError, match=f"Run {first.id} is being canceled; wait for its end"):
        second.retry()
    assert Store(home).run(first.id).cancel


def test_a_canceled_run_that_is_retried_is_no_longer_being_canceled(
    frame: pd.DataFrame, slow: Emulator, sdk: Any, server: JumpingClock
) -> None:
    """It holds only answers of another run, so that nothing of its own is planned again."""
    slow.rules = (Rule(outcome="errored", error_type="permission_error", contains="b"),)
    frame.claude.submit("{text}", client=sdk)
    run = frame.claude.submit("{text}", client=sdk, output="other", progress=ending(server))
    run.cancel().wait(ENOUGH)
    slow.rules = ()
    run.retry()

    assert run.progress.state != "canceling"
    assert run.retry().result(frame, timeout=ENOUGH)["other_status"].eq("succeeded").all()


# What others hold


def test_a_run_goes_on_without_answers_that_were_purged(
    frame: pd.DataFrame, more: pd.DataFrame, slow: Emulator, sdk: Any, server: JumpingClock
) -> None:
    """Only the rows it borrowed are lost, and they name the run; the cell asks just those anew."""
    first = frame.claude.submit("{text}", client=sdk, progress=ending(server)).wait(ENOUGH)
    run = more.claude.submit("{text}", client=sdk, progress=ending(server))
    first.purge()
    out = run.result(more, timeout=ENOUGH)
    run = more.claude.submit("{text}", client=sdk, progress=ending(server))
    again = run.result(more, timeout=ENOUGH)

    assert out["answer_status"].tolist() == ["errored"] * 3 + ["succeeded"]
    assert set(out["answer_error"].dropna()) == {f"its answer was purged with run {first.id}"}
    assert again["answer_status"].eq("succeeded").all()
    assert sent(slow) == ["a", "b", "c", "d", "a", "b", "c"]


class Purging(Store):
    """A ledger in which another process purges a run just after somebody looked at it."""

    victim = ""

    def run(self, run_id: str) -> RunRecord:
        record = super().run(run_id)
        if run_id == self.victim and record.state is not RunState.PURGED:
            self.purge(run_id)
            shutil.rmtree(self.home / "runs" / run_id)
        return record


@pytest.mark.parametrize("what", ["needed", "answers"])
def test_a_run_that_is_purged_while_it_is_read_is_purged(
    what: str,
    frame: pd.DataFrame,
    more: pd.DataFrame,
    slow: Emulator,
    sdk: Any,
    server: JumpingClock,
    home: Path,
) -> None:
    """And no damage, whoever reads of it at that moment."""
    first = frame.claude.submit("{text}", client=sdk, progress=ending(server)).wait(ENOUGH)
    run = more.claude.submit("{text}", client=sdk, progress=ending(server)).wait(ENOUGH)
    store = Purging(home)
    record = store.run(run.id)
    store.victim = first.id
    reader = Reader(store, Spool(home))
    if what == "needed":
        assert reader.needed(record, first.id) == []
    else:
        found = [result.error for result in reader.of_requests(record).results]
        assert found == [f"its answer was purged with run {first.id}"] * 3 + [None]


def test_a_retry_that_needs_a_purged_run_plans_nothing(
    frame: pd.DataFrame,
    more: pd.DataFrame,
    slow: Emulator,
    sdk: Any,
    server: JumpingClock,
    home: Path,
) -> None:
    """Its own failures go again when all can, which the same cell sees to."""
    first = frame.claude.submit("{text}", client=sdk, progress=ending(server)).wait(ENOUGH)
    run_id = failed(more, slow, sdk, server, "d")
    first.purge()

    with pytest.raises(InputError, match=f"Run {first.id}, which holds answers.*was purged"):
        cbp.run(run_id, client=sdk).retry()
    assert len(Store(home).shards(run_id)) == 1
    assert Store(home).run(run_id).state is RunState.ENDED


@pytest.mark.parametrize("is_over", [True, False], ids=["ended", "in progress"])
@pytest.mark.filterwarnings("ignore:The answers of run")
def test_a_run_whose_folder_is_gone_is_asked_anew_after_its_purge(
    is_over: bool,
    frame: pd.DataFrame,
    slow: Emulator,
    sdk: Any,
    server: JumpingClock,
    home: Path,
) -> None:
    """Nothing is paid again behind anybody's back: the error says what to do first."""
    first = frame.claude.submit("{text}", client=sdk, progress=ending(server))
    if is_over:
        first.wait(ENOUGH)
    session.crew.leave(60.0)
    shutil.rmtree(home / "runs" / first.id)
    with pytest.raises(LedgerError, match=rf"of run {first.id} is gone\. Restore it; or forget"):
        frame.claude.submit("{text}", client=sdk).wait(ENOUGH)
    before = sent(slow)
    cbp.run(first.id, client=sdk).purge()
    frame.claude.submit("{text}", client=sdk, progress=ending(server)).wait(ENOUGH)

    assert before == ["a", "b", "c"]
    assert sent(slow) == ["a", "b", "c"] * 2


def test_a_folder_that_is_gone_serves_no_other_call(
    frame: pd.DataFrame,
    more: pd.DataFrame,
    slow: Emulator,
    sdk: Any,
    server: JumpingClock,
    home: Path,
) -> None:
    """Its requests are asked anew there, and that is said before anything is sent."""
    first = frame.claude.submit("{text}", client=sdk, progress=ending(server)).wait(ENOUGH)
    shutil.rmtree(home / "runs" / first.id)
    with pytest.warns(UserWarning, match=f"answers of run {first.id} cannot be reused: its folder"):
        run = more.claude.submit("{text}", client=sdk, progress=ending(server))
    out = run.result(more, timeout=ENOUGH)

    assert out["answer_status"].eq("succeeded").all()
    assert sent(slow) == ["a", "b", "c", "a", "b", "c", "d"]


# Forks


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_begins_anew(frame: pd.DataFrame, sdk: Any) -> None:
    """Its parent's threads did not come along, nor may it use the parent's connections."""
    run = frame.claude.submit("{text}", client=sdk)
    session._clients[b""] = session.build_engine(sdk).client
    child = os.fork()
    if not child:
        os._exit(0 if session.crew.at_work(run.id) is None and not session._clients else 1)
    _, status = os.waitpid(child, 0)
    session._clients.clear()

    assert os.waitstatus_to_exitcode(status) == 0
    assert session.crew.at_work(run.id) is not None


FORK = """
import os, signal, sys
import pandas as pd
import claude_batch_pandas

def leave_a_child(progress):
    if progress.submitted:
        if not os.fork():
            print(progress.run_id, flush=True)  # all that happens at a fork has happened
            sys.stdin.read()
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)

pd.DataFrame({"text": ["a"]}).claude.batch("{text}", progress=leave_a_child)
"""


@needs_fork
def test_a_child_that_outlives_its_parent_does_not_keep_the_lock(home: Path) -> None:
    """A killed kernel leaves workers of a pool behind; another kernel drives its run all the same."""
    with serve(emulator=Emulator(duration=3600.0)) as url:
        settings = {"ANTHROPIC_BASE_URL": url, "CLAUDE_BATCH_HOME": str(home)}
        with subprocess.Popen(
            [sys.executable, "-c", FORK],
            env=os.environ | settings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            run_id = process.stdout.readline().strip()
            process.wait()
            is_free = Lock(home / "runs" / run_id / "lock").acquire()

    assert is_free
