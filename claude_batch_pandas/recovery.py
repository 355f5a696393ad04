"""A run without its ledger: found again on the server by the hashes in its custom_ids.

The server tells custom_ids only in results, so batches that ended are read from their beginning
until one of the frame's requests shows up. What is found is attached and becomes answers of this
ledger; what is not found is left for the next ordinary call.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from claude_batch_pandas import attaching, resending
from claude_batch_pandas.answers import Reader, needs_retry
from claude_batch_pandas.catalog import Place
from claude_batch_pandas.client import Client
from claude_batch_pandas.exceptions import RunNotFoundError
from claude_batch_pandas.records import Batch, RowStatus, RunRecord
from claude_batch_pandas.rendering import Reason, Rendered
from claude_batch_pandas.results import Result, read_tags

KEPT_SECONDS = 29 * 86_400.0  # how long the API keeps results, from the batch's creation
NOT_FOUND = Reason(
    RowStatus.SKIPPED, "no batch on the server answers this; run the cell again to send it"
)


@dataclass(slots=True)
class Search:
    """What a look through the server's list brought."""

    found: list[Batch] = field(default_factory=list)  # ended, with requests of the frame
    running: int = 0  # batches whose custom_ids cannot be seen yet
    looked_at: int = 0


def search(client: Client, owned: Collection[str], wanted: Collection[bytes], now: float) -> Search:
    """Look for batches that hold requests of a frame.

    Parameters
    ----------
    client : Client
    owned : collection of str
        Batch ids that the ledger knows.
    wanted : collection of bytes
        What the custom_ids hold of the frame's content hashes.
    now : float
        Seconds since 1970.

    Raises
    ------
    APIError
    """
    result = Search()
    if not wanted:
        return result
    for batch in client.history(now - KEPT_SECONDS):
        if batch.id in owned or batch.archived:
            continue
        result.looked_at += 1
        if batch.processing_status != "ended":
            result.running += 1
        elif _holds_any(client, batch, wanted):
            result.found.append(batch)
    return result


def _holds_any(client: Client, batch: Batch, wanted: Collection[bytes]) -> bool:
    with contextlib.closing(client.download(batch.id)) as blocks:
        for tags in read_tags(resending.first_lines(blocks)):
            for tag in tags:
                if tag is not None and attaching.known_hash(tag[0]) in wanted:
                    return True
    return False


@dataclass(slots=True)
class Harvest:
    """What attached batches know of a frame's requests."""

    places: dict[bytes, Place] = field(default_factory=dict)  # whose answers may be reused
    failures: dict[bytes, Reason] = field(default_factory=dict)  # why others have none

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
        results = reader.of_requests(record).results
        own: dict[int, bytes] = {}
        for ordinal, digest in _asked(names, wanted):
            result = results[ordinal]
            if needs_retry(result):
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
    """Say what was not found, empty when all was.

    Parameters
    ----------
    found : Search
    answers : Harvest
    asked : int
        Unique requests of the frame.

    Raises
    ------
    RunNotFoundError
        When nothing was found.
    """
    missing = asked - len(answers.places)
    if not missing:
        return ""
    read = f"batches read: {found.looked_at - found.running:,}"
    running = (
        f"; still running: {found.running:,}, which cannot be seen into; call recover again when "
        "they have ended, for what they hold may otherwise be paid twice"
        if found.running
        else ""
    )
    if not answers.places:
        msg = f"No batch of this workspace answers this frame ({read}{running}). Nothing was sent."
        raise RunNotFoundError(msg)
    return (
        f"{missing:,} of {asked:,} requests have no answer on the server ({read}{running}). Run "
        "the cell to send those."
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
    for block in blocks:
        reasons = dict(block.reasons)
        for i, digest in enumerate(block.digests):
            if digest is not None and i not in reasons and digest not in found.places:
                reasons[i] = found.failures.get(digest, NOT_FOUND)
        yield Rendered(
            [None if i in reasons else tail for i, tail in enumerate(block.tails)],
            [None if i in reasons else digest for i, digest in enumerate(block.digests)],
            reasons,
        )
