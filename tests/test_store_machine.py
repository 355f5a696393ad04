"""The ledger under every order of events: it remembers what was told, and nothing else."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from claude_batch_pandas.exceptions import LedgerError, RunNotFoundError
from claude_batch_pandas.records import (
    Batch,
    Counts,
    RunRecord,
    RunState,
    Scope,
    Shard,
    ShardState,
    Twin,
)
from claude_batch_pandas.store import Store

SCOPE = Scope("https://api.anthropic.com", "org", "workspace")
SETTLED = {ShardState.COLLECTED, ShardState.WITHDRAWN}
Key = tuple[str, int]


class Ledger(RuleBasedStateMachine):
    """A store beside a plain dictionary that is told the same."""

    runs = Bundle("runs")
    shards = Bundle("shards")

    @initialize()
    def open(self) -> None:
        """Begin with an empty ledger."""
        self.folder = Path(tempfile.mkdtemp())
        self.store = Store(self.folder / "ledger")
        self.known: dict[str, RunRecord] = {}
        self.shard_of: dict[Key, Shard] = {}
        self.twins: dict[tuple[str, int, int], Twin] = {}
        self.made = 0

    def teardown(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self.folder)

    def batch(self, status: str = "in_progress") -> Batch:
        """Return a batch that nobody has seen before."""
        self.made += 1
        return Batch(
            id=f"msgbatch_{self.made}",
            processing_status=status,
            counts=Counts(processing=2, succeeded=self.made % 3),
            created_at=float(self.made),
            expires_at=self.made + 86_400.0,
        )

    def change(self, shard: Shard, **values: Any) -> None:
        """Change a shard of the dictionary."""
        self.shard_of[shard.run_id, shard.number] = replace(shard, **values)

    @rule(target=runs, count=st.integers(0, 3), key=st.sampled_from("ab"))
    def add_run(self, count: int, key: str) -> str:
        self.made += 1
        record = RunRecord(
            id=f"run-{self.made}",
            name="n",
            key=key,
            scope=SCOPE,
            nonce=f"{self.made:016x}",
            model="m",
            output="o",
            rows=count,
            requests=count,
            created_at=float(self.made),
        )
        shards = [
            Shard(run_id=record.id, number=i, attempt=1, total=1, size=1, sha256="0" * 64)
            for i in range(count)
        ]
        self.store.add_run(record, shards)
        self.known[record.id] = record
        self.shard_of |= {(record.id, shard.number): shard for shard in shards}
        return record.id

    @rule(target=shards, run=runs, number=st.integers(0, 2))
    def pick(self, run: str, number: int) -> Key:
        return run, number

    @rule(run=runs)
    def add_run_twice(self, run: str) -> None:
        """Refuse the second one whole: its shards do not stay."""
        record = replace(self.known[run], id="another")
        shard = Shard(run_id="another", number=0, attempt=1, total=1, size=1, sha256="")
        with pytest.raises(LedgerError, match="nonce"):
            self.store.add_run(record, [shard])
        with pytest.raises(RunNotFoundError, match="There is no run 'another'"):
            self.store.run("another")
        assert self.store.shards("another") == []

    @rule(key=shards)
    def submit(self, key: Key) -> None:
        """Only a planned shard is sent, and of a run that goes on, however often two try."""
        shard = self.shard_of.get(key)
        if shard is None:
            return
        was_planned = shard.state is ShardState.PLANNED and not self.known[shard.run_id].cancel
        done = [self.store.mark_submitting(shard, "msgbatch_0", 5.0) for _ in range(2)]

        assert done == [was_planned, False]
        if was_planned:
            self.change(shard, state=ShardState.SUBMITTING, fence="msgbatch_0", intended_at=5.0)

    @rule(key=shards, event=st.sampled_from(["accepted", "refused", "lost"]))
    def hear(self, key: Key, event: str) -> None:
        shard = self.shard_of.get(key)
        if shard is None or shard.state is not ShardState.SUBMITTING:
            return
        if event == "accepted":
            batch = self.batch()
            self.store.mark_submitted(shard, batch)
            self.see(shard, batch, batch_id=batch.id)
        elif event == "refused":
            self.store.mark_planned(shard)
            self.change(shard, state=ShardState.PLANNED, fence=None, intended_at=None)
        else:
            self.store.mark_replanned(shard, "1" * 64)
            self.change(
                shard,
                state=ShardState.PLANNED,
                fence=None,
                intended_at=None,
                attempt=shard.attempt + 1,
                sha256="1" * 64,
            )
            self.keep_twin(shard)
            self.is_stale(shard)

    def see(self, shard: Shard, batch: Batch, **values: Any) -> None:
        """Change what a look at a batch tells."""
        self.change(
            shard,
            state=ShardState(batch.processing_status),
            created_at=batch.created_at,
            expires_at=batch.expires_at,
            counts=batch.counts,
            **values,
        )

    def keep_twin(self, shard: Shard) -> None:
        """Remember the attempt that another one took the place of."""
        key = shard.run_id, shard.number, shard.attempt
        self.twins[key] = Twin(
            run_id=shard.run_id,
            number=shard.number,
            attempt=shard.attempt,
            fence=shard.fence,
            intended_at=shard.intended_at,
            batch_id=shard.batch_id,
            unpriced=0 if shard.batch_id is None else shard.total,  # until its results are read
        )

    def is_stale(self, shard: Shard) -> None:
        """Check that who still holds an old attempt cannot change the new one."""
        with pytest.raises(LedgerError, match="changed under us: attempt"):
            self.store.mark_withdrawn(shard)

    @rule(key=shards, status=st.sampled_from(["in_progress", "canceling", "ended"]))
    def look(self, key: Key, status: str) -> None:
        shard = self.shard_of.get(key)
        if shard is None or shard.batch_id is None or shard.is_settled:
            return
        batch = replace(self.batch(status), id=shard.batch_id)
        self.store.mark_seen(shard, batch)
        self.see(shard, batch)

    @rule(key=shards, complete=st.booleans())
    def collect(self, key: Key, complete: bool) -> None:
        shard = self.shard_of.get(key)
        if shard is None or shard.state is not ShardState.ENDED:
            return
        self.store.mark_collected(shard, "2" * 64, complete=complete)
        self.change(shard, state=ShardState.COLLECTED, results_sha256="2" * 64, complete=complete)

    @rule(key=shards)
    def withdraw(self, key: Key) -> None:
        shard = self.shard_of.get(key)
        if shard is None or shard.state is not ShardState.PLANNED:
            return
        self.store.mark_withdrawn(shard)
        self.change(shard, state=ShardState.WITHDRAWN)

    @precondition(lambda self: self.twins)
    @rule(data=st.data())
    def find_twin(self, data: st.DataObject) -> None:
        """Have what was given up show up: one is the shard's batch, the other its twin."""
        key = data.draw(st.sampled_from(sorted(self.twins)))
        twin, shard = self.twins[key], self.shard_of[key[:2]]
        if twin.batch_id is not None or shard.is_settled:
            return
        batch = self.batch("ended")
        self.store.swap(shard, twin, batch)
        del self.twins[key]
        if shard.state is not ShardState.PLANNED:
            self.keep_twin(shard)
        self.see(
            shard,
            batch,
            attempt=twin.attempt,
            fence=twin.fence,
            intended_at=twin.intended_at,
            batch_id=batch.id,
            results_sha256=None,
            complete=True,
        )

    @precondition(lambda self: self.twins)
    @rule(data=st.data(), cents=st.integers(0, 10**9))
    def settle_twin(self, data: st.DataObject, cents: int) -> None:
        key = data.draw(st.sampled_from(sorted(self.twins)))
        twin = replace(self.twins[key], settled=True, dollars=Decimal(cents) / 100, unpriced=1)
        self.store.mark_twin(twin)
        self.twins[key] = twin

    @rule(run=runs)
    def end(self, run: str) -> None:
        """End a run when nothing of it is left to do, not before."""
        own = [shard for key, shard in self.shard_of.items() if key[0] == run]
        is_over = all(shard.state in SETTLED for shard in own)

        assert self.store.mark_ended(run, 9.0) is is_over
        if is_over:
            record = self.known[run]
            at = record.ended_at or 9.0
            self.known[run] = replace(record, state=RunState.ENDED, note="", ended_at=at)

    @rule(run=runs, note=st.text("ab\n\0é", max_size=3))
    def pause(self, run: str, note: str) -> None:
        self.store.set_state(run, RunState.PAUSED, note)
        self.known[run] = replace(self.known[run], state=RunState.PAUSED, note=note)

    @rule(run=runs)
    def cancel(self, run: str) -> None:
        self.store.set_cancel(run)
        self.known[run] = replace(self.known[run], state=RunState.CANCELING, cancel=True)

    @rule(run=consumes(runs))
    def purge(self, run: str) -> None:
        """Its batches are nobody's then, also those of its twins; what they cost stays spent."""
        self.store.purge(run)
        self.known[run] = replace(self.known[run], state=RunState.PURGED, note="")
        for key, shard in self.shard_of.items():
            if key[0] == run:
                self.shard_of[key] = replace(shard, batch_id=None)
        for twin_key, twin in self.twins.items():
            if twin_key[0] == run:
                self.twins[twin_key] = replace(twin, batch_id=None)

    @rule()
    def restart(self) -> None:
        """Another process opens the ledger."""
        self.store = Store(self.folder / "ledger")

    @invariant()
    def it_remembers(self) -> None:
        found = {record.id: record for record in self.store.runs()}
        shards = {(run, shard.number): shard for run in found for shard in self.store.shards(run)}
        twins = {
            (run, twin.number, twin.attempt): twin
            for run in found
            for twin in self.store.twins(run)
        }
        owned = {shard.batch_id for shard in self.shard_of.values()}
        owned |= {twin.batch_id for twin in self.twins.values()}

        assert found == self.known
        assert shards == self.shard_of
        assert twins == self.twins
        assert self.store.batch_ids() == owned - {None}

    @invariant()
    def the_newest_run_of_a_key_is_found(self) -> None:
        for key in "ab":
            alive = [
                record
                for record in self.known.values()
                if record.key == key and record.state is not RunState.PURGED
            ]
            assert self.store.find(key, prefer_whole=False) == max(
                alive, key=lambda record: record.created_at, default=None
            )


Ledger.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestLedger = Ledger.TestCase
