"""One round over the shards of a run: cancel, submit, look, collect.

Each shard is moved one durable step at a time, and every step can be the last before the process
dies: the next round, in this process or another, goes on from what the ledger says.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from claude_batch_pandas import attaching, collecting, copies, deadlines
from claude_batch_pandas.answers import Reader
from claude_batch_pandas.columns import Part
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import APIError, BatchError, CredentialsError, PausedError
from claude_batch_pandas.inquiry import Inquiry
from claude_batch_pandas.live import Asker, next_live
from claude_batch_pandas.outputs import Output
from claude_batch_pandas.progress import state_of
from claude_batch_pandas.reconciling import Reconciler
from claude_batch_pandas.records import RunRecord, Shard, ShardState
from claude_batch_pandas.scopes import check_scope, is_same_key, is_same_scope
from claude_batch_pandas.sending import Sender
from claude_batch_pandas.spool import write
from claude_batch_pandas.twins import Twins
from claude_batch_pandas.waits import Agenda, Waits

ASKING_FIRST = "asking the first row alone, at the live price, before the others are sent"
ASKING_NOW = "asking now, at the live price"


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
    _waits: Waits = field(init=False)
    _reader: Reader = field(init=False)
    _sender: Sender = field(init=False)
    _reconciler: Reconciler = field(init=False)
    _twins: Twins = field(init=False)
    _live: Asker = field(init=False)
    _shards: list[Shard] = field(default_factory=list)
    _parts: dict[tuple[str, int, str | None], Part] = field(default_factory=dict)

    def __post_init__(self) -> None:
        engine = self.engine
        self._waits, self._reader = Waits(engine), engine.reader()
        self._sender = Sender(engine, self._waits, self.tell)
        inquiry = Inquiry(engine, self._reader)
        self._reconciler = Reconciler(engine, self._waits, self._sender.hold, inquiry)
        self._twins = Twins(engine, self._waits, inquiry)
        self._live = Asker(engine, self._waits)

    @property
    def note(self) -> str:
        """What the last round waits for, in words."""
        return self._waits.note

    def refresh(self) -> None:
        """Read the run and its shards from the ledger."""
        self.record = self.engine.store.run(self.record.id)
        self._shards = self.engine.store.shards(self.record.id)

    def let_go(self) -> None:
        """Forget the results that came, which are on the disk."""
        self._parts.clear()

    @property
    def is_sent(self) -> bool:
        """Whether nothing is left to send."""
        return not any(shard.state is ShardState.PLANNED for shard in self._shards)

    @property
    def is_held(self) -> bool:
        """Whether the API takes no more for now."""
        open_ = sum(shard.is_open for shard in self._shards)
        return self._sender.hold.is_on(self._waits.now, open_)

    def take(self) -> float | None:
        """Do what is due; return the seconds until something is, None when all is settled.

        Raises
        ------
        PausedError
            When a person is needed: to send on, at once; else when nothing but such shards is left.
        LedgerError
            When the disk refuses.
        """
        self._waits.note = ""
        if self._twins.look(self.record):  # before anything is sent again
            self.refresh()
        refused = self._ask_live()
        is_full = refused is not None
        for number in range(len(self._shards)):
            if self.is_stopping():
                break
            shard = self._shards[number]
            if shard.is_settled or not self._is_due(shard):
                continue
            if shard.live and shard.state is ShardState.PLANNED and not self.record.cancel:
                continue
            if shard.state is ShardState.PLANNED and not self.record.cancel:
                is_full = is_full or not self._may_send(shard)
                if is_full:
                    continue  # shards go out in their order
            agenda = self._waits.agenda(shard)
            self._step(shard, agenda)
            # What may go out next depends on what just did.
            self._shards[number] = self.engine.store.shard(shard.run_id, number)
            if agenda.pause is not None and shard.state is ShardState.PLANNED:
                refused, is_full = agenda.pause, True
        self.drop_requests()
        self._pause(refused)
        if self.is_held:
            self._waits.note = self._waits.note or self._sender.hold.why
        self._move()
        return self._seconds_left()

    def _ask_live(self) -> PausedError | None:
        """Ask what is asked at once, before any batch; return what needs a person, if anything."""
        asked: list[Shard] = []
        while not self.is_stopping():
            self.refresh()  # a cancel may have come meanwhile
            if self.record.cancel:
                break
            planned = [shard for shard in self._shards if shard.state is ShardState.PLANNED]
            live = next_live([shard for shard in planned if self._is_due(shard)])
            if not live or live == asked:
                break
            asked = live
            self.tell(ASKING_FIRST if live[0].shape else ASKING_NOW)
            pauses = self._live.ask(self.record, live)
            for shard in live:
                self._shards[shard.number] = self.engine.store.shard(shard.run_id, shard.number)
            for number, pause in pauses.items():
                self._waits.agenda(self._shards[number]).pause = pause
                return pause
            self.tell("")
        return None

    def _may_send(self, shard: Shard) -> bool:
        """Tell whether it is a shard's turn: there is room, and the cache is filled if it shall be."""
        if self.record.warm:
            first = next((other for other in self._shards if not other.live), shard)
            if shard.number != first.number and not first.is_settled:
                return False
        return self._sender.may_send(self.record, shard, self._shards)

    def _pause(self, refused: PausedError | None) -> None:
        """Raise what needs a person, unless other shards go on; what they bring is fetched first."""
        if refused is not None:
            raise refused
        left = [shard for shard in self._shards if not shard.is_settled]
        pauses = [self._waits.agenda(shard).pause for shard in left]
        first = next(filter(None, pauses), None)
        if first is None:
            return
        free = [shard for shard, pause in zip(left, pauses, strict=True) if pause is None]
        if not self._go_on(free):
            raise first
        self._waits.note = self._waits.note or f"{first} The other shards go on."

    def _go_on(self, shards: Sequence[Shard]) -> bool:
        """Tell whether one of some shards moves without a person: was sent, or there is room."""
        planned = [shard for shard in shards if shard.state is ShardState.PLANNED]
        if len(planned) < len(shards):
            return True
        # They go out in their order, so the first stands for all.
        has_room = bool(planned) and self._may_send(planned[0])
        return has_room or (bool(planned) and self.is_held)

    def deadline(self) -> str:
        """Say that results wait which the API will delete; by the server's clock if it tells."""
        if all(shard.is_settled for shard in self._shards):
            return ""
        now = self.engine.client.date or self.engine.clock.now()
        return deadlines.warning(self.record.id, self._shards, now)

    def drop_requests(self) -> None:
        """Delete the bodies that need not be sent again, where they are not to be kept."""
        if self.record.keep_requests or self.record.attached:
            return
        for shard in self._shards:
            if shard.batch_id is not None or shard.is_settled:
                self.engine.spool.drop_body(shard.run_id, shard.number)

    def has_twins(self) -> bool:
        """Tell whether batches that were accepted twice are not through yet; the run can end."""
        is_open = self._twins.look(self.record, is_last=True)
        if is_open:
            self._waits.note = "a batch that was accepted twice is being wound up"
        return is_open

    def _is_due(self, shard: Shard) -> bool:
        # A cancel does not wait, even if the server asked for quiet: it saves money.
        is_cancelable = shard.state in {ShardState.PLANNED, ShardState.IN_PROGRESS}
        if self.record.cancel and is_cancelable:
            return True
        return not self._waits.is_quiet and self._waits.agenda(shard).due <= self._waits.now

    def _seconds_left(self) -> float | None:
        """Return the seconds until something is due, None when all is settled."""
        left = [shard for shard in self._shards if not shard.is_settled]
        if not left:
            return None
        planned = [shard for shard in left if shard.state is ShardState.PLANNED]
        sent = [shard for shard in left if shard.state is not ShardState.PLANNED]
        dues = [self._waits.agenda(shard).due for shard in sent]
        if planned and (self.record.cancel or self._may_send(planned[0])):
            dues.append(self._waits.agenda(planned[0]).due)
        elif planned and self._sender.hold.until:
            dues.append(self._sender.hold.until)
        soonest = max(min(dues, default=self._waits.now), self._waits.quiet_until)
        return max(0.0, soonest - self._waits.now)

    def _move(self) -> None:
        """Read the ledger again, and keep the run's state true to its shards."""
        self.refresh()
        state = state_of(self.record, self._shards)
        if state is not self.record.state:
            self.engine.store.set_state(self.record.id, state)

    def _step(self, shard: Shard, agenda: Agenda) -> None:
        """Move one shard a step on; what passes by itself is waited out."""
        agenda.pause = None
        try:
            self._do(shard, agenda)
            agenda.missing_since = None
        except PausedError as pause:
            agenda.pause = pause
            self._waits.wait(agenda)
        except (APIError, CredentialsError) as error:
            was_missing = agenda.missing_since is not None
            try:
                self._waits.weather(error, agenda)
                if agenda.missing_since is not None and not was_missing:
                    self._check_workspace()
            except PausedError as pause:
                if self._may_write_off(error, shard):
                    self._write_off(shard)
                    return
                agenda.pause = pause
                self._waits.wait(agenda)

    def _do(self, shard: Shard, agenda: Agenda) -> None:
        match shard.state:
            case ShardState.PLANNED if self.record.cancel:
                self.engine.store.mark_withdrawn(shard)
            case ShardState.PLANNED:
                self._send(shard, agenda)
            case ShardState.SUBMITTING if shard.live:
                self._live.give_up(shard)
            case ShardState.SUBMITTING:
                self._reconciler.look(self.record, shard, agenda)
            case ShardState.IN_PROGRESS if self.record.cancel:
                self._cancel(shard, agenda)
            case _:
                self._look(shard, agenda)

    def _send(self, shard: Shard, agenda: Agenda) -> None:
        if not self._twins.may_send(self.record, shard):
            self._waits.wait(agenda)
            return
        others = sum(other.is_open for other in self._shards if other.number != shard.number)
        self._sender.send(self.record, shard, agenda, others)

    def _check_workspace(self) -> None:
        """Say at once when a batch cannot be seen because the key is another workspace's."""
        with contextlib.suppress(APIError, CredentialsError):  # it is asked again anyhow
            check_scope(self.engine.client.list(limit=1).scope, self.record.scope)

    def _look(self, shard: Shard, agenda: Agenda) -> None:
        """Ask how a batch does; fetch its results the moment it has ended."""
        engine = self.engine
        assert shard.batch_id is not None, "a submitted shard has a batch id"
        batch = engine.client.retrieve(shard.batch_id)
        if batch.processing_status != "ended":
            if shard.counts != batch.counts or shard.state.value != batch.processing_status:
                engine.store.mark_seen(shard, batch)
            self._waits.wait(agenda)
            return
        engine.store.mark_seen(shard, batch)
        self.tell("")
        is_attached = self.record.attached
        expected = None if is_attached else self._reader.ids(self.record, shard)
        path = engine.spool.results(shard.run_id, shard.number)
        output = self._output()
        collected = collecting.collect(engine.client, batch, shard, expected, path, output)
        if is_attached:
            names = attaching.learn(engine.spool, shard, batch.counts.total)
            engine.store.mark_counted(shard, len(names))
        if collected.part is not None and output.is_flat:
            self._parts[shard.run_id, shard.number, collected.sha256] = collected.part
            engine.parts.update(self._parts)
        engine.store.mark_collected(shard, collected.sha256, complete=collected.complete)
        if collected.part is not None and output.is_text:
            path = engine.spool.copy(shard.run_id, shard.number)
            copies.save(path, collected.part, collected.sha256)
        self.tell(collected.problem)

    def _output(self) -> Output:
        """Return what answers are read as; texts where that is not known, or not needed."""
        with contextlib.suppress(BatchError):  # what is paid is fetched all the same
            if not self.record.attached:
                return self._reader.output(self.record)
        return Output(self.record.output)

    def _may_write_off(self, error: Exception, shard: Shard) -> bool:
        """Tell whether a canceled run may end without a batch that the server does not know."""
        is_missing = isinstance(error, APIError) and error.is_missing
        if not is_missing or not self.record.cancel or shard.batch_id is None:
            return False
        if self.record.scope.organization:
            with contextlib.suppress(APIError):
                return is_same_scope(self.engine.client.list(limit=1).scope, self.record.scope)
            return False
        return is_same_key(self.record, self.engine)

    def _write_off(self, shard: Shard) -> None:
        """Settle a shard whose batch is gone: its rows may have been paid, and say so."""
        path = self.engine.spool.results(shard.run_id, shard.number)
        sha256 = write(path, b"")
        self.engine.store.mark_collected(shard, sha256, complete=False)
        self.tell(collecting.ARCHIVED)

    def _cancel(self, shard: Shard, agenda: Agenda) -> None:
        assert shard.batch_id is not None, "a submitted shard has a batch id"
        try:
            self.engine.store.mark_seen(shard, self.engine.client.cancel(shard.batch_id))
        except APIError as error:
            if error.status not in {400, 404, 409}:
                raise
            self._look(shard, agenda)  # it ended in the meantime
            return
        agenda.pace.restart()
        self._waits.wait(agenda)
