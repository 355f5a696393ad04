"""What drives one run: submit, poll, collect, until every result is on this disk.

One worker per run and process; between processes the run's lock decides who drives, and the others
follow what the ledger says. A worker draws nothing and prints nothing: it changes plain state that
the waiting thread shows.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from claude_batch_pandas.clock import Clock
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import BatchError, LedgerError, PausedError
from claude_batch_pandas.locks import PLANNING, Lock
from claude_batch_pandas.pools import Pool
from claude_batch_pandas.progress import measure
from claude_batch_pandas.records import RunRecord, RunState, Shard, ShardState
from claude_batch_pandas.retrying import retry_passing, will_retry
from claude_batch_pandas.scopes import check_origin
from claude_batch_pandas.steps import Steps

SECONDS_BETWEEN_TELLINGS = 0.2
FOLLOW_SECONDS = 1.0  # between two looks at a ledger that another process writes

log = logging.getLogger(__name__)


class Companion(Protocol):
    """The worker of another run that this one takes answers from."""

    @property
    def done(self) -> threading.Event:
        """Set when it has ended, one way or another."""

    @property
    def failure(self) -> BaseException | None:
        """Why it stopped before its end."""


class Worker:
    """Drives one run, whenever a thread has something to do for it.

    Parameters
    ----------
    record : RunRecord
    engine : Engine
    companion : callable
        Given the id of another run, makes sure that something drives it.
    pool : Pool

    Attributes
    ----------
    progress : Progress
        Where the run is; replaced as a whole, so any thread may read it.
    done : threading.Event
        Set when nothing more will happen here.
    failure : BaseException or None
        Why it stopped before the end.
    is_awaited : bool
        Whether somebody will ask for the results, and then call `let_go`.
    """

    def __init__(
        self,
        record: RunRecord,
        engine: Engine,
        companion: Callable[[str], Companion],
        pool: Pool,
    ) -> None:
        self._run = record
        self._engine = engine
        self._companion = companion
        self._pool = pool
        self._lock = Lock(engine.spool.folder(record.id) / "lock")
        self._told_at = 0.0  # on the machine's own clock
        self.is_awaited = False
        self._has_begun = False
        self._is_stopping = False
        self._leave_when_sent = False
        self._is_abandoned = False
        self._warned = ""
        self._steps = Steps(record, engine, self._tell, lambda: self._is_stopping)
        self._needed: dict[str, tuple[int, frozenset[int]]] = {}
        self._companions: dict[str, Companion] = {}
        # A paused run is taken up again; what paused it is found out anew.
        fresh = replace(record, state=RunState.SUBMITTING) if _is_paused(record) else record
        self.progress = measure(fresh, [], engine.clock.now())
        self.done = threading.Event()
        self.failure: BaseException | None = None
        # Widgets find their cell through the context of the thread that started the work.
        self._context = contextvars.copy_context()

    @property
    def clock(self) -> Clock:
        """What its waiting is measured by."""
        return self._engine.clock

    @property
    def was_stopped(self) -> bool:
        """Whether somebody told it to leave before the end."""
        return self._is_stopping or self._leave_when_sent

    def start(self) -> None:
        """Begin."""
        self._pool.add(self)

    def stop(self) -> None:
        """Leave the run to the API; the ledger knows how to go on."""
        self._is_stopping = True
        self.wake()

    def wake(self) -> None:
        """Look at the ledger now: something was asked for."""
        self._pool.wake(self)

    def let_go(self) -> None:
        """Forget the results that came, once whoever waited has them; they are on the disk."""
        self._steps.let_go()

    def abandon(self) -> None:
        """Note that nobody waits any more; the end of the process shall not either."""
        self._is_abandoned = True

    def forget(self) -> None:
        """Let go of what a forked child got of its parent's worker."""
        self._lock.abandon()

    def leave(self, timeout: float) -> None:
        """Stop as soon as what is planned has been sent, waiting at most that many seconds.

        For the end of the process: a script that submits and exits shall have submitted. One that
        was interrupted shall just end.
        """
        self._leave_when_sent = True
        if self._is_abandoned:
            self.stop()
        self.wake()
        if not self.done.wait(timeout):
            self.stop()

    def planned(self) -> int:
        """Return how many shards are not sent yet, as the ledger knows it."""
        shards = self._engine.store.shards(self._run.id)
        return sum(shard.state is ShardState.PLANNED for shard in shards)

    def advance(self) -> float | None:
        """Do what can be done now; return the seconds until there is more, None at the end."""
        return self._context.run(self._advance)

    def _advance(self) -> float | None:
        seconds = None
        try:
            if not self._has_begun and not self._is_settled():
                check_origin(self._run, self._engine)
            self._has_begun = True
            seconds = self._drive()
        except PausedError as pause:
            self.failure = pause
            with contextlib.suppress(LedgerError):  # the disk may be full; it is told all the same
                self._pause(str(pause))
        except BaseException as error:
            self.failure = error
            if not isinstance(error, BatchError):
                log.debug("run %s stopped", self._run.id, exc_info=True)
        finally:
            if seconds is None:
                self._lock.release()
                if not self.is_awaited:
                    self.let_go()
                self.done.set()
        return seconds

    def _is_settled(self) -> bool:
        return all(shard.is_settled for shard in self._engine.store.shards(self._run.id))

    def _drive(self) -> float | None:
        """Take one round; return the seconds until the next one, None when there is none."""
        if self._is_stopping:
            return None
        if not self._lock.is_held:
            if not self._lock.acquire():
                return None if self._follow() else FOLLOW_SECONDS
            self._begin()
        self._steps.refresh()
        seconds = self._steps.take()
        self._warn_of_deadline()
        ahead = self._needed_ahead()
        if seconds is None and not ahead:
            return self._wind_up()
        if self._leave_when_sent and (self._steps.is_sent or self._steps.is_held):
            return None
        self._tell(self._steps.note)
        return FOLLOW_SECONDS if seconds is None else seconds

    def _wind_up(self) -> float | None:
        """Do what is left once every shard is settled; None when the run has ended."""
        is_again = retry_passing(self._steps.record, self._engine)
        if is_again:
            self._tell("sending again what expired or failed because the API was busy")
            return 0.0
        if is_again is None:
            self._tell("waiting for a run that is being planned, then sending again")
            return FOLLOW_SECONDS
        if self._steps.has_twins():
            self._tell(self._steps.note)
            return self._engine.poll_seconds[0]
        is_over = self._finish() or self._engine.store.run(self._run.id).state is RunState.PURGED
        return None if is_over else 0.0

    def _begin(self) -> None:
        """Take a run over, from the one who paused it or died."""
        planning = Lock(self._engine.store.home / PLANNING)
        if planning.acquire():  # else somebody may be writing new shards of this very run
            try:
                self._engine.spool.clear_parts(self._run.id)
            finally:
                planning.release()
        if _is_paused(self._engine.store.run(self._run.id)):
            self._engine.store.set_state(self._run.id, RunState.SUBMITTING)

    def _pause(self, why: str) -> None:
        if self._lock.is_held:
            self._engine.store.set_state(self._run.id, RunState.PAUSED, why)
            self._tell(why)

    def _follow(self) -> bool:
        """Watch the ledger while another process drives; tell whether the run has ended."""
        record = self._engine.store.run(self._run.id)
        if record.state in {RunState.ENDED, RunState.PURGED}:
            self._tell("")
            return True
        if self._leave_when_sent:
            return True
        self._tell(f"driven by {self._lock.holder()}; following")
        return False

    def _needed_ahead(self) -> bool:
        """Tell whether answers of other runs are still to come, and have those runs driven."""
        ahead = False
        for run_id in self._run.sources:
            shards = self._borrowed_from(run_id)
            if all(shard.is_settled for shard in shards) and not will_retry(
                self._engine.store.run(run_id), shards
            ):
                continue
            ahead = True
            companion = self._companions.get(run_id)
            if companion is None or (companion.done.is_set() and companion.failure is None):
                companion = self._companions[run_id] = self._companion(run_id)
            if companion.failure is not None:
                msg = f"It waits for answers of run {run_id}, which is paused: {companion.failure}"
                raise PausedError(msg)
        return ahead

    def _borrowed_from(self, run_id: str) -> list[Shard]:
        """Return the shards of another run that hold requests of this one, retried ones too."""
        shards = self._engine.store.shards(run_id)
        known = self._needed.get(run_id)
        if known is None or known[0] != len(shards):
            needed = self._engine.reader().needed(self._run, run_id)
            known = self._needed[run_id] = (len(shards), frozenset(needed))
        return [shard for shard in shards if shard.number in known[1]]

    def _warn_of_deadline(self) -> None:
        """Say, once for each word of it, that results wait which the API will delete."""
        words = self._steps.deadline() if self._steps.note else ""  # nothing went wrong, so far
        if words and words != self._warned:
            self._warned = words
            log.warning(words)

    def _finish(self) -> bool:
        """Make the end durable; False when a retry came in between."""
        engine = self._engine
        is_over = engine.store.mark_ended(self._run.id, engine.clock.now())
        if is_over:
            self._steps.drop_requests()
            self._told_at = 0.0
            self._tell("")
        return is_over

    def _tell(self, note: str) -> None:
        # Every telling reads all shards; of a run of hundreds, a few a second are enough.
        now = time.monotonic()
        if not note and now - self._told_at < SECONDS_BETWEEN_TELLINGS and self._told_at:
            return
        self._told_at = now
        engine = self._engine
        record = engine.store.run(self._run.id)
        shards = engine.store.shards(record.id)
        for run_id in record.sources:
            shards += self._borrowed_from(run_id)
        self.progress = measure(record, shards, engine.clock.now(), note)


class Crew:
    """The workers of this process, at most one a run."""

    def __init__(self) -> None:
        self._workers: dict[str, Worker] = {}
        self._pool = Pool()
        self._mutex = threading.Lock()

    def drive(self, run_id: str, engine: Engine) -> Worker:
        """Return the worker of a run; start one when the run is not over and nobody is at it."""
        with self._mutex:
            worker = self._workers.get(run_id)
            if worker is not None and not worker.done.is_set():
                return worker
            record = engine.store.run(run_id)
            worker = Worker(record, engine, lambda other: self.drive(other, engine), self._pool)
            self._workers[run_id] = worker
            worker.start()
            return worker

    def at_work(self, run_id: str) -> Worker | None:
        """Return the worker that drives a run now, if any."""
        worker = self._workers.get(run_id)
        return None if worker is None or worker.done.is_set() else worker

    def stop(self) -> None:
        """Stop every worker where it is, and forget them."""
        for worker in list(self._workers.values()):
            worker.stop()
            worker.done.wait()
        self._workers.clear()

    def forget(self) -> None:
        """Begin anew in a forked child: its parent's threads did not come along."""
        for worker in self._workers.values():
            worker.forget()
        self._workers = {}
        self._pool = Pool()
        self._mutex = threading.Lock()

    def leave(self, timeout: float) -> None:
        """Stop every worker once what it planned is sent, within that many seconds in all."""
        deadline = time.monotonic() + timeout
        at_work = [worker for worker in self._workers.values() if not worker.done.is_set()]
        for worker in at_work:
            try:
                worker.leave(max(0.0, deadline - time.monotonic()))
            except KeyboardInterrupt:  # the process ends; what is planned stays planned
                worker.stop()
            planned = worker.planned()
            if planned and not worker.progress.is_over:
                log.warning(
                    "Run %s: shards not sent yet: %d. Run the same call again to send them.",
                    worker.progress.run_id,
                    planned,
                )


def _is_paused(record: RunRecord) -> bool:
    return record.state is RunState.PAUSED
