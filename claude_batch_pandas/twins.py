"""Batches that show up late: a submission was given up and sent again, and was accepted after all.

Of the two, one becomes the shard's batch. The other is canceled if it still runs, which is safe:
its custom_ids, or our own POST, told that it is ours. What it cost is told in dollars.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, field, replace

from claude_batch_pandas import money, resending, results
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import APIError, CredentialsError, PausedError
from claude_batch_pandas.reconcile import candidates
from claude_batch_pandas.reconciling import Reconciler
from claude_batch_pandas.records import Batch, RunRecord, Shard, Twin
from claude_batch_pandas.scopes import check_scope
from claude_batch_pandas.waits import Waits

LONGEST_SECONDS = 86_400.0  # after its submission, nothing of a twin is looked for any more

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Twins:
    """Looks after the given-up submissions of one run.

    Parameters
    ----------
    engine : Engine
    waits : Waits
    reconciler : Reconciler
    """

    engine: Engine
    waits: Waits
    reconciler: Reconciler
    # Batches whose results told that they are not a twin's, by shard and attempt.
    _rejected: set[tuple[int, int, str]] = field(default_factory=set)
    _due: float = 0.0  # on the monotonic clock

    def look(self, record: RunRecord, *, is_last: bool = False) -> bool:
        """See what became of the twins, once in a while and at the end of a run.

        Parameters
        ----------
        record : RunRecord
        is_last : bool
            Whether nobody will look again for now.

        Returns
        -------
        bool
            Whether one that showed up is not through yet.

        Raises
        ------
        LedgerError
        """
        if self.waits.now < self._due and not is_last:
            return False
        self._due = self.waits.now + self.engine.poll_seconds[1]
        twins = self.engine.store.twins(record.id)
        seen = [self._see(record, twin) for twin in twins]  # all of them
        return any(seen)

    def _see(self, record: RunRecord, twin: Twin) -> bool:
        age = self.engine.clock.now() - (twin.intended_at or record.created_at)
        if twin.settled or (twin.batch_id is None and age > LONGEST_SECONDS):
            return False
        try:
            if twin.batch_id is None:
                shard = self.engine.store.shard(record.id, twin.number)  # as the last look left it
                return self._search(record, shard, twin)
            return self._settle(twin, self.engine.client.retrieve(twin.batch_id))
        except (APIError, CredentialsError, PausedError) as error:
            # The run itself is well without it; whoever looks at the run next tries again.
            log.debug("A twin of run %s cannot be seen: %s", record.id, error)
            return False

    def _search(self, record: RunRecord, shard: Shard, twin: Twin) -> bool:
        """Find the batch that a submission became, among those that have ended since."""
        sent = replace(shard, attempt=twin.attempt, fence=twin.fence, intended_at=twin.intended_at)
        listing, has_fence = self.reconciler.newer_than_fence(record, sent)
        check_scope(listing.scope, record.scope)
        known = self.engine.store.batch_ids()
        for batch in candidates(sent, listing.batches, known, has_fence=has_fence):
            is_rejected = (twin.number, twin.attempt, batch.id) in self._rejected
            if is_rejected or batch.processing_status != "ended":
                continue
            is_ours = self.reconciler.is_ours(record, sent, batch)
            if is_ours:
                self._found(shard, twin, batch)
                return True
            if is_ours is False:
                self._rejected.add((twin.number, twin.attempt, batch.id))
        return False

    def _found(self, shard: Shard, twin: Twin, batch: Batch) -> None:
        """Keep the batch that has more answers as the shard's; the other one is the twin."""
        log.warning(
            "Batch %s was accepted after all, though shard %d of run %s had been sent again.",
            batch.id,
            shard.number,
            shard.run_id,
        )
        self._due = 0.0
        if batch.counts.succeeded > (0 if shard.counts is None else shard.counts.succeeded):
            self.engine.store.swap(shard, twin, batch)
            self.waits.forget(shard)
        else:
            self.engine.store.mark_twin(replace(twin, batch_id=batch.id))

    def _settle(self, twin: Twin, batch: Batch) -> bool:
        """Cancel a twin that runs; of one that has ended, find out what it cost."""
        client = self.engine.client
        if batch.processing_status == "in_progress":
            batch = client.cancel(batch.id)
        if batch.processing_status != "ended":
            return True
        with contextlib.closing(client.download(batch.id)) as blocks:
            found = [
                result for block in results.read(resending.lines_of(blocks)) for _, result in block
            ]
        bill = money.bill(found)
        self.engine.store.mark_twin(
            replace(twin, settled=True, dollars=bill.dollars, unpriced=bill.unpriced)
        )
        return False
