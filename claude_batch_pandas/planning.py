"""A frame and a recipe -> a run on disk, before anything is sent.

Rows are rendered and encoded once, in blocks. A request that stands twice in the frame is written
once; one that this ledger already sent is not written at all. What is left goes straight into the
bodies of the shards, whose sizes are known to the byte before a row is committed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import chain, repeat
from pathlib import Path
from typing import Protocol

from claude_batch_pandas import catalog, weights
from claude_batch_pandas.catalog import OWN, Place
from claude_batch_pandas.estimates import Outlook, dump
from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.records import RunRecord, Scope, Shard
from claude_batch_pandas.rendered import Reason, Rendered
from claude_batch_pandas.rendering import Renders
from claude_batch_pandas.requests import MAX_REQUESTS
from claude_batch_pandas.seen import Seen
from claude_batch_pandas.shapes import firsts
from claude_batch_pandas.sharding import (
    BODY_HEAD,
    BODY_JOIN,
    BODY_TAIL,
    MAX_BATCH_REQUESTS,
    PLANNED_BYTES,
    fits,
    totals,
)
from claude_batch_pandas.spool import Spool, Writing, write_sealed
from claude_batch_pandas.stretches import Stretch
from claude_batch_pandas.weights import Scale

INDEX, OUTLOOK = "index.parquet", "outlook.json"
CANARY_ROWS = 20  # new requests from which one goes first, and is asked at once
CANARY_BYTES = 4_000_000  # of requests that are held back at most until they are that many
MOST_CANARIES = 4  # shapes of one run that are tried

NO_SCOPE = Scope("", "", "")  # of a run that has nothing to send


class Live(Enum):
    """Which requests of a run are asked at once, at the live price."""

    NONE = "none"
    CANARY = "canary"  # one of each new shape, of a run that is large enough
    ALL = "all"  # a sample


class Known(Protocol):
    """What was asked before; a `Catalog`, most often."""

    def find(self, digests: Sequence[bytes]) -> list[Place | None]:
        """Return where each request was sent before, None where it was not."""


@dataclass(slots=True)
class Draft:
    """A run on disk that the ledger does not know yet."""

    record: RunRecord
    shards: list[Shard]
    outlook: Outlook | None  # None when it sends nothing


@dataclass(slots=True)
class _OpenShard:
    file: Writing
    number: int
    quota: int
    first: int  # ordinal of its first request
    scale: Scale
    total: int = 0

    def write(self, lines: Stretch) -> None:
        """Take some more requests."""
        if self.total:
            self.file.write(BODY_JOIN)
        self.file.write(lines.join(BODY_JOIN))
        self.scale.add(lines, lines.sizes)
        self.total += len(lines)

    def room(self, sizes: Sequence[int], start: int) -> int:
        """Return how many lines of so many bytes it still takes, from one of them on."""
        count = min(self.quota - self.total, len(sizes) - start)
        size = self.file.size
        whole = sum(sizes[start : start + count]) + len(BODY_JOIN) * count
        if count and size + whole + len(BODY_TAIL) <= PLANNED_BYTES:
            return count
        for i in range(count):
            is_first = self.total + i == 0
            line = sizes[start + i]
            if not fits(size, line, is_first=is_first):
                return i
            size += line + len(BODY_JOIN) * (not is_first)
        return count


@dataclass(slots=True)
class Planner:
    """Plans one run; use once.

    Parameters
    ----------
    renderer : Renders
    blocks : iterable of Rendered
        The renderer's, every row once.
    spool : Spool
    record : RunRecord
        What is known of the run beforehand; `plan` fills in the rest.
    look_up : callable
        Returns the scope and the catalog of what it already knows. Called only when there is a
        request to send, since it may have to ask the API who the key belongs to.
    shard_size : int or None
    max_in_flight : int
        Requests that may be open at once.
    index : str
        What tells the frame's index from another: the same rows under other labels are another
        run, so that no answer comes back under a label it was not asked for.
    live : Live
        Which requests are asked at once, at the live price.
    has_passed : callable
        Tells whether requests of a shape need no canary.
    outlook : Outlook, optional
        What the estimate of the run has to know.
    """

    renderer: Renders
    blocks: Iterable[Rendered]
    spool: Spool
    record: RunRecord
    look_up: Callable[[], tuple[Scope, Known]]
    shard_size: int | None = None
    max_in_flight: int = MAX_BATCH_REQUESTS
    index: str = ""
    live: Live = Live.NONE
    has_passed: Callable[[Scope, str], bool] = lambda *_: False
    outlook: Outlook = Outlook()  # noqa: RUF009 - it cannot be changed
    _seen: Seen = field(default_factory=Seen)
    _rows: array[int] = field(default_factory=lambda: array("i"))
    _references: array[int] | None = None  # until a request is found that was sent before
    _sources: dict[str, int] = field(default_factory=dict)
    _reasons: dict[Reason, int] = field(default_factory=dict)
    _shards: list[Shard] = field(default_factory=list)
    _own: int = 0  # of its requests, those that are written
    _numbered: int = 0
    _waiting: dict[bytes, bytes] | None = None  # until it is known whether a canary goes first
    _known: tuple[Scope, Known] | None = None
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
        votes = self.renderer.recipe.output.votes
        rows = len(self.renderer.source) * votes
        if rows > MAX_REQUESTS:
            times = f" (asked {votes} times each)" if votes > 1 else ""
            msg = (
                f"The frame has {rows // votes:,} rows{times}; one run holds {MAX_REQUESTS:,}. "
                "Split the frame."
            )
            raise InputError(msg)
        self._totals = totals(rows, self.shard_size, self.max_in_flight)
        if self.record.warm:
            self._totals = chain([1], self._totals)
        if self.live is Live.CANARY and rows >= CANARY_ROWS:
            self._waiting = {}
        with contextlib.ExitStack() as undo:
            undo.callback(self.spool.discard, self.record.id)
            undo.callback(self._abandon_shard)
            for block in self.blocks:
                self._add(block)
            if self._waiting:
                self._write(self._lines(self._waiting))
            self._close_shard()
            draft = self._finish()
            undo.pop_all()
        return draft

    @property
    def _folder(self) -> Path:
        return self.spool.draft(self.record.id)

    def _add(self, block: Rendered) -> None:
        before = len(self._seen)
        asked = [digest for digest in block.digests if digest is not None]
        tails = [tail for tail in block.tails if tail is not None]
        numbers = self._seen.number(asked).tolist()
        fresh = {
            digest: tail
            for digest, tail, number in zip(asked, tails, numbers, strict=True)
            if number >= before
        }
        if fresh:
            self._place(fresh)
        if not block.reasons:
            self._rows.extend(numbers)
            return
        each = iter(numbers)
        for i, digest in enumerate(block.digests):
            if digest is not None:
                self._rows.append(next(each))
            else:
                reason = self._reasons.setdefault(block.reasons[i], len(self._reasons))
                self._rows.append(-(reason + 1))

    def _place(self, fresh: dict[bytes, bytes]) -> None:
        """Find where each new request was sent before, or write it into a shard."""
        if self._known is None:
            self._known = self.look_up()
        places = self._known[1].find(list(fresh))
        own = fresh
        if self._references is not None or any(places):
            own = self._refer(fresh, places)
        self._numbered += len(own)
        if self._waiting is None:
            self._write(self._lines(own))
            return
        self._waiting |= own
        lines = self._lines(self._waiting)
        if len(lines) >= CANARY_ROWS or sum(lines.sizes) >= CANARY_BYTES:
            self._waiting = None
            rest = self._write_canaries(lines)
            self._write(rest)

    def _lines(self, latest: Mapping[bytes, bytes]) -> Stretch:
        """Return the requests that were numbered last."""
        first = self._numbered - len(latest)
        return Stretch.of(self.record.nonce, 1, first, self.renderer.head, latest)

    def _refer(
        self, fresh: Mapping[bytes, bytes], places: Sequence[Place | None]
    ) -> dict[bytes, bytes]:
        """Note where each new request was sent before; return those that were not."""
        if self._references is None:
            pairs = zip(repeat(OWN), range(self._numbered))
            self._references = array("I", chain.from_iterable(pairs))
        own: dict[bytes, bytes] = {}
        for digest, place in zip(fresh, places, strict=True):
            if place is None:
                self._references.extend((OWN, self._numbered + len(own)))
                own[digest] = fresh[digest]
            else:
                source = self._sources.setdefault(place.run_id, len(self._sources) + 1)
                self._references.extend((source, place.ordinal))
        return own

    def _write_canaries(self, waiting: Stretch) -> Stretch:
        """Write the first requests of new shapes as shards of their own, to be asked at once.

        What stands before them is written, too; the rest is returned.
        """
        assert self._known is not None, "what is new was looked up"
        scope = self._known[0]
        chosen = {
            i: shape
            for i, shape in firsts(waiting, MOST_CANARIES).items()
            if not self.has_passed(scope, shape)
        }
        # A shard holds a range of ordinals, so what stands before a later canary goes before it.
        start = 0
        for i, shape in sorted(chosen.items()):
            self._write(waiting[start:i])
            self._close_shard()
            self._write_live(waiting[i : i + 1], shape)
            start = i + 1
        return waiting[start:]

    def _write_live(self, line: Stretch, shape: str = "") -> None:
        """Write one request as a shard that is asked at once."""
        self._open = self._begin_shard(1)
        self._open.write(line)
        self._own += 1
        self._close_shard(live=True, shape=shape)

    def _write(self, lines: Stretch) -> None:
        """Write request lines into the open shard, and begin another whenever one is full."""
        if self.live is Live.ALL:
            for i in range(len(lines)):
                self._write_live(lines[i : i + 1])
            return
        start = 0
        while start < len(lines):
            shard = self._open
            if shard is None:
                shard = self._open = self._begin_shard()
            count = shard.room(lines.sizes, start)
            if not count:
                self._close_shard()
                continue
            shard.write(lines[start : start + count])
            self._own += count
            start += count

    def _begin_shard(self, quota: int | None = None) -> _OpenShard:
        number = len(self._shards)
        path = self._folder / self.spool.body(self.record.id, number).name
        file = Writing(path).__enter__()
        file.write(BODY_HEAD)
        scale = Scale(self.renderer.recipe.common, self.renderer.is_uniform)
        return _OpenShard(file, number, quota or next(self._totals), self._own, scale)

    def _close_shard(self, *, live: bool = False, shape: str = "") -> None:
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
            live=live,
            shape=shape,
            load=weights.dump(self._open.scale.loads),
        )
        self._shards.append(shard)
        self._open = None

    def _abandon_shard(self) -> None:
        if self._open is not None:
            self._open.file.__exit__(None, None, None)

    def _finish(self) -> Draft:
        requests, digests = len(self._seen), self._seen.digests
        self._seen = Seen()  # of it, only the hashes are needed any more
        scope = self._known[0] if self._known else NO_SCOPE
        folder = self._folder
        catalog.save(folder, self._rows, digests, self._references)
        catalog.save_reasons(folder, [(str(status), why) for status, why in self._reasons])
        write_sealed(folder / catalog.RECIPE, self.renderer.recipe.dump())
        outlook = None
        if self._shards:
            live = sum(shard.live for shard in self._shards)
            outlook = self.outlook._replace(live=live, shards=len(self._shards))
            write_sealed(folder / OUTLOOK, dump(outlook))
        record = replace(
            self.record,
            scope=scope,
            rows=len(self._rows) // self.renderer.recipe.output.votes,
            requests=requests,
            sources=tuple(self._sources),
            key=self._key(scope, digests),
        )
        return Draft(record, self._shards, outlook)

    def _key(self, scope: Scope, digests: bytearray) -> str:
        """Return what two calls share exactly when they ask the same of the same rows."""
        record = self.record
        told = json.dumps([*scope, record.name, record.output, self.index])
        key = hashlib.sha256(told.encode())
        reasons = [
            hashlib.sha256(f"{status} {why}".encode(errors="replace")).digest()[
                : catalog.DIGEST.itemsize
            ]
            for status, why in self._reasons
        ]
        for part in catalog.row_digests(self._rows, digests, reasons):
            key.update(part)
        return key.hexdigest()
