"""What a shard can cost at most, and whether it fits under the caps: asked before it is sent."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from claude_batch_pandas import caps, estimates, money, weights
from claude_batch_pandas.caps import Cap
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.estimates import Outlook
from claude_batch_pandas.exceptions import CostLimitError, LedgerError
from claude_batch_pandas.planning import OUTLOOK
from claude_batch_pandas.records import LOST, RunRecord, Shard, ShardState
from claude_batch_pandas.spool import read_sealed


@dataclass(slots=True)
class Reserver:
    """Says what the shards of one run reserve.

    Parameters
    ----------
    engine : Engine
    """

    engine: Engine
    _outlook: Outlook | None = None
    _tried: set[tuple[str, int, int]] = field(default_factory=set)

    def cap(self, record: RunRecord, shard: Shard) -> Cap:
        """Return what is checked and remembered when a shard is sent."""
        per_day = self._per_day(record)
        cap = Cap(self.most_of(shard), self.engine.clock.now(), per_day)
        if record.max_cost is not None or cap.per_day is not None:
            self.settle(record.id, cap)
        return cap

    def has_room(self, record: RunRecord, shard: Shard) -> bool:
        """Tell whether a shard fits under the caps now."""
        if record.max_cost is None and self._per_day(record) is None:
            return True
        cap = self.cap(record, shard)
        return not cap.refusal(record.max_cost, *self.engine.store.committed(record.id, cap.since))

    def _per_day(self, record: RunRecord) -> Decimal | None:
        """Return the cap of this process, or of the one that made the run: a shell has none."""
        here = self.engine.max_cost_per_day
        return record.max_cost_per_day if here is None else here

    def most_of(self, shard: Shard) -> Decimal | None:
        """Return the most that a shard of the run can cost, in US dollars; None when unknown."""
        with contextlib.suppress(LedgerError):  # of an older version, or damaged: nobody can say
            if self._outlook is None:
                path = self.engine.spool.folder(shard.run_id) / OUTLOOK
                self._outlook = estimates.load(read_sealed(path))
            return most(shard, self._outlook)
        return None

    def settle(self, run_id: str, cap: Cap) -> None:
        """Read what answers that are here did cost, once each; less than was reserved for them."""
        store = self.engine.store
        for shard in store.unsettled(run_id, cap.since):
            mark = (shard.run_id, shard.number, shard.attempt)
            if mark in self._tried or not shard.complete or shard.shape == LOST:
                continue  # of a lost live answer nobody knows what it cost
            self._tried.add(mark)
            with contextlib.suppress(LedgerError):  # purged or damaged: what was reserved stands
                results = self.engine.reader().of_shard(store.run(shard.run_id), shard)
                bill = money.bill(results.values())
                if not bill.unpriced:
                    store.set_spent(shard, bill.dollars)


def most(shard: Shard, outlook: Outlook) -> Decimal | None:
    """Return the most that a shard can cost, in US dollars; None when nobody can say."""
    if not shard.load:
        return None
    dollars = estimates.most(weights.load(shard.load), outlook)
    times = caps.LIVE if shard.live else caps.LOST if shard.shape == LOST else 1
    return None if dollars is None else dollars * times


def planned(shards: Sequence[Shard]) -> list[Shard]:
    """Return the shards that are not sent yet."""
    return [shard for shard in shards if shard.state is ShardState.PLANNED]


def check(
    record: RunRecord, shards: Sequence[Shard], outlook: Outlook | None, engine: Engine
) -> None:
    """Refuse a run that may pass a cap, before any of it is sent.

    Shards of other runs that have not been sent yet, and that it needs, are its own here.

    Parameters
    ----------
    record : RunRecord
    shards : sequence of Shard
    outlook : Outlook or None
        None when it has no shards.
    engine : Engine

    Raises
    ------
    CostLimitError
    """
    per_day = engine.max_cost_per_day
    if record.max_cost is None and per_day is None:
        return
    parts = [most(shard, outlook) for shard in shards if outlook is not None]
    requests = sum(shard.total for shard in shards)
    for run_id in record.sources:
        borrowed, theirs = planned(engine.store.shards(run_id)), Reserver(engine)
        parts += [theirs.most_of(shard) for shard in borrowed]
        requests += sum(shard.total for shard in borrowed)
    if not parts:
        return
    known = [part for part in parts if part is not None]
    whole = sum(known, Decimal(0)) if len(known) == len(parts) else None
    cap = Cap(whole, engine.clock.now(), per_day, f"This run of {requests:,} requests")
    Reserver(engine).settle(record.id, cap)
    if why := cap.refusal(record.max_cost, *engine.store.committed(record.id, cap.since)):
        msg = f"Nothing was sent. {why}"
        raise CostLimitError(msg)
