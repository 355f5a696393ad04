"""One round over the shards of a run: cancel, submit, look, collect.

Each shard is moved one durable step at a time, and every step can be the last before the process
dies: the next round, in this process or another, goes on from what the ledger says.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

from claude_batch_pandas import attaching, collecting, resending
from claude_batch_pandas.answers import Reader
from claude_batch_pandas.client import Listing
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import APIError, CredentialsError, PausedError
from claude_batch_pandas.holding import Hold
from claude_batch_pandas.polling import Pace, Verdict, explain, has_no_list, is_refusal, judge
from claude_batch_pandas.progress import state_of
from claude_batch_pandas.reconcile import Next, candidates, decide
from claude_batch_pandas.records import (
    KEY_WORKSPACE,
    Batch,
    RunRecord,
    Shard,
    ShardState,
    key_workspace,
)
from claude_batch_pandas.requests import id_prefix
from claude_batch_pandas.results import read_tags

NOT_FOUND = 404
# After a crash nobody knows when the POST ended. These are given on top of settle_seconds.
READ_TIMEOUT_SECONDS = 600.0  # the SDK's
SLOWEST_UPLOAD = 50_000.0  # bytes per second
SHORT_SETTLE_SECONDS = 10.0  # after a 429 or 529 that says in the API's own words that it refused
SPENT = frozenset(
    {"enforced_spend_limit_reached", "contract_spend_limit_reached", "ramp_limit_exceeded"}
)
BUSY = frozenset({429, 529})


@dataclass(slots=True)
class _Agenda:
    """When to look at a shard again, and what is known beyond the ledger."""

    pace: Pace
    due: float = 0.0  # on the monotonic clock
    missing_since: float | None = None  # when the batch began to be a 404
    was_refused: bool = False  # the API said, in its own words, that it did not take the batch
    rejected: set[str] = field(default_factory=set)  # candidates that were inspected
    unknown_since: float | None = None  # when the answer to the POST was lost
    was_sent_here: bool = False  # by this process, which therefore knows when


@dataclass(slots=True)
class Steps:
    """The rounds of one run.

    Parameters
    ----------
    record : RunRecord
    engine : Engine
    tell : callable
        Told in words what is being waited for.
    """

    record: RunRecord
    engine: Engine
    tell: Callable[[str], None]
    is_stopping: Callable[[], bool] = lambda: False  # asked between two shards
    note: str = ""
    _reader: Reader = field(init=False)
    _shards: list[Shard] = field(default_factory=list)
    _agendas: dict[int, _Agenda] = field(default_factory=dict)
    _quiet_until: float = 0.0  # the server asked not to be asked before; Retry-After
    _hold: Hold = field(init=False)

    def __post_init__(self) -> None:
        self._reader = self.engine.reader()
        self._hold = Hold(self.engine.dice)

    def refresh(self) -> None:
        """Read the run and its shards from the ledger."""
        self.record = self.engine.store.run(self.record.id)
        self._shards = self.engine.store.shards(self.record.id)

    @property
    def is_sent(self) -> bool:
        """Whether nothing is left to send."""
        return not any(shard.state is ShardState.PLANNED for shard in self._shards)

    @property
    def is_held(self) -> bool:
        """Whether the API takes no more for now."""
        open_ = sum(shard.is_open for shard in self._shards)
        return self._hold.is_on(self.engine.clock.monotonic(), open_)

    def take(self) -> float | None:
        """Do what is due; return the seconds until something is, None when all is settled.

        Raises
        ------
        PausedError
            When a person is needed.
        LedgerError
            When the disk refuses.
        """
        self.note = ""
        is_full = False
        for number in range(len(self._shards)):
            if self.is_stopping():
                break
            shard = self._shards[number]
            if shard.is_settled or not self._is_due(shard):
                continue
            if shard.state is ShardState.PLANNED and not self.record.cancel:
                is_full = is_full or not self._may_submit(shard)
                if is_full:
                    continue  # shards go out in their order
            agenda = self._agenda(shard)
            try:
                self._step(shard, agenda)
                agenda.missing_since = None
            except (APIError, CredentialsError) as error:
                self._weather(error, agenda)
            # What may go out next depends on what just did.
            self._shards[number] = self.engine.store.shard(shard.run_id, number)
        if self.is_held:
            self.note = self.note or self._hold.why
        self._move()
        return self._seconds_left()

    def _is_due(self, shard: Shard) -> bool:
        now = self.engine.clock.monotonic()
        if now < self._quiet_until:
            return False
        is_cancelable = shard.state in {ShardState.PLANNED, ShardState.IN_PROGRESS}
        return self._agenda(shard).due <= now or (self.record.cancel and is_cancelable)

    def _seconds_left(self) -> float | None:
        """Return the seconds until something is due, None when all is settled."""
        left = [shard for shard in self._shards if not shard.is_settled]
        if not left:
            return None
        planned = [shard for shard in left if shard.state is ShardState.PLANNED]
        dues = [self._agenda(shard).due for shard in left if shard.state is not ShardState.PLANNED]
        if planned and (self.record.cancel or self._may_submit(planned[0])):
            dues.append(self._agenda(planned[0]).due)
        elif planned and self._hold.until:
            dues.append(self._hold.until)
        soonest = max(min(dues), self._quiet_until)
        return max(0.0, soonest - self.engine.clock.monotonic())

    def _move(self) -> None:
        """Read the ledger again, and keep the run's state true to its shards."""
        self.refresh()
        state = state_of(self.record, self._shards)
        if state is not self.record.state:
            self.engine.store.set_state(self.record.id, state)

    def _agenda(self, shard: Shard) -> _Agenda:
        if shard.number not in self._agendas:
            pace = Pace(*self.engine.poll_seconds, self.engine.dice)
            self._agendas[shard.number] = _Agenda(pace)
        return self._agendas[shard.number]

    def _step(self, shard: Shard, agenda: _Agenda) -> None:
        match shard.state:
            case ShardState.PLANNED if self.record.cancel:
                self.engine.store.mark_withdrawn(shard)
            case ShardState.PLANNED:
                self._submit(shard, agenda)
            case ShardState.SUBMITTING:
                self._reconcile(shard, agenda)
            case ShardState.IN_PROGRESS if self.record.cancel:
                self._cancel(shard, agenda)
            case _:
                self._look(shard, agenda)

    def _wait(self, agenda: _Agenda, seconds: float | None = None) -> None:
        pause = agenda.pace.next() if seconds is None else seconds
        agenda.due = self.engine.clock.monotonic() + pause

    def _weather(self, error: APIError | CredentialsError, agenda: _Agenda) -> None:
        """Wait out an error that passes by itself; pause the run for one that does not."""
        now = self.engine.clock.monotonic()
        is_missing = isinstance(error, APIError) and error.status == NOT_FOUND
        if not is_missing:
            agenda.missing_since = None
        elif agenda.missing_since is None:
            agenda.missing_since = now
            self._check_workspace()
        since = now if agenda.missing_since is None else agenda.missing_since
        if judge(error, now - since) is Verdict.PAUSE:
            raise PausedError(explain(error))
        asked = error.retry_after if isinstance(error, APIError) else None
        if asked is not None:
            self._quiet_until = now + asked
        self._wait(agenda, asked)
        self.note = f"{error} Asking again in {agenda.due - now:.0f} s."

    # Submitting

    def _submit(self, shard: Shard, agenda: _Agenda) -> None:
        engine = self.engine
        body = resending.checked_body(engine.spool, shard)
        fence, now = self._fence()
        if not engine.store.mark_submitting(shard, fence, now):
            return
        agenda.was_sent_here = True
        try:
            batch = engine.client.create(body, shard.betas)
        except CredentialsError:
            engine.store.mark_planned(shard)  # the SDK had nothing to sign with, so it sent nothing
            raise
        except APIError as error:
            agenda.unknown_since = engine.clock.monotonic()
            self._refused(shard, agenda, error)
        else:
            # Whatever its counts say, this is what our POST made; the results will be checked.
            engine.store.mark_submitted(shard, batch)
            self._hold.succeed()
            self._wait(agenda)
        self.tell("")

    def _fence(self) -> tuple[str | None, float | None]:
        """Return the newest batch before the POST ("": none, None: no list), and server time."""
        try:
            listing = self.engine.client.list(limit=1)
        except APIError as error:
            # A server that has told who we are has a list; then this is a hiccup.
            if not has_no_list(error) or self.record.scope.organization:
                raise
            return None, None
        self._check_scope(listing)
        newest = listing.batches[0].id if listing.batches else ""
        return newest, listing.now

    def _may_submit(self, shard: Shard) -> bool:
        open_ = [other for other in self._shards if other.is_open]
        if self._hold.is_on(self.engine.clock.monotonic(), len(open_)):
            return False
        waiting = sum(other.total for other in open_)
        return not open_ or waiting + shard.total <= self.engine.max_in_flight

    def _refused(self, shard: Shard, agenda: _Agenda, error: APIError) -> None:
        """Decide what a failed POST means; only proof lets the shard go back to planned."""
        store = self.engine.store
        if error.code in SPENT or (is_refusal(error) and error.status is not None):
            store.mark_planned(shard)
            raise PausedError(explain(error, is_sending=True))
        if is_refusal(error):  # the connection was never made
            store.mark_planned(shard)
            self._weather(error, agenda)
            return
        agenda.was_refused = error.status in BUSY and error.type is not None
        self.note = f"{error} Checking whether the batch was accepted."
        if agenda.was_refused:
            now = self.engine.clock.monotonic()
            others = sum(o.is_open for o in self._shards if o.number != shard.number)
            self._hold.begin(now, others, error.retry_after)
            self._quiet_until = max(self._quiet_until, now + (error.retry_after or 0.0))
            self.note = f"{error} Checking that the batch was not accepted; {self._hold.why}."
        self._wait(agenda, error.retry_after or 0.0)

    def _check_scope(self, listing: Listing) -> None:
        """Never look for a batch in another workspace's list, nor send one there."""
        here, there = listing.scope, self.record.scope
        pairs = [(here.organization, there.organization)]
        if not there.workspace.startswith(KEY_WORKSPACE):
            pairs.append((here.workspace, there.workspace))
        if any(seen and known and seen != known for seen, known in pairs):
            msg = (
                f"The key belongs to the workspace {here.workspace!r}, but the run to "
                f"{there.workspace!r}. Use a key of that workspace, then call again."
            )
            raise PausedError(msg)

    def _check_workspace(self) -> None:
        """Say at once when a batch cannot be seen because the key is another workspace's."""
        with contextlib.suppress(APIError, CredentialsError):  # it is asked again anyhow
            self._check_scope(self.engine.client.list(limit=1))

    def _check_key(self, shard: Shard) -> None:
        """Where no workspace is named, only the key that sent a batch surely sees it."""
        engine, workspace = self.engine, self.record.scope.workspace
        if not workspace.startswith(KEY_WORKSPACE):
            return
        if workspace != key_workspace(engine.client.fingerprint(engine.store.secret())):
            msg = (
                f"The answer to the submission of shard {shard.number} was lost, and only the key "
                "that sent it can see what became of it. Use that key, then call again; or run the "
                "cell with reuse=False to ask anew, at the price of asking twice."
            )
            raise PausedError(msg)

    # Reconciling

    def _reconcile(self, shard: Shard, agenda: _Agenda) -> None:
        """Find out what became of a POST whose answer was lost, here or before a crash."""
        engine = self.engine
        if agenda.unknown_since is None:
            agenda.unknown_since = engine.clock.monotonic()
        self._check_key(shard)
        listing, has_fence = self._newer_than_fence(shard)
        self._check_scope(listing)
        known = engine.store.batch_ids() | agenda.rejected
        found = candidates(shard, listing.batches, known, has_fence=has_fence)
        settle = engine.settle_seconds
        if agenda.was_refused:  # the list has the last word, but soon
            settle = min(settle, SHORT_SETTLE_SECONDS)
        decision = decide(found, self._waited(shard, agenda, listing), settle)
        match decision.next:
            case Next.INSPECT if decision.batch is not None:
                self._inspect(shard, agenda, decision.batch)
            case Next.RESEND:
                if agenda.was_refused:
                    engine.store.mark_planned(shard)
                else:
                    resending.replan(engine.spool, engine.store, self.record, shard)
                self._agendas.pop(shard.number)
            case Next.WATCH:
                self.note = (
                    "a batch of the same size runs; its results will tell whether it is ours"
                )
                self._wait(agenda)
            case _:
                waits = f"not in the server's list; sent again if it stays away for {settle:.0f} s"
                self.note = self._hold.why if agenda.was_refused else waits
                self._wait(agenda, min(agenda.pace.next(), settle / 4))

    def _inspect(self, shard: Shard, agenda: _Agenda, batch: Batch) -> None:
        """Adopt an ended batch, or rule it out; one that shows nothing is looked at again."""
        is_ours = self._is_ours(shard, batch)
        if is_ours is None:
            self.note = f"batch {batch.id} may be ours, but its results cannot be read yet"
            self._wait(agenda)
            return
        if is_ours:
            self.engine.store.mark_submitted(shard, batch)
        else:
            agenda.rejected.add(batch.id)
        self._wait(agenda, 0.0)

    def _newer_than_fence(self, shard: Shard) -> tuple[Listing, bool]:
        client = self.engine.client
        if shard.fence is None:
            return self._list(shard), False
        if shard.fence == "":
            return self._list(shard), True
        try:
            client.retrieve(shard.fence)  # the control: we look at the same list as before
            return client.list(before_id=shard.fence), True
        except APIError as error:
            if error.status not in {400, 404}:
                raise
            return client.list(), False

    def _list(self, shard: Shard) -> Listing:
        try:
            return self.engine.client.list()
        except APIError as error:
            if not has_no_list(error) or self.record.scope.organization:
                raise
        msg = (
            f"The answer to the submission of shard {shard.number} was lost, and this server has "
            "no list of batches to look for it in. It may have been accepted, so it is not sent "
            "again; run the cell with reuse=False to ask anew, at the price of asking twice."
        )
        raise PausedError(msg)

    def _waited(self, shard: Shard, agenda: _Agenda, listing: Listing) -> float:
        """Return for how many seconds, at least, the POST has been over.

        The process that sent it knows by its own clock. After a crash the server's clock tells
        when the intent was made, and the slowest upload is taken off.
        """
        assert agenda.unknown_since is not None, "set when the reconciling began"
        here = self.engine.clock.monotonic() - agenda.unknown_since
        if agenda.was_sent_here or listing.now is None or shard.intended_at is None:
            return here
        slowest = READ_TIMEOUT_SECONDS + shard.size / SLOWEST_UPLOAD
        return max(here, listing.now - shard.intended_at - slowest)

    def _is_ours(self, shard: Shard, batch: Batch) -> bool | None:
        """Tell by the results whether a batch is this shard's; None when they do not tell."""
        prefix = id_prefix(self.record.nonce, shard.attempt).decode()
        expected = frozenset(self._reader.expected(self.record, shard))
        seen = 0
        with contextlib.closing(self.engine.client.download(batch.id)) as blocks:
            for tags in read_tags(resending.lines_of(blocks)):
                for tag in tags:
                    if tag is not None and tag[0].startswith(prefix) and tag[0] in expected:
                        return True
                    seen += tag is not None
        return False if seen == batch.counts.total else None

    # Looking and collecting

    def _look(self, shard: Shard, agenda: _Agenda) -> None:
        engine = self.engine
        assert shard.batch_id is not None, "a submitted shard has a batch id"
        batch = engine.client.retrieve(shard.batch_id)
        if batch.processing_status != "ended":
            if shard.counts != batch.counts or shard.state.value != batch.processing_status:
                engine.store.mark_seen(shard, batch)
            self._wait(agenda)
            return
        engine.store.mark_seen(shard, batch)
        self.tell("")
        is_attached = self.record.attached
        expected = None if is_attached else self._reader.expected(self.record, shard)
        path = engine.spool.results(shard.run_id, shard.number)
        collected = collecting.collect(engine.client, batch, shard, expected, path)
        if is_attached:
            names = attaching.learn(engine.spool, shard, batch.counts.total)
            engine.store.mark_counted(shard, len(names))
        engine.store.mark_collected(shard, collected.sha256, complete=collected.complete)
        self.tell(collected.problem)

    def _cancel(self, shard: Shard, agenda: _Agenda) -> None:
        assert shard.batch_id is not None, "a submitted shard has a batch id"
        try:
            self.engine.store.mark_seen(shard, self.engine.client.cancel(shard.batch_id))
        except APIError as error:
            if error.status not in {400, 404, 409}:
                raise
            self._look(shard, agenda)  # it ended in the meantime
            return
        agenda.pace.restart()
        self._wait(agenda)
