"""A run without its ledger: found again on the server by the hashes in its custom_ids.

The server tells custom_ids only in results, so batches that ended are read from their beginning
until one of the frame's requests shows up. What is found is attached and becomes answers of this
ledger; what is not found is left for the next ordinary call.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from claude_batch_pandas import attaching
from claude_batch_pandas.answers import Reader
from claude_batch_pandas.catalog import Place
from claude_batch_pandas.causes import has_answer
from claude_batch_pandas.client import Client
from claude_batch_pandas.deadlines import DAY, KEPT_DAYS
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import NOT_FOUND, APIError
from claude_batch_pandas.lines import lines_of
from claude_batch_pandas.patience import patiently
from claude_batch_pandas.records import Batch, RowStatus, RunRecord
from claude_batch_pandas.rendered import Reason, Rendered
from claude_batch_pandas.results import UNREADABLE, Result, read_tags

UNANSWERED = Reason(
    RowStatus.SKIPPED, "no batch on the server answers this; run the cell again to send it"
)


class Search(NamedTuple):
    """What a look through the server's list brought.

    Attributes
    ----------
    found : list of Batch
        Ended, with requests of the frame.
    running : int
        Batches whose custom_ids cannot be seen yet.
    read : int
        Batches whose results were looked into.
    """

    found: list[Batch]
    running: int
    read: int


def search(engine: Engine, owned: Collection[str], wanted: Collection[bytes]) -> Search:
    """Look for batches that hold requests of a frame.

    Parameters
    ----------
    engine : Engine
    owned : collection of str
        Batch ids that the ledger knows.
    wanted : collection of bytes
        What the custom_ids hold of the frame's content hashes.

    Raises
    ------
    APIError
    """
    if not wanted:
        return Search([], 0, 0)
    now = patiently(engine, lambda: engine.client.list(limit=1)).now or engine.clock.now()
    since = now - KEPT_DAYS * DAY
    listed = patiently(engine, lambda: list(engine.client.history(since)))
    unknown = [batch for batch in listed if batch.id not in owned and not batch.archived]
    ended = [batch for batch in unknown if batch.processing_status == "ended"]
    found = [batch for batch in ended if _is_wanted(engine, batch, wanted)]
    return Search(found, len(unknown) - len(ended), len(ended))


def _is_wanted(engine: Engine, batch: Batch, wanted: Collection[bytes]) -> bool:
    try:
        return patiently(engine, partial(_holds_any, engine.client, batch, wanted), {NOT_FOUND})
    except APIError as error:
        if not error.is_missing:
            raise
        return False  # deleted since the list was read


def _holds_any(client: Client, batch: Batch, wanted: Collection[bytes]) -> bool:
    """Read results until a request of the frame shows up, or a custom_id that is not ours."""
    with contextlib.closing(client.download(batch.id, batch.counts.total)) as blocks:
        for tags in read_tags(lines_of(blocks)):
            for tag in filter(None, tags):
                known = attaching.known_hash(tag[0])
                if known in wanted or not known:
                    return bool(known)
    return False


@dataclass(slots=True)
class Harvest:
    """What attached batches know of a frame's requests."""

    places: dict[bytes, Place] = field(default_factory=dict)  # whose answers may be reused
    failures: dict[bytes, Reason] = field(default_factory=dict)  # why others have none
    unreadable: int = 0  # requests of collected batches of which not even the custom_id is known

    def find(self, digests: Iterable[bytes]) -> list[Place | None]:
        """Return where each request was answered, as a catalog does."""
        return [self.places.get(digest) for digest in digests]


def harvest(
    reader: Reader,
    records: Iterable[RunRecord],
    wanted: Mapping[bytes, bytes],
    places: Mapping[bytes, Place],
) -> Harvest:
    """Take over what collected batches answer of a frame; the first answer wins.

    Parameters
    ----------
    reader : Reader
    records : iterable of RunRecord
        Of attached runs, newest first.
    wanted : mapping of bytes to bytes
        What a custom_id holds of a content hash -> the whole of it.
    places : mapping of bytes to Place
        Where the ledger itself has answers.
    """
    found = Harvest(dict(places))
    for record in records:
        names = reader.expected(record, reader.store.shard(record.id, 0))
        found.unreadable += record.requests - len(names)
        results = reader.of_requests(record).results
        own: dict[int, bytes] = {}
        for ordinal, digest in _asked(names, wanted):
            result = results[ordinal]
            if not has_answer(result):
                found.failures.setdefault(digest, Reason(result.status, _why(result)))
            elif digest not in found.places:
                found.places[digest] = Place(record.id, ordinal)
                own[ordinal] = digest
        attaching.complete(reader.spool.folder(record.id), own)
    return found


def _asked(names: Iterable[str], wanted: Mapping[bytes, bytes]) -> Iterator[tuple[int, bytes]]:
    for ordinal, name in enumerate(names):
        digest = wanted.get(attaching.known_hash(name))
        if digest is not None:
            yield ordinal, digest


def _why(result: Result) -> str:
    return f"{result.error or result.status}; run the cell again to ask anew"


def explain(found: Search, answers: Harvest, asked: int) -> str:
    """Return what to say about what was not found, empty when all was.

    Parameters
    ----------
    found : Search
    answers : Harvest
    asked : int
        Unique requests of the frame.
    """
    missing = asked - len(answers.places)
    if not missing:
        return ""
    seen = f"batches read: {found.read:,}"
    if found.running:
        seen += (
            f"; still running: {found.running:,}, which cannot be seen into; call recover again "
            "when they have ended, for what they hold may otherwise be paid twice"
        )
    if answers.unreadable:
        seen += (
            f"; results that cannot be read: {answers.unreadable:,}, which may be among the "
            "missing and would then be paid twice"
        )
    if not answers.places:
        return f"No batch of this workspace answers this frame ({seen}). Nothing was sent."
    return (
        f"{missing:,} of {asked:,} requests have no answer on the server ({seen}). Run the cell to "
        "send those."
    )


def without_bodies(block: Rendered) -> Rendered:
    """Return a block that remembers which rows ask, but not their text."""
    tails = [None if tail is None else b"" for tail in block.tails]
    return Rendered(tails, block.digests, block.reasons)


def digests_of(blocks: Iterable[Rendered]) -> list[bytes]:
    """Return every content hash of some blocks, each once, in order."""
    return list(
        dict.fromkeys(
            digest
            for block in blocks
            for i, digest in enumerate(block.digests)
            if digest is not None and i not in block.reasons
        )
    )


def only_known(blocks: Iterable[Rendered], found: Harvest) -> Iterator[Rendered]:
    """Yield blocks in which a request that has no answer is a reason, so that none is sent."""
    stranger = Reason(RowStatus.ERRORED, UNREADABLE) if found.unreadable else UNANSWERED
    for block in blocks:
        reasons = dict(block.reasons)
        for i, digest in enumerate(block.digests):
            if digest is not None and i not in reasons and digest not in found.places:
                reasons[i] = found.failures.get(digest, stranger)
        yield Rendered(
            [None if i in reasons else tail for i, tail in enumerate(block.tails)],
            [None if i in reasons else digest for i, digest in enumerate(block.digests)],
            reasons,
        )
