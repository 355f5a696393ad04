"""A batch that this ledger did not send, as a run of it: known by its id, then by its results.

Until the results are here, nothing is known of its requests but their number. Then each is known
by its custom_id; where that is one of ours, it holds the hash of what was asked, and rows can be
found by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from claude_batch_pandas import catalog
from claude_batch_pandas.records import Batch, RunRecord, Shard, ShardState
from claude_batch_pandas.requests import CUSTOM_ID, DIGEST_SIZE, HASH_SIZE
from claude_batch_pandas.results import read_tags
from claude_batch_pandas.spool import Spool, read_line_blocks

HASH_BYTES = HASH_SIZE // 2  # of a content hash, in a custom_id
NO_DIGEST = bytes(DIGEST_SIZE)  # of a request that is known by its custom_id alone


def shard_from(record: RunRecord, batch: Batch) -> Shard:
    """Return the one shard of an attached run: its batch."""
    return Shard(
        run_id=record.id,
        number=0,
        attempt=1,
        total=batch.counts.total,
        size=0,
        sha256="",
        state=ShardState.IN_PROGRESS,
        batch_id=batch.id,
        created_at=batch.created_at,
        expires_at=batch.expires_at,
    )


def prepare(folder: Path, total: int) -> None:
    """Write the files of an attached run before anything is known of its requests."""
    _save(folder, [NO_DIGEST] * total)


def learn(spool: Spool, shard: Shard, total: int) -> list[str | None]:
    """Take over the custom_ids of verified results, sorted; return them by ordinal.

    `total` is what the ended batch counts; a batch may count nothing while it runs.

    Call it before the ledger says that the results are here: doing it twice changes nothing.
    """
    folder = spool.folder(shard.run_id)
    path = spool.results(shard.run_id, shard.number)
    tags = [tag for block in read_tags(read_line_blocks(path)) for tag in block]
    names: list[str | None] = [*sorted({tag[0] for tag in tags if tag is not None})]
    names += [None] * (total - len(names))
    catalog.save_ids(folder, shard.number, names)
    _save(folder, [known_hash(name).ljust(DIGEST_SIZE, b"\0") for name in names])
    return names


def complete(folder: Path, digests: Mapping[int, bytes]) -> None:
    """Write the whole content hashes of some requests, so that later calls reuse their answers.

    Parameters
    ----------
    folder : Path
    digests : mapping of int to bytes
        Content hashes by ordinal.
    """
    whole = catalog.load(folder).all_digests
    for ordinal, digest in digests.items():
        whole[ordinal] = digest
    _save(folder, whole)


def known_hash(name: str | None) -> bytes:
    """Return the hash in a custom_id of ours, nothing for any other."""
    found = CUSTOM_ID.fullmatch(name.encode()) if name is not None else None
    return b"" if found is None else bytes.fromhex(found[4].decode())


def _save(folder: Path, digests: Sequence[bytes]) -> None:
    # A hash that is known in part never equals a whole one, so nothing is reused by mistake.
    ordinals = range(len(digests))
    catalog.save(folder, ordinals, b"".join(digests), [(catalog.OWN, i) for i in ordinals])
    catalog.save_ordinals(folder, 0, ordinals)
