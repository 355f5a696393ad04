"""The results of a run's rows, from the verified files in the spool.

A request's result is that of its latest attempt; a row's result is that of its request, in this
run or in the one that sent it first. Nothing here asks the network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from claude_batch_pandas import catalog
from claude_batch_pandas.catalog import Map
from claude_batch_pandas.records import Answer, Result, RowStatus, RunRecord, Shard, ShardState
from claude_batch_pandas.requests import custom_id
from claude_batch_pandas.results import UNREADABLE, read
from claude_batch_pandas.spool import Spool, read_lines
from claude_batch_pandas.store import Store

PROCESSING = Result(RowStatus.PROCESSING, error="no result yet")
LOST = Result(RowStatus.ERRORED, error=UNREADABLE, error_type="unreadable")
WITHDRAWN = Result(
    RowStatus.CANCELED, error="canceled before it was sent; run.retry() sends it again"
)


@dataclass(slots=True)
class Answers:
    """Reads results.

    Parameters
    ----------
    store : Store
    spool : Spool
    """

    store: Store
    spool: Spool
    _maps: dict[str, Map] = field(default_factory=dict)

    def map(self, run_id: str) -> Map:
        """Return what the rows of a run ask."""
        if run_id not in self._maps:
            self._maps[run_id] = catalog.load(self.spool.folder(run_id))
        return self._maps[run_id]

    def of_requests(self, record: RunRecord, *, usage: bool = False) -> list[Answer]:
        """Return one answer per unique request of a run, wherever it was sent."""
        references = self.map(record.id).references.tolist()
        answers: list[Answer | None] = [None] * len(references)
        for source, run_id in enumerate((record.id, *record.sources)):
            wanted = {ordinal: i for i, (of, ordinal) in enumerate(references) if of == source}
            if wanted:
                found = self._own(run_id, usage=usage)
                for ordinal, i in wanted.items():
                    answers[i] = found[ordinal]
        return [answer for answer in answers if answer is not None]

    def of_rows(self, record: RunRecord, *, usage: bool = False) -> list[Answer]:
        """Return one answer per row of a run, in order."""
        answers = self.of_requests(record, usage=usage)
        never = [
            Answer(Result(RowStatus(status), error=why), record.id, -1, 0)
            for status, why in record.reasons
        ]
        rows = self.map(record.id).rows.tolist()
        return [answers[i] if i >= 0 else never[-i - 1] for i in rows]

    def needed(self, record: RunRecord) -> dict[str, list[int]]:
        """Return the shards of other runs that hold requests of this one, by run."""
        references = self.map(record.id).references.tolist()
        found: dict[str, list[int]] = {}
        for source, run_id in enumerate(record.sources, 1):
            wanted = {ordinal for of, ordinal in references if of == source}
            folder = self.spool.folder(run_id)
            found[run_id] = [
                shard.number
                for shard in self.store.shards(run_id)
                if not wanted.isdisjoint(catalog.load_ordinals(folder, shard.number))
            ]
        return found

    def expected(self, record: RunRecord, shard: Shard) -> list[str]:
        """Return the custom_ids of a shard."""
        digests = self.map(record.id).own_digests
        return [
            custom_id(record.nonce, shard.attempt, ordinal, digests[ordinal]).decode()
            for ordinal in catalog.load_ordinals(self.spool.folder(record.id), shard.number)
        ]

    def _own(self, run_id: str, *, usage: bool) -> dict[int, Answer]:
        """Return the answers of a run's own requests by ordinal, the latest attempt's."""
        record = self.store.run(run_id)
        answers: dict[int, Answer] = {}
        for shard in self.store.shards(run_id):
            folder = self.spool.folder(run_id)
            ordinals = catalog.load_ordinals(folder, shard.number)
            if shard.state is ShardState.COLLECTED:
                answers.update(self._collected(record, shard, ordinals, usage=usage))
            elif shard.state is ShardState.WITHDRAWN:
                for i in ordinals:  # an earlier attempt's result stands
                    answers.setdefault(i, Answer(WITHDRAWN, run_id, shard.number, shard.attempt))
            else:
                waiting = Answer(PROCESSING, run_id, shard.number, shard.attempt)
                answers.update(dict.fromkeys(ordinals, waiting))
        return answers

    def _collected(
        self, record: RunRecord, shard: Shard, ordinals: Sequence[int], *, usage: bool
    ) -> dict[int, Answer]:
        run_id, number, attempt = record.id, shard.number, shard.attempt
        lost = Answer(LOST, run_id, number, attempt)
        answers = dict.fromkeys(ordinals, lost)
        lines = read_lines(self.spool.results(run_id, number))
        if shard.complete:  # verified: every custom_id is ours and stands once
            for name, result in read(lines, usage=usage):
                answers[int(name[20:28])] = Answer(result, run_id, number, attempt)
            return answers
        expected = dict(zip(self.expected(record, shard), ordinals, strict=True))
        times: Counter[str] = Counter()
        for name, result in read(lines, usage=usage):
            times[name] += 1
            if name in expected:
                answers[expected[name]] = Answer(result, run_id, number, attempt)
        for name, ordinal in expected.items():
            if times[name] > 1:  # which of them is true cannot be known
                answers[ordinal] = lost
        return answers


def needs_retry(answer: Answer) -> bool:
    """Tell whether `run.retry()` asks this again."""
    return answer.result.status in {RowStatus.ERRORED, RowStatus.EXPIRED, RowStatus.CANCELED}
