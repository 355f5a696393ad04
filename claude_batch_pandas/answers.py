"""The results of a run's rows, from the verified files in the spool.

A request's result is that of its latest attempt; a row's result is that of its request, in this
run or in the one that sent it first. Nothing here asks the network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from claude_batch_pandas import catalog
from claude_batch_pandas.catalog import Map
from claude_batch_pandas.causes import has_answer
from claude_batch_pandas.exceptions import LedgerError
from claude_batch_pandas.ids import Ids
from claude_batch_pandas.outputs import Output
from claude_batch_pandas.records import Counts, RowStatus, RunRecord, RunState, Shard, ShardState
from claude_batch_pandas.rendering import Recipe
from claude_batch_pandas.requests import ORDINAL
from claude_batch_pandas.results import DOUBTFUL, PAUSED_TURN, UNREADABLE, Result, read
from claude_batch_pandas.spool import Spool, file_sha256, read_line_blocks, read_sealed
from claude_batch_pandas.store import Store
from claude_batch_pandas.votes import counted


class Origin(NamedTuple):
    """Where a result came from."""

    run_id: str
    shard: int
    attempts: int  # batches that were created with it; 0 when it was never sent
    retried: tuple[str, ...] = ()  # why each earlier attempt was not the last


class Answers(NamedTuple):
    """Results and where they came from, in the order of requests or rows.

    Attributes
    ----------
    results : list of Result
    origins : list of Origin
    replaced : sequence of Result
        Of the run's own requests, results that a later attempt took the place of.
    """

    results: list[Result]
    origins: list[Origin]
    replaced: Sequence[Result] = ()


EVERY = slice(None)
NEVER_SENT = Origin("", -1, 0)
PROCESSING = Result(RowStatus.PROCESSING, error="no result yet")
LOST = Result(RowStatus.ERRORED, error=UNREADABLE, error_type=DOUBTFUL)  # asked, not answered
UNBILLED = (RowStatus.ERRORED, RowStatus.EXPIRED, RowStatus.CANCELED)
DENIED = "the API counted otherwise, so it may have been paid"
WITHDRAWN = Result(
    RowStatus.CANCELED,
    error="canceled before it was sent; retry(canceled=True) of its run sends it",
)
# Equal to LOST for people; by identity it marks a request that no shard has spoken for yet.
UNKNOWN = Result(RowStatus.ERRORED, error=UNREADABLE, error_type=DOUBTFUL)


@dataclass(slots=True)
class Reader:
    """Reads the results of runs.

    Parameters
    ----------
    store : Store
    spool : Spool
    outputs : mapping of str to Output
        What is known of the columns of some runs beyond their recipes: Python types.
    """

    store: Store
    spool: Spool
    outputs: Mapping[str, Output] = field(default_factory=dict)
    _recipes: dict[str, Recipe] = field(default_factory=dict)
    _maps: dict[str, Map] = field(default_factory=dict)

    def map(self, run_id: str) -> Map:
        """Return what the rows of a run ask."""
        if run_id not in self._maps:
            self._maps[run_id] = catalog.load(self.spool.folder(run_id))
        return self._maps[run_id]

    def recipe(self, run_id: str) -> Recipe:
        """Return what was asked of every row of a run, as far as it is kept.

        Raises
        ------
        LedgerError
            When the file is gone or damaged.
        """
        if run_id not in self._recipes:
            path = self.spool.folder(run_id) / catalog.RECIPE
            self._recipes[run_id] = Recipe.load(read_sealed(path))
        return self._recipes[run_id]

    def output(self, record: RunRecord) -> Output:
        """Return the columns of a run's answers."""
        known = self.outputs.get(record.id)
        return known or replace(self.recipe(record.id).output, name=record.output)

    def of_requests(self, record: RunRecord, wanted: AbstractSet[int] | None = None) -> Answers:
        """Return one answer per unique request of a run, wherever it was sent, as it fits.

        Parameters
        ----------
        record : RunRecord
        wanted : set of int, optional
            The requests whose answers are read; of the others, nothing true is said.
        """
        found = self._raw(record, wanted)
        output = self.output(record)
        if output.schema is None:
            return found
        for i in range(len(found.results)) if wanted is None else wanted:
            found.results[i] = output.read(found.results[i])
        return found

    def _raw(self, record: RunRecord, wanted: AbstractSet[int] | None) -> Answers:
        """Return one answer per unique request of a run, whatever it should be."""
        references = self.map(record.id).references
        if not record.sources:
            return self._own(record.id, wanted)
        answers = _unknown(len(references))
        replaced: Sequence[Result] = ()
        for source, run_id in enumerate((record.id, *record.sources)):
            at = (references[:, 0] == source).nonzero()[0].tolist()
            if wanted is not None:
                at = [i for i in at if i in wanted]
            ordinals = references[at, 1].tolist()
            known = self._borrowed(run_id, None if wanted is None else frozenset(ordinals))
            if known is None:
                gone = purged(run_id)
                for i in at:
                    answers.results[i] = gone
            elif at:
                replaced = known.replaced if run_id == record.id else replaced
                for i, ordinal in zip(at, ordinals, strict=True):
                    answers.results[i] = known.results[ordinal]
                    answers.origins[i] = known.origins[ordinal]
        return answers._replace(replaced=replaced)

    def of_part(self, record: RunRecord, rows: slice) -> Answers:
        """Return one answer per row of a part of a run; of no others is anything read."""
        votes = 1 if record.attached else self.output(record).votes
        asked = slice(rows.start * votes, rows.stop * votes)
        wanted = frozenset(i for i in self.map(record.id).rows[asked].tolist() if i >= 0)
        return self.of_rows(record, self.of_requests(record, wanted), asked)

    def of_rows(
        self, record: RunRecord, found: Answers | None = None, asked: slice = EVERY
    ) -> Answers:
        """Return one answer per row of a run, in order.

        Parameters
        ----------
        record : RunRecord
        found : Answers, optional
            What `of_requests` returned.
        asked : slice
            Of which votes of the rows, one row's after the other's.
        """
        each = self.of_votes(record, found, asked)
        output = self.output(record)
        if record.attached or output.votes == 1:
            return each
        results = counted(each.results, output.votes, output.ballot)
        return Answers(results, each.origins[:: output.votes])

    def of_votes(
        self, record: RunRecord, found: Answers | None = None, asked: slice = EVERY
    ) -> Answers:
        """Return what `of_rows` does, but every vote of each row."""
        results, origins, _ = self.of_requests(record) if found is None else found
        never = self.never_sent(record)
        rows = self.map(record.id).rows[asked].tolist()
        if not never:
            return Answers([results[i] for i in rows], [origins[i] for i in rows])
        return Answers(
            [results[i] if i >= 0 else never[-i - 1] for i in rows],
            [origins[i] if i >= 0 else NEVER_SENT for i in rows],
        )

    def never_sent(self, record: RunRecord) -> list[Result]:
        """Return what rows of a run get that are never sent, by the number of their reason."""
        told = record.reasons or catalog.load_reasons(self.spool.folder(record.id))
        return [Result(RowStatus(status), error=why) for status, why in told]

    def of_collected(self, record: RunRecord, shard: Shard) -> dict[int, Result]:
        """Return one result per request of a collected shard, whatever it should be."""
        ordinals = catalog.load_ordinals(self.spool.folder(record.id), shard.number)
        results = dict.fromkeys(ordinals, LOST)
        self._collected(record, shard, ordinals, results, None)
        return results

    def of_shard(self, record: RunRecord, shard: Shard) -> dict[int, Result]:
        """Return the readable results of one collected shard, by request, as they fit."""
        output, place = self.output(record), self.places(record, shard)
        path = self.spool.results(record.id, shard.number)
        expected = frozenset(self.expected(record, shard))
        found = {
            place(name): result
            for block in read(read_line_blocks(path))
            for name, result in block
            if name in expected
        }
        if output.schema is None:
            return found
        return {i: output.read(result) for i, result in found.items()}

    def needed(self, record: RunRecord, run_id: str) -> list[int]:
        """Return which shards of another run hold requests of this one."""
        if self.is_purged(run_id):
            return []
        try:
            return self._needed(record, run_id)
        except LedgerError:
            if self.is_purged(run_id):  # meanwhile
                return []
            raise

    def _needed(self, record: RunRecord, run_id: str) -> list[int]:
        references = self.map(record.id).references
        source = record.sources.index(run_id) + 1
        wanted = frozenset(references[references[:, 0] == source, 1].tolist())
        folder = self.spool.folder(run_id)
        return [
            shard.number
            for shard in self.store.shards(run_id)
            if not wanted.isdisjoint(catalog.load_ordinals(folder, shard.number))
        ]

    def expected(self, record: RunRecord, shard: Shard) -> list[str]:
        """Return the custom_ids of a shard, those of an attached one as far as they are known."""
        if record.attached:
            ids = catalog.load_ids(self.spool.folder(record.id), shard.number)
            return [name for name in ids if name is not None]
        return list(self.ids(record, shard))

    def ids(self, record: RunRecord, shard: Shard) -> Ids:
        """Return the request of each custom_id of a shard that was sent from here."""
        ordinals = catalog.load_ordinals(self.spool.folder(record.id), shard.number)
        hashes = self.map(record.id).hashes(ordinals)
        return Ids(record.nonce, shard.attempt, ordinals, hashes)

    def is_purged(self, run_id: str) -> bool:
        """Tell whether the answers of a run are gone."""
        return self.store.run(run_id).state is RunState.PURGED

    def _borrowed(self, run_id: str, wanted: AbstractSet[int] | None) -> Answers | None:
        """Return the answers of a run; None when it was purged, be it while they are read."""
        if not self.is_purged(run_id):
            try:
                return self._own(run_id, wanted)
            except LedgerError:
                if not self.is_purged(run_id):
                    raise
        return None

    def _own(self, run_id: str, wanted: AbstractSet[int] | None) -> Answers:
        """Return the answers of a run's own requests by ordinal, the latest attempt's."""
        record = self.store.run(run_id)
        results, origins, _ = _unknown(len(self.map(run_id).own))
        replaced: list[Result] = []
        for shard in self.store.shards(run_id):
            ordinals = catalog.load_ordinals(self.spool.folder(run_id), shard.number)
            if wanted is not None:
                ordinals = [i for i in ordinals if i in wanted]
                if not ordinals:
                    continue  # nor is its file read
            if shard.state is ShardState.WITHDRAWN:
                # An earlier attempt's result stands when this one was never sent.
                ordinals = [i for i in ordinals if results[i] is UNKNOWN]
            was_asked = shard.batch_id is not None or shard.live
            first = Origin(run_id, shard.number, int(was_asked))
            before = {i: results[i] for i in ordinals if results[i] is not UNKNOWN}
            holders = {i: origins[i].shard for i in before}
            for i in ordinals:
                origins[i] = _again(origins[i], first, before[i]) if i in before else first
            if shard.state is ShardState.COLLECTED:
                self._collected(record, shard, ordinals, results, wanted)
                replaced += [_displaced(results, i, earlier) for i, earlier in before.items()]
                for i, earlier in before.items():
                    if results[i] is earlier:  # it stands, and so does where it is
                        origins[i] = origins[i]._replace(shard=holders[i])
                continue
            replaced += before.values()
            waiting = WITHDRAWN if shard.state is ShardState.WITHDRAWN else PROCESSING
            for i in ordinals:
                results[i] = waiting
        return Answers(results, origins, replaced)

    def _collected(
        self,
        record: RunRecord,
        shard: Shard,
        ordinals: Sequence[int],
        results: list[Result] | dict[int, Result],
        wanted: AbstractSet[int] | None,
    ) -> None:
        blocks = read(read_line_blocks(self.checked(shard)))
        place = self.places(record, shard)
        if shard.complete:  # verified: every custom_id is ours and stands once
            for name, result in (item for block in blocks for item in block):
                i = place(name)
                if wanted is None or i in wanted:
                    results[i] = result
            return
        for i in ordinals:
            results[i] = LOST
        expected = frozenset(self.expected(record, shard))
        found: dict[str, Result] = {}
        doubtful: set[str] = set()  # of two that differ, which is true cannot be known
        for name, result in (item for block in blocks for item in block if item[0] in expected):
            if found.setdefault(name, result) != result:
                doubtful.add(name)
        believed = _believed(found, shard.counts)
        for name in found.keys() - doubtful:
            results[place(name)] = believed[name]

    def checked(self, shard: Shard) -> Path:
        """Return the results file of a collected shard, which is what it was when it was verified.

        Raises
        ------
        LedgerError
        """
        path = self.spool.results(shard.run_id, shard.number)
        if file_sha256(path) != shard.results_sha256:
            msg = (
                f"{path} was changed after it was verified (its hash differs). Restore the file; "
                "nothing was asked again."
            )
            raise LedgerError(msg)
        return path

    def places(self, record: RunRecord, shard: Shard) -> Callable[[str], int]:
        """Return what tells the ordinal of a custom_id."""
        if not record.attached:
            return _ordinal
        ids = catalog.load_ids(self.spool.folder(record.id), shard.number)
        return {name: i for i, name in enumerate(ids) if name is not None}.__getitem__


def purged(run_id: str) -> Result:
    """Return what stands for the answers of a run that was purged."""
    return Result(RowStatus.ERRORED, error=f"its answer was purged with run {run_id}")


def sent_by(answers: Answers, record: RunRecord) -> list[Result]:
    """Return the results of the requests that a run sent itself, of every attempt."""
    if not record.sources:
        return [*answers.results, *answers.replaced]
    both = zip(answers.results, answers.origins, strict=True)
    own = [result for result, origin in both if origin.run_id == record.id]
    return [*own, *answers.replaced]


def _believed(found: dict[str, Result], counts: Counts | None) -> dict[str, Result]:
    """Return results of a doubtful file; a failure that the API did not count is not believed."""
    told = Counter(result.status for result in found.values())
    denied = {status for status in UNBILLED if told[status] > getattr(counts, status, told[status])}
    return {
        name: Result(RowStatus.ERRORED, error=f"{result.error}; {DENIED}", error_type=DOUBTFUL)
        if result.status in denied
        else result
        for name, result in found.items()
    }


def _ordinal(name: str) -> int:
    return int(name[ORDINAL])


def _displaced(results: list[Result], i: int, earlier: Result) -> Result:
    """Return which of two results of a request does not count: an answer is never displaced."""
    if has_answer(earlier) and not has_answer(results[i]):
        earlier, results[i] = results[i], earlier
    elif earlier.stop_reason == PAUSED_TURN:  # only ever asked again to be gone on with
        results[i] = results[i].after(earlier)
    return earlier


def _again(before: Origin, now: Origin, result: Result) -> Origin:
    """Return the origin of a request that is asked again, after it came to a result."""
    why = result.error_type or str(result.status)
    return now._replace(attempts=before.attempts + now.attempts, retried=(*before.retried, why))


def _unknown(count: int) -> Answers:
    return Answers([UNKNOWN] * count, [NEVER_SENT] * count)
