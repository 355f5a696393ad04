"""One shard to the API: the fence, the intent, one POST, and what its outcome means.

A POST either made a batch, or is proved to have made none, or nobody knows. What is not proved is
remembered, so that a batch that shows up later is known to be ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from claude_batch_pandas import resending
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import (
    UNSENT,
    UNWRITABLE,
    APIError,
    CredentialsError,
    PausedError,
)
from claude_batch_pandas.holding import Hold
from claude_batch_pandas.polling import (
    REFUSED,
    SPENT,
    Verdict,
    explain,
    has_no_list,
    is_refusal,
    judge,
)
from claude_batch_pandas.reconcile import longest_post
from claude_batch_pandas.records import RunRecord, Shard
from claude_batch_pandas.reserving import Reserver
from claude_batch_pandas.scopes import check_scope
from claude_batch_pandas.waits import Agenda, Waits

BUSY = frozenset({429, 529})


@dataclass(slots=True)
class Sender:
    """Sends the shards of one run.

    Parameters
    ----------
    engine : Engine
    waits : Waits
    tell : callable
        Told in words what is being waited for.
    """

    engine: Engine
    waits: Waits
    tell: Callable[[str], None]
    hold: Hold = field(init=False)
    _reserver: Reserver = field(init=False)

    def __post_init__(self) -> None:
        self.hold = Hold(self.engine.dice)
        self._reserver = Reserver(self.engine)

    def may_send(self, record: RunRecord, shard: Shard, shards: Sequence[Shard]) -> bool:
        """Tell whether the API's queue, our own share of it, and every cap has room for a shard."""
        open_ = [other for other in shards if other.is_open]
        if self.hold.is_on(self.waits.now, len(open_)):
            return False
        if not open_:
            return True  # what stands in its way will not go by itself
        waiting = sum(other.total for other in open_)
        has_room = waiting + shard.total <= self.engine.max_in_flight
        return has_room and self._reserver.has_room(record, shard)

    def send(self, record: RunRecord, shard: Shard, agenda: Agenda, others: int) -> None:
        """Send one shard, once.

        Parameters
        ----------
        record : RunRecord
        shard : Shard
        agenda : Agenda
        others : int
            Shards of the run that are open beside it.

        Raises
        ------
        PausedError
            When a person is needed.
        APIError, CredentialsError
            Before the POST; nothing was sent.
        LedgerError
        """
        engine = self.engine
        body = resending.checked_body(engine.spool, shard)
        body.may_end = self._deadline(shard)
        fence, now = self._fence(record)
        try:
            if not engine.store.mark_submitting(
                shard, fence, now, self._reserver.cap(record, shard)
            ):
                return
        except PausedError as full:
            if not others:
                raise
            self.waits.note = f"{full} First, what is open is waited for."
            self.waits.wait(agenda)
            return
        agenda.was_sent_here = True
        try:
            batch = engine.client.create(body, shard.betas)
        except CredentialsError:
            engine.store.mark_planned(shard)  # the SDK had nothing to sign with, so it sent nothing
            raise
        except APIError as error:
            agenda.unknown_since = self.waits.now
            self._failed(shard, agenda, error, others)
        else:
            # Whatever its counts say, this is what our POST made; the results will be checked.
            engine.store.mark_submitted(shard, batch)
            self.hold.succeed()
            self.waits.wait(agenda)
        self.tell("")

    def _deadline(self, shard: Shard) -> Callable[[], bool]:
        """Return what tells whether a POST that begins now may still end."""
        clock, longest = self.engine.clock, longest_post(shard.size)
        wall, steady = clock.now(), clock.monotonic()

        def is_early() -> bool:
            # The wall clock goes on while a laptop sleeps, the other one when somebody sets it.
            return max(clock.now() - wall, clock.monotonic() - steady) <= longest

        return is_early

    def _fence(self, record: RunRecord) -> tuple[str | None, float | None]:
        """Return the newest batch before the POST ("": none, None: no list), and server time."""
        try:
            listing = self.engine.client.list(limit=1)
        except APIError as error:
            # A server that has told who we are has a list; then this is a hiccup.
            if not has_no_list(error) or record.scope.organization:
                raise
            return None, None
        check_scope(listing.scope, record.scope)
        newest = listing.batches[0].id if listing.batches else ""
        return newest, listing.now

    def _failed(self, shard: Shard, agenda: Agenda, error: APIError, others: int) -> None:
        """Decide what a failed POST means; only proof lets the shard go back to planned."""
        waits = self.waits
        if error.code in SPENT or is_refusal(error):
            if error.code in {UNSENT, UNWRITABLE}:
                self.engine.store.mark_planned(shard)
            else:  # the server's word, which is taken, and remembered
                self.engine.store.mark_doubted(shard, refused=True)
            needs_person = error.code in SPENT or error.status in REFUSED
            if needs_person or judge(error, 0.0) is Verdict.PAUSE:
                raise PausedError(explain(error, is_sending=True))
            waits.weather(error, agenda)
            return
        agenda.refusal = str(error) if error.status in BUSY and error.type is not None else ""
        waits.note = f"{error} Checking whether the batch was accepted."
        if agenda.refusal:
            self.hold.begin(waits.now, others, error.retry_after)
            waits.hush(error.retry_after)
            waits.note = f"{error} Checking that the batch was not accepted; {self.hold.why}."
        waits.wait(agenda, error.retry_after or 0.0)
