"""Batches that show up late: a submission was given up and sent again, and was accepted after all.

Of the two, one becomes the shard's batch. The other is canceled if it still runs, which is safe:
its custom_ids, or our own POST, told that it is ours. What it cost is told in dollars.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from claude_batch_pandas import money, results
from claude_batch_pandas.collecting import MAX_DOWNLOADS
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import APIError, BatchError, LedgerError
from claude_batch_pandas.inquiry import Inquiry, NoListError
from claude_batch_pandas.lines import lines_of
from claude_batch_pandas.polling import Pace
from claude_batch_pandas.reconciling import WATCHED
from claude_batch_pandas.records import Batch, RunRecord, Shard, ShardState, Twin
from claude_batch_pandas.scopes import check_origin
from claude_batch_pandas.waits import Waits

LONGEST_SECONDS = 86_400.0  # after its submission, nothing of a lost one is looked for any more
REFUSED_SECONDS = 600.0  # nor of one that the API said it refused, once it was sent again
RAREST_SECONDS = 1800.0  # between two looks for one that never shows up
PATIENCE_SECONDS = 300.0  # for which trouble with one that did holds up the end of its run

log = logging.getLogger(__name__)


class Sight(Enum):
    """What the server's list shows of a twin."""

    NOTHING = "nothing"
    RUNS = "runs"  # a batch that may be it, which tells nothing before it has ended
    FOUND = "found"


@dataclass(slots=True)
class Twins:
    """Looks after the given-up submissions of one run.

    Parameters
    ----------
    engine : Engine
    waits : Waits
    inquiry : Inquiry
    """

    engine: Engine
    waits: Waits
    inquiry: Inquiry
    # Batches whose results told that they are not a twin's, by shard and attempt.
    _rejected: set[tuple[int, int, str]] = field(default_factory=set)
    _troubled: dict[str, float] = field(default_factory=dict)  # batch id -> since when
    _due: float = 0.0  # on the monotonic clock
    _pace: Pace = field(init=False)

    def __post_init__(self) -> None:
        self._pace = Pace(self.engine.poll_seconds[1], RAREST_SECONDS, self.engine.dice)

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
        twins = [twin for twin in self.engine.store.twins(record.id) if self._is_open(record, twin)]
        is_known = any(twin.batch_id is not None for twin in twins)
        if not twins or self.waits.is_quiet:
            return is_known
        self._due = self.waits.now + self._pace.next()
        if is_known:
            self._due = self.waits.now + self.engine.poll_seconds[1]
        seen = [self._see(record, twin) for twin in twins]  # all of them
        return any(seen)

    def may_send(self, record: RunRecord, shard: Shard) -> bool:
        """Look once more, right before a shard that was given up goes out again.

        Returns
        -------
        bool
            False when a batch runs that may be it, or when it was found.

        Raises
        ------
        APIError, LedgerError, PausedError
        """
        given_up = [
            twin
            for twin in self.engine.store.twins(record.id)
            if twin.number == shard.number
            and twin.attempt < shard.attempt
            and twin.batch_id is None
            and self._is_open(record, twin)
        ]
        seen = {self._search(record, twin) for twin in given_up}
        if Sight.RUNS in seen:
            self.waits.note = WATCHED
        return seen <= {Sight.NOTHING}

    def _is_open(self, record: RunRecord, twin: Twin) -> bool:
        """Tell whether there is something to find out about a twin."""
        if twin.settled or twin.batch_id is not None:
            return not twin.settled
        if twin.refused and record.ended_at is not None:
            return False  # to look at answers that are here needs no network
        is_brief = (
            twin.refused
            and self.engine.store.shard(record.id, twin.number).state is not ShardState.PLANNED
        )
        age = self._now - (twin.intended_at or record.created_at)
        return age <= (REFUSED_SECONDS if is_brief else LONGEST_SECONDS)

    @property
    def _now(self) -> float:
        """Seconds since 1970, by the server's clock if it was told, as `intended_at` is."""
        told = None
        with contextlib.suppress(BatchError):  # without a key, nothing is asked either
            told = self.engine.client.date
        return told or self.engine.clock.now()

    def _see(self, record: RunRecord, twin: Twin) -> bool:
        """Look at one twin; tell whether it showed up and is not through."""
        try:
            check_origin(record, self.engine)
            if twin.batch_id is None:
                return self._search(record, twin) is Sight.FOUND
            batch = self.engine.client.retrieve(twin.batch_id)
            is_through = self._settle(twin, batch)
        except LedgerError:
            raise
        except BatchError as error:
            # The run itself is well without it; whoever looks at the run next tries again.
            log.debug("A twin of run %s cannot be seen: %s", record.id, error)
            return self._is_worth_waiting(record, twin, error)
        self._troubled.pop(twin.batch_id, None)
        return not is_through

    def _is_worth_waiting(self, record: RunRecord, twin: Twin, error: BatchError) -> bool:
        """Tell whether the end of a run shall wait for trouble with a twin to pass."""
        is_passing = isinstance(error, APIError) and record.ended_at is None
        if twin.batch_id is None or not is_passing:
            return False
        since = self._troubled.setdefault(twin.batch_id, self.waits.now)
        return self.waits.now - since < PATIENCE_SECONDS

    def _search(self, record: RunRecord, twin: Twin) -> Sight:
        """Find the batch that a submission became; only one that has ended tells."""
        shard = self.engine.store.shard(record.id, twin.number)  # as the last look left it
        sent = replace(shard, attempt=twin.attempt, fence=twin.fence, intended_at=twin.intended_at)
        sight = Sight.NOTHING
        try:
            seen = self._candidates(record, sent)
        except NoListError:
            return sight
        for batch in seen:
            if batch.processing_status != "ended":
                sight = Sight.RUNS
                continue
            is_ours = self.inquiry.is_ours(record, sent, batch)
            if is_ours:
                self._found(shard, twin, batch)
                return Sight.FOUND
            if is_ours is False:
                self._rejected.add((twin.number, twin.attempt, batch.id))
        return sight

    def _candidates(self, record: RunRecord, sent: Shard) -> Sequence[Batch]:
        batches = self.inquiry.find(record, sent, self.engine.store.batch_ids()).batches
        return [
            batch
            for batch in batches
            if not batch.archived and (sent.number, sent.attempt, batch.id) not in self._rejected
        ]

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
            unpriced = batch.counts.succeeded  # until their prices are read
            self.engine.store.mark_twin(replace(twin, batch_id=batch.id, unpriced=unpriced))

    def _settle(self, twin: Twin, batch: Batch) -> bool:
        """Cancel a twin that runs; of one that has ended, find out what it cost."""
        if batch.processing_status == "in_progress":
            batch = self.engine.client.cancel(batch.id)
        if batch.processing_status != "ended":
            return False
        bill = self._bill(batch)
        self.engine.store.mark_twin(
            replace(twin, settled=True, dollars=bill.dollars, unpriced=bill.unpriced)
        )
        return True

    def _bill(self, batch: Batch) -> money.Bill:
        """Return what a batch cost; answers that do not come have an unknown price."""
        found: list[results.Result] = []
        for _ in range(0 if batch.archived else MAX_DOWNLOADS):
            download = self.engine.client.download(batch.id, batch.counts.total)
            with contextlib.closing(download) as blocks:
                found = []
                for block in results.read(lines_of(blocks)):
                    found += [result for _, result in block]
                    if len(found) >= batch.counts.total:
                        break
            if len(found) >= batch.counts.total:
                break
        bill = money.bill(found)
        missing = max(0, batch.counts.total - len(found))
        return bill._replace(unpriced=bill.unpriced + min(missing, batch.counts.succeeded))
