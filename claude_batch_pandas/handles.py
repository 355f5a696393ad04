"""A run, as people hold it: wait for it, look at it, join its answers, cancel it, ask again.

A `Run` remembers nothing that the ledger does not: closing the notebook loses none of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from claude_batch_pandas import accounts, deadlines, frames, money, report
from claude_batch_pandas.acts import Acts
from claude_batch_pandas.columns import Columns
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import InputError, LedgerError, WaitTimeoutError
from claude_batch_pandas.joining import Join
from claude_batch_pandas.looks import Looks, why
from claude_batch_pandas.loops import check_loop
from claude_batch_pandas.matching import Matched
from claude_batch_pandas.progress import Hook, Watch, measure
from claude_batch_pandas.records import Progress, RunRecord, RunState, ShardState
from claude_batch_pandas.rendering import Recipe
from claude_batch_pandas.workers import Crew, Worker

if TYPE_CHECKING:
    import pandas as pd

SLICE_SECONDS = 0.1  # an interrupt is noticed between two slices of waiting


class Run(Acts, Looks):
    """One call over one frame, at the API and in the ledger.

    Made by ``df.claude.submit(...)``, or by ``claude_batch_pandas.run(id)`` in a new kernel.

    Attributes
    ----------
    id : str
        Such as ``"20261120-intent-x7k2"``.
    """

    def __init__(
        self,
        run_id: str,
        engine: Engine,
        crew: Crew,
        make_hook: Callable[[], Hook],
        asked: Recipe | None = None,
        frame: Any = None,
        index: Any = None,
        planned: Any = None,
    ) -> None:
        self.id = run_id
        self._engine = engine
        self._crew = crew
        self._make_hook = make_hook  # a display of its own for every time somebody waits
        if asked is not None:
            engine.outputs[run_id] = asked.output  # with its Python types, which the disk has not
        self._join = Join(engine, asked, frame, index, planned)
        self._worker: Worker | None = None  # kept until its end was told to somebody
        self._failure: BaseException | None = None  # of a worker that is no longer kept
        self._is_detached = False
        self._was_over = self.done  # before anybody here asked for anything
        self._line: tuple[object, str] | None = None  # that closed it, and the mark of then
        self._fresh: Columns | None = None  # what the closing line read, for `columns`

    def __repr__(self) -> str:
        record = self._record
        about = f"{record.state}, {record.rows:,} rows"
        shards, now = self._engine.store.shards(self.id), self._engine.clock.now()
        notes = [record.note, deadlines.warning(self.id, shards, now)]
        return f"<Run {self.id}: {', '.join([about, *filter(None, notes)])}>"

    def __reduce__(self) -> Any:
        msg = (
            f"Run {self.id} cannot be pickled: it is tied to this process. Pass on its id, and use "
            f"claude_batch_pandas.run({self.id!r}) there."
        )
        raise InputError(msg)

    @property
    def status(self) -> RunState:
        """Where the run is, as the ledger knows it; one of the strings of `RunState`."""
        return self._record.state

    @property
    def asked(self) -> Recipe | None:
        """What was asked of every row, where this process knows it."""
        return self._join.asked

    @property
    def done(self) -> bool:
        """Whether every result is on this machine."""
        return self.status is RunState.ENDED

    @property
    def progress(self) -> Progress:
        """Where the run is in numbers."""
        worker = self._worker or self._crew.at_work(self.id)
        now = self._engine.clock.now()
        if worker is not None:
            return worker.progress.at(now)
        shards = self._engine.store.shards(self.id)
        return measure(self._record, shards, now)

    def start(self) -> Run:
        """Begin to drive the run in this process, and return at once."""
        self._drive()
        return self

    def wait(self, timeout: float | None = None) -> Run:
        """Wait until every result is here; an interrupt detaches and loses nothing.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most.

        Returns
        -------
        Run
            The run itself.

        Raises
        ------
        WaitTimeoutError
            When the time is over; the run goes on.
        PausedError
            When a person is needed; the same call goes on later.
        """
        if timeout is not None and not isinstance(timeout, int | float):
            msg = f"timeout must be a number of seconds, or None to wait for ever, not {timeout!r}."
            raise InputError(msg)
        clock = self._engine.clock
        deadline = None if timeout is None else clock.monotonic() + timeout
        with self._watched() as watch:
            for worker in self._slices(watch):
                if deadline is not None and clock.monotonic() >= deadline:
                    msg = f"Run {self.id} is not done after {timeout} s. It goes on: {self._back}"
                    raise WaitTimeoutError(msg)
                worker.done.wait(SLICE_SECONDS)
            self._close(watch)
        return self

    def __await__(self) -> Generator[Any, None, pd.DataFrame]:
        return self._result_async().__await__()

    async def _result_async(self) -> pd.DataFrame:
        check_loop()
        with self._watched() as watch:
            for _ in self._slices(watch):
                await asyncio.sleep(SLICE_SECONDS)
            self._close(watch)
        return self._joined(self._join.frame)

    def result(
        self, df: Any = None, timeout: float | None = None, *, partial: bool = False
    ) -> pd.DataFrame:
        """Return the answers as columns.

        Parameters
        ----------
        df : pandas.DataFrame or pandas.Series, optional
            What was sent, or what became of it since: the rows are rendered again, and each gets
            the answer to what it asks. Rows that ask something new are ``skipped`` and warned of.
            Without a frame: the saved index and the new columns only.
        timeout : float, optional
            Seconds to wait at most.
        partial : bool
            Do not wait; rows without a result have the status ``processing``.

        Returns
        -------
        pandas.DataFrame
            With the columns ``<output>`` (string), ``<output>_status`` (categorical) and
            ``<output>_error`` (string).

        Raises
        ------
        ChangedFrameError
            When no row of the frame asks what was sent.
        OutputExistsError
            When the frame has a column of the output's name that is not a run's: a run's is
            rewritten, and stands beside a status and an error.
        InputError
            When the template was a function and this is another process.
        WaitTimeoutError, PausedError
        """
        self._refuse_gone()
        if df is not None:
            frames.check_rejoin(df, self._engine.reader().output(self._record))
        df = self._join.frame if df is None else df
        is_early = df is not None and not self._record.attached
        matched = (
            self._join.match(self._record, df) if is_early else None
        )  # the wrong frame is told of at once
        if partial:
            self._crew.drive(self.id, self._engine)
        else:
            self.wait(timeout)
        return self._joined(df, matched)

    def columns(self, df: Any = None) -> pd.DataFrame:
        """Return what `result` returns, as far as it is known, without waiting or checking.

        Parameters
        ----------
        df : pandas.DataFrame or pandas.Series, optional
            Exactly what was sent; the answers are joined by position.
        """
        record = self._record
        fresh, self._fresh = self._fresh, None
        rows = self._engine.gatherer().rows(record).rows if fresh is None else fresh
        return self._join.by_position(record, df, rows)

    def details(self) -> pd.DataFrame:
        """Return what is known of every row beyond the three columns.

        Returns
        -------
        pandas.DataFrame
            On the saved index: ``status``, ``error``, ``text`` (raw), ``stop_reason``, ``model``,
            ``request_id``, ``run``, ``shard``, ``attempts`` (batches it was part of), ``retried``
            (why each attempt but the last was not enough), tokens by kind (Int64) and ``dollars``
            (US dollars of the last attempt, Float64, missing where the price is unknown).
        """
        self._refuse_gone()
        record = self._record
        rows = self._engine.reader().of_votes(record)
        return frames.details(
            self._join.index(record), rows, [money.cost(result) for result in rows.results]
        )

    def report(self) -> report.Report:
        """Return counts by status, the distinct errors, tokens and dollars."""
        self._refuse_gone()
        return accounts.make_report(self._record, self._engine)

    # How it is done

    @property
    def _record(self) -> RunRecord:
        return self._engine.store.run(self.id)

    @property
    def _has_folder(self) -> bool:
        return self._engine.spool.folder(self.id).is_dir()

    @property
    def _back(self) -> str:
        return (
            f"run the same cell again, or claude_batch_pandas.run({self.id!r}).result(df) "
            "in any kernel on this machine."
        )

    @property
    def _left(self) -> str:
        return f"detached from run {self.id}, which goes on; come back: {self._back}"

    @property
    def _detached(self) -> str:
        shards = self._engine.store.shards(self.id)
        planned = sum(shard.state is ShardState.PLANNED for shard in shards)
        unsent = f" {planned} of {len(shards)} shards are not sent yet." if planned else ""
        return (
            f"Detached from run {self.id}; nothing is canceled, and a request that was being sent "
            f"may have been accepted: it is recorded and will be checked.{unsent} "
            f"Come back: {self._back}"
        )

    @contextlib.contextmanager
    def _watched(self) -> Iterator[Watch]:
        """Show the run to whoever waits, to the end of the waiting, however it ends."""
        self._drive()
        watch = Watch(self._make_hook(), self, self._engine.clock)
        try:
            yield watch
        except (KeyboardInterrupt, asyncio.CancelledError) as stop:
            # The worker is not reached by an interrupt; it goes on, and so does the batch.
            if self._worker is not None:
                self._worker.abandon()
            watch.end(self._left)
            raise type(stop)(self._detached) from None
        except BaseException as error:  # whatever it is, nobody waits any more
            watch.end(why(error))
            raise
        finally:
            if self._worker is not None:  # else its end was told
                self._worker.is_awaited = False
                if self._worker.done.is_set():
                    self._worker.let_go()

    def _slices(self, watch: Watch) -> Iterator[Worker]:
        """Yield the worker for every slice of waiting, until there is nothing to wait for."""
        worker = self._drive()
        while not self._is_over(worker):
            worker = self._drive()
            worker.is_awaited = True
            while not worker.done.is_set():
                watch(self.progress)
                yield worker

    def _drive(self) -> Worker:
        self._refuse_gone()
        self._is_detached = False
        if self._worker is None:
            self._worker = self._crew.drive(self.id, self._engine)
        return self._worker

    def _refuse_gone(self) -> None:
        if self.status is RunState.PURGED:
            msg = f"Run {self.id} was purged: its answers are gone. Run the cell to ask anew."
            raise InputError(msg)
        if not self._has_folder:
            msg = (
                f"The folder {self._engine.spool.folder(self.id)} of run {self.id} is gone. "
                f"Restore it; or forget the run with claude_batch_pandas.run({self.id!r}).purge(), "
                "and claude_batch_pandas.recover(df, template=...) finds its answers on the server."
            )
            raise LedgerError(msg)

    def _at_work(self) -> Worker:
        """Return a worker that has not ended, since there is something new to do."""
        self._worker = self._fresh = self._line = None
        self._was_over = False
        return self._drive()

    def _is_over(self, worker: Worker) -> bool:
        """Tell whether there is nothing to wait for; if there is, have somebody at work on it.

        A worker can end just as `retry` gives the run something new to do.
        """
        if not worker.done.is_set():
            return False
        if worker.failure is not None or worker.was_stopped or self.done:
            return True
        self._worker = None
        return False

    def _close(self, watch: Watch) -> None:
        """Raise what stopped the worker, or show the closing line."""
        watch.progress, worker, self._worker = self.progress, self._worker, None
        self._failure = None if worker is None else worker.failure
        try:
            if self._failure is not None:
                raise self._failure
            if not self.done:
                msg = f"Run {self.id} was detached in this process. It goes on: {self._back}"
                raise WaitTimeoutError(msg)
            line = self._closing_line()
        finally:
            if worker is not None:
                worker.let_go()
        watch.progress = replace(watch.progress, state=RunState.ENDED)
        watch.end(line)

    def _closing_line(self) -> str:
        """Return the closing line; what it read is kept for `columns`."""
        record = self._record
        mark = accounts.mark_of(record, self._engine)
        if self._line is None or self._line[0] != mark:
            line, self._fresh = accounts.closing_line(record, self._engine, self._was_over)
            self._line = mark, line
        return self._line[1]

    def _joined(self, df: Any, matched: Matched | None = None) -> pd.DataFrame:
        """Return the answers joined to a frame; without one, as they were planned."""
        if df is None:
            return self.columns(self._join.planned)
        record = self._record
        if matched is None:
            matched = self._join.match(record, df)
        return self._join.by_request(record, df, matched)
