"""What a person does to a run: cancel, detach, ask again, go on, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.purging import purge
from claude_batch_pandas.records import RunRecord
from claude_batch_pandas.retrying import causes_of, left_over, resume_turns, retry
from claude_batch_pandas.scopes import check_origin
from claude_batch_pandas.tracebacks import warn
from claude_batch_pandas.workers import Crew, Worker

SEND_SECONDS = 60.0  # that `catch_up` takes at most
LEAVE_SECONDS = 2.0  # for which `detach` waits; a worker that is sending leaves after that


class Acts:
    """The part of a `Run` that changes something."""

    id: str
    _engine: Engine
    _crew: Crew
    _worker: Worker | None
    _is_detached: bool

    if TYPE_CHECKING:  # what the whole has

        @property
        def _record(self) -> RunRecord: ...

        @property
        def done(self) -> bool: ...  # noqa: D102 - told there

        def _refuse_gone(self) -> None: ...

        def _at_work(self) -> Worker: ...

    def cancel(self) -> Self:
        """Ask the API to cancel what is not done; what is done is kept and was paid.

        Canceling takes effect at the API within minutes; call `result` for what came of it. It is
        remembered even when the API cannot be told now.

        Raises
        ------
        InputError
            When the batch was attached: it may be somebody else's.
        CredentialsError
            When there is nothing to sign with.
        PausedError
            When the client talks to another server than the one the run was sent to.
        """
        self._refuse_gone()
        if self._record.attached:
            msg = (
                f"The batch of run {self.id} was not sent from here, so it is not canceled here. "
                "Cancel it in the Console, or with client.messages.batches.cancel(...)."
            )
            raise InputError(msg)
        if not self.done:
            self._engine.store.set_cancel(self.id)  # whoever drives the run next does it
            check_origin(self._record, self._engine)
            self._at_work().wake()
        return self

    def detach(self) -> Self:
        """Stop following the run in this process; the batches go on at the API."""
        worker = self._crew.at_work(self.id)
        if worker is not None:
            worker.stop()
            worker.done.wait(LEAVE_SECONDS)
        self._worker = None
        self._is_detached = True
        return self

    def catch_up(self, timeout: float = SEND_SECONDS) -> int:
        """Send what is planned, fetch what has ended, and leave the rest to the API.

        Parameters
        ----------
        timeout : float, default 60
            Seconds to take at most.

        Returns
        -------
        int
            How many shards are not sent yet.

        Raises
        ------
        PausedError
            When a person is needed.
        """
        worker = self._at_work()
        worker.leave(timeout)
        self._worker = None
        self._is_detached = True
        if worker.failure is not None:
            raise worker.failure
        return worker.planned()

    def retry(
        self,
        *,
        canceled: bool = False,
        truncated: bool = False,
        missing: bool = False,
        invalid: bool = False,
        max_tokens: int | None = None,
    ) -> Self:
        """Send rows that have no full answer again, at batch price.

        Rows that expired, or that failed because the API was busy, were sent again already, up to
        ``options.max_attempts`` times. This sends them once more, and those that failed for credit,
        a spend limit or another error that a person can mend; what is an invalid request stays one.

        Parameters
        ----------
        canceled : bool
            Also what was canceled.
        truncated : bool
            Also what was cut by `max_tokens`; the first answer was paid.
        missing : bool
            Also what has no readable result; it may have been paid.
        invalid : bool
            Also what does not fit the schema; the first answer was paid.
        max_tokens : int, optional
            Tokens that answers may have this time; needed for `truncated`, and only for it.

        Returns
        -------
        Run
            The run itself; `result` waits for the new answers.

        Raises
        ------
        InputError
            When one of the runs that hold its answers was purged, or is being canceled; or when
            `max_tokens` is not more than it was.
        LedgerError
            When the request bodies are gone from this disk.
        """
        self._refuse_gone()
        causes = causes_of(
            max_tokens, canceled=canceled, truncated=truncated, missing=missing, invalid=invalid
        )
        seen = retry(self.id, self._engine, causes, max_tokens)
        if causes & seen.keys():
            self._at_work().wake()
        elif words := left_over(seen):
            warn(words)
        return self

    def resume_turns(self) -> Self:
        """Go on with answers whose turn the model paused, at batch price.

        Such a row is ``truncated`` with the stop reason ``pause_turn``: server tools took it more
        rounds than the API gives at once. What it said so far goes back, and the new text is added.

        Returns
        -------
        Run
            The run itself; `result` waits for the answers.

        Raises
        ------
        InputError
            When one of the runs that hold its answers was purged, or is being canceled.
        LedgerError
            When the request bodies are gone from this disk.
        """
        self._refuse_gone()
        if resume_turns(self.id, self._engine):
            self._at_work().wake()
        else:
            warn("No answer of this run is paused.")
        return self

    def purge(self, *, server: bool = False) -> None:
        """Delete the run's prompts and answers from this disk.

        Parameters
        ----------
        server : bool, default False
            Delete its batches at Anthropic, too, which keeps them for 29 days otherwise.

        Raises
        ------
        InputError
            When the run is not over: its results would be lost, unless its folder is gone. With
            `server`, also when results could not be read, or the batch was not ours.
        APIError
            When the server refuses; what is on this disk stays.
        LedgerError
            When the disk refuses; purge again.
        """
        purge(self.id, self._engine, server=server)
