"""A frame and a recipe -> a run on disk, before anything is sent.

Rows are rendered and encoded once, in blocks. A request that stands twice in the frame is written
once; one that this ledger already sent is not written at all. What is left goes straight into the
bodies of the shards, whose sizes are known to the byte before a row is committed.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from claude_batch_pandas import catalog
from claude_batch_pandas.catalog import OWN, Catalog
from claude_batch_pandas.rendering import Reason, Renderer
from claude_batch_pandas.records import RunRecord, Scope, Shard
from claude_batch_pandas.requests import Encoded, custom_id, line
from claude_batch_pandas.sharding import BODY_HEAD, BODY_JOIN, BODY_TAIL, fits, totals
from claude_batch_pandas.spool import Spool, Writing, write

RECIPE = "recipe.json"
INDEX = "index.parquet"

NO_SCOPE = Scope("", "", "")  # of a run that has nothing to send


@dataclass(slots=True)
class Draft:
    """A run on disk that the ledger does not know yet."""

    record: RunRecord
    shards: list[Shard]


@dataclass(slots=True)
class _OpenShard:
    file: Writing
    number: int
    quota: int
    first: int  # ordinal of its first request
    total: int = 0
    size: int = 0  # bytes of the body so far, waiting lines included


@dataclass(slots=True)
class Planner:
    """Plans one run; use once.

    Parameters
    ----------
    renderer : Renderer
    spool : Spool
    record : RunRecord
        What is known of the run beforehand; `plan` fills in the rest.
    look_up : callable
        Returns the scope and the catalog of what it already knows. Called only when there is a
        request to send, since it may have to ask the API who the key belongs to.
    shard_size : int or None
    """

    renderer: Renderer
    spool: Spool
    record: RunRecord
    look_up: Callable[[], tuple[Scope, Catalog]]
    shard_size: int | None = None
    _seen: dict[bytes, int] = field(default_factory=dict)
    _rows: array[int] = field(default_factory=lambda: array("i"))
    _references: array[int] = field(default_factory=lambda: array("I"))
    _sources: dict[str, int] = field(default_factory=dict)
    _reasons: dict[Reason, int] = field(default_factory=dict)
    _shards: list[Shard] = field(default_factory=list)
    _own: int = 0
    _known: tuple[Scope, Catalog] | None = None
    _open: _OpenShard | None = None
    _totals: Iterator[int] = field(init=False)

    def plan(self) -> Draft:
        """Render every row and write the draft's files.

        Raises
        ------
        InputError, CredentialsError, APIError
            Before anything is written.
        LedgerError
            When the disk refuses; the draft is deleted.
        """
        self._totals = totals(len(self.renderer.source), self.shard_size)
        try:
            for block in self.renderer.blocks():
                self._add(block)
            self._close_shard()
            return self._finish()
        except BaseException:
            if self._open is not None:
                self._open.file.__exit__(None, None, None)
            self.spool.discard(self.record.id)
            raise

    @property
    def _folder(self) -> Path:
        return self.spool.draft(self.record.id)

    def _add(self, block: Sequence[Encoded | Reason]) -> None:
        fresh: dict[bytes, bytes] = {}
        for item in block:
            if isinstance(item, Encoded) and item.digest not in self._seen:
                fresh.setdefault(item.digest, item.tail)
        if fresh:
            self._place(fresh)
        seen = self._seen
        for item in block:
            if isinstance(item, Encoded):
                self._rows.append(seen[item.digest])
            else:
                reason = self._reasons.setdefault(item, len(self._reasons))
                self._rows.append(-(reason + 1))

    def _place(self, fresh: dict[bytes, bytes]) -> None:
        """Find where each new request was sent before, or write it into a shard."""
        if self._known is None:
            self._known = self.look_up()
        places = self._known[1].find(list(fresh))
        lines: list[bytes] = []
        for (digest, tail), place in zip(fresh.items(), places, strict=True):
            self._seen[digest] = len(self._seen)
            if place is not None:
                source = self._sources.setdefault(place.run_id, len(self._sources) + 1)
                self._references.extend((source, place.ordinal))
                continue
            name = custom_id(self.record.nonce, 1, self._own, digest)
            self._references.extend((OWN, self._own))
            self._own += 1
            self._queue(line(name, self.renderer.encoder.head, tail), lines)
        self._write(lines)

    def _queue(self, request: bytes, lines: list[bytes]) -> None:
        """Put a request behind those waiting to be written; begin another shard when it is time."""
        shard = self._open
        if shard is not None and (
            shard.total == shard.quota or not fits(shard.size, len(request), is_first=False)
        ):
            self._write(lines)
            lines.clear()
            self._close_shard()
        if self._open is None:
            self._open = self._begin_shard()
        self._open.size += len(request) + len(BODY_JOIN) * (self._open.total > 0)
        self._open.total += 1
        lines.append(request)

    def _begin_shard(self) -> _OpenShard:
        number = len(self._shards)
        path = self._folder / self.spool.body(self.record.id, number).name
        file = Writing(path).__enter__()
        file.write(BODY_HEAD)
        return _OpenShard(file, number, next(self._totals), self._own - 1, size=len(BODY_HEAD))

    def _write(self, lines: list[bytes]) -> None:
        if lines and self._open is not None:
            is_start = self._open.total == len(lines)
            data = BODY_JOIN.join(lines)
            self._open.file.write(data if is_start else BODY_JOIN + data)

    def _close_shard(self) -> None:
        if self._open is None:
            return
        file, first = self._open.file, self._open.first
        file.write(BODY_TAIL)
        ordinals = range(first, first + self._open.total)
        catalog.save_ordinals(self._folder, self._open.number, ordinals)
        shard = Shard(
            run_id=self.record.id,
            number=self._open.number,
            attempt=1,
            total=self._open.total,
            size=file.size,
            sha256=file.keep(),
            betas=self.renderer.recipe.betas,
        )
        self._shards.append(shard)
        self._open = None

    def _finish(self) -> Draft:
        digests = b"".join(self._seen)
        scope = self._known[0] if self._known else NO_SCOPE
        folder = self._folder
        catalog.save(folder, self._rows, digests, self._references)
        write(folder / RECIPE, self.renderer.recipe.dump())
        record = replace(
            self.record,
            scope=scope,
            rows=len(self._rows),
            requests=len(self._seen),
            sources=tuple(self._sources),
            reasons=tuple((str(status), why) for status, why in self._reasons),
            key=self._key(scope, digests),
        )
        return Draft(record, self._shards)

    def _key(self, scope: Scope, digests: bytes) -> str:
        """Return what two calls share exactly when they ask the same of the same rows."""
        record = self.record
        told = json.dumps([*scope, record.name, record.output])
        key = hashlib.sha256(told.encode())
        for part in catalog.row_digests(self._rows, _split(digests)):
            key.update(part)
        return key.hexdigest()


def _split(digests: bytes) -> list[bytes]:
    size = catalog.DIGEST.itemsize
    return [digests[i : i + size] for i in range(0, len(digests), size)]
