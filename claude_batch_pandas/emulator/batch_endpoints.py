"""The Message Batches API: the life of batches, as calls see it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from random import Random
from threading import RLock
from typing import Any

import orjson
from werkzeug.wrappers import Response

from claude_batch_pandas.emulator.batches import BLOCK, PREFIX, SimulatedBatch
from claude_batch_pandas.emulator.caches import CacheUse, PromptCache
from claude_batch_pandas.emulator.checks import read_batch
from claude_batch_pandas.emulator.errors import RefusedError
from claude_batch_pandas.emulator.files import FileStore
from claude_batch_pandas.emulator.folder import SavedBatch, StateFolder, unreadable
from claude_batch_pandas.emulator.limits import Queue, Throttle
from claude_batch_pandas.emulator.media import Medium
from claude_batch_pandas.emulator.options import Options
from claude_batch_pandas.emulator.pages import Shelf, listing, read_cursor
from claude_batch_pandas.emulator.placeholders import placeholder
from claude_batch_pandas.emulator.rules import Plan, Rule, plan
from claude_batch_pandas.emulator.wire import Visit, answer, digest

_BASE_SECONDS = 2.0
_REQUESTS_PER_SECOND = 25_000
_CANCEL_SECONDS = 1.0


class BatchEndpoints:
    """Answers /v1/messages/batches and what is below it.

    Parameters
    ----------
    options : Options
        How batches run.
    cache : PromptCache
        Shared with the messages.
    throttle, queue : Throttle, Queue
        What the organization's tier allows.
    files : FileStore
        What requests may name; it is looked at when a batch is created, not when it ends.
    folder : StateFolder, optional
        Where batches are written down; without one they live in memory.

    Attributes
    ----------
    batches : list of SimulatedBatch
        All of them, oldest first.
    """

    def __init__(
        self,
        options: Options,
        cache: PromptCache,
        throttle: Throttle,
        queue: Queue,
        files: FileStore,
        folder: StateFolder | None = None,
    ) -> None:
        self.batches: list[SimulatedBatch] = []
        self._options = options
        self._cache = cache
        self._throttle = throttle
        self._queue = queue
        self._files = files
        self._folder = folder
        self._shelves: defaultdict[str, Shelf[SimulatedBatch]] = defaultdict(lambda: Shelf("batch"))
        self._lock = RLock()
        for saved in folder.batches() if folder else ():
            self._add(_restored(saved))

    def create(self, visit: Visit) -> Response:
        """Answer POST /v1/messages/batches."""
        self._admit()
        frames = read_batch(visit.body)
        planned = plan(visit.rules, frames, self._files.finder(visit.workspace))
        with self._lock:
            now = self._options.clock()
            self._queue.check(len(frames), now)
            about = self._about(visit, len(frames), now)
            batch = SimulatedBatch(
                frames=frames, planned=planned.rules, media=planned.media, **about
            )
            self._use_cache(batch, planned, now)
            self._keep(batch, about, visit)
            self._add(batch)
            return answer(batch.describe(now, visit.request.host_url, status="in_progress"))

    def list(self, visit: Visit) -> Response:
        """Answer GET /v1/messages/batches."""
        self._admit()
        lenient = self._options.permissive_ids
        cursor = read_cursor(visit.request.args, lenient=lenient)
        with self._lock:
            shelf = self._shelves[visit.workspace]
            page, more = shelf.page(cursor, self._shows, lenient=lenient)
            return answer(listing([self._look(batch, visit) for batch in page], more=more))

    def retrieve(self, visit: Visit) -> Response:
        """Answer GET /v1/messages/batches/{id}."""
        self._admit()
        with self._lock:
            return answer(self._look(self._find(visit), visit))

    def cancel(self, visit: Visit) -> Response:
        """Answer POST /v1/messages/batches/{id}/cancel."""
        self._admit()
        with self._lock:
            batch = self._find(visit)
            now = self._options.clock()
            settle = 0.0 if self._options.duration == 0 else _CANCEL_SECONDS / self._options.speed
            if not batch.cancel(now, settle):
                raise RefusedError(
                    400, f"Batch {batch.id} has ended; it cannot be canceled any more."
                )
            self._queue.note_end(batch)
            self._note(batch)
            return answer(batch.describe(now, visit.request.host_url, status="canceling"))

    def delete(self, visit: Visit) -> Response:
        """Answer DELETE /v1/messages/batches/{id}."""
        self._admit()
        with self._lock:
            batch = self._find(visit)
            batch.look()
            if not batch.has_ended(self._options.clock()):
                raise RefusedError(
                    400,
                    f"Batch {batch.id} is still processing. Cancel it, or wait until it has ended.",
                )
            batch.deleted = True
            self._note(batch)
            return answer({"id": batch.id, "type": "message_batch_deleted"})

    def results(self, visit: Visit) -> Response:
        """Answer GET /v1/messages/batches/{id}/results."""
        self._admit()
        with self._lock:
            batch = self._find(visit)
            if batch.look():
                self._note(batch)
            now = self._options.clock()
        if not batch.has_ended(now):
            raise RefusedError(404, f"Batch {batch.id} has no results yet; it is still processing.")
        if batch.is_archived(now):
            raise RefusedError(404, f"The results of batch {batch.id} are archived.")
        blocks = batch.blocks()
        # A small file goes out whole, with its length; a large one is written as it is read.
        whole = batch.total <= BLOCK
        return Response(b"".join(blocks) if whole else blocks, content_type="application/x-jsonl")

    def add_decoy(self, total: int, workspace: str, duration: float | None) -> SimulatedBatch:
        """Add a batch that somebody else sent."""
        params = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
        requests = [{"custom_id": f"theirs-{i}", "params": params} for i in range(total)]
        frames = read_batch(orjson.dumps({"requests": requests}))
        with self._lock:
            now = self._options.clock()
            batch = SimulatedBatch(
                id=self._name(now),
                frames=frames,
                planned={},
                created_at=now,
                duration=self._duration(total) if duration is None else duration,
                workspace=workspace,
                seed=self._options.seed,
            )
            self._add(batch)
            return batch

    def _shows(self, batch: SimulatedBatch) -> bool:
        """Tell whether the list has a batch."""
        is_late = self._options.clock() < batch.created_at + self._options.list_lag
        return not batch.deleted and not is_late

    def _name(self, now: float) -> str:
        return f"{PREFIX}{digest(self._options.seed, len(self.batches), now)}"

    def _about(self, visit: Visit, total: int, now: float) -> dict[str, Any]:
        """Return what is said of a new batch once and for all."""
        betas = visit.request.headers.get("anthropic-beta", "")
        return {
            "id": self._name(now),
            "created_at": now,
            "duration": self._duration(total),
            "workspace": visit.workspace,
            "betas": [name.strip() for name in betas.split(",") if name.strip()],
            "seed": self._options.seed,
            "moving_counts": self._options.moving_counts,
        }

    def _admit(self) -> None:
        with self._lock:
            self._throttle.admit(self._options.clock())

    def _duration(self, total: int) -> float:
        if self._options.duration is not None:
            return self._options.duration
        return (_BASE_SECONDS + total / _REQUESTS_PER_SECOND) / self._options.speed

    def _find(self, visit: Visit) -> SimulatedBatch:
        batch_id = visit.path["batch_id"]
        batch = self._shelves[visit.workspace].get(batch_id)
        if batch is not None and not batch.deleted:
            return batch
        if self._options.permissive_ids:
            return placeholder(batch_id, visit.workspace, self._options.clock())
        raise RefusedError(404, f"Batch {batch_id} not found.")

    def _look(self, batch: SimulatedBatch, visit: Visit) -> dict[str, Any]:
        if batch.look():
            self._note(batch)
        return batch.describe(self._options.clock(), visit.request.host_url)

    def _use_cache(self, batch: SimulatedBatch, planned: Plan, now: float) -> None:
        """Let the requests use the prompt cache, in the order in which they are answered."""
        dice = Random(f"{self._options.seed}/{batch.id}/cache")  # noqa: S311 - no secret
        for position in batch.order if planned.prefixes else ():
            if position not in planned.prefixes:
                continue
            minimum, prefixes = planned.prefixes[position]
            batch.cached[position] = self._cache.use(
                batch.workspace,
                prefixes,
                minimum=minimum,
                origin=batch.id,
                now=now,
                until=batch.ended_at,
                luck=dice.random(),
            )

    def _add(self, batch: SimulatedBatch) -> None:
        self.batches.append(batch)
        self._shelves[batch.workspace].add(batch)
        self._queue.add(batch)

    def _keep(self, batch: SimulatedBatch, about: dict[str, Any], visit: Visit) -> None:
        if self._folder is not None and visit.body is not None:
            more = {
                "sequence": len(self.batches),
                "rules": [asdict(rule) for rule in visit.rules],
                "cached": [[position, *use] for position, use in batch.cached.items()],
                "media": {name: [*medium] for name, medium in batch.media.items()},
            }
            self._folder.keep(batch.id, {**about, **more}, visit.body)

    def _note(self, batch: SimulatedBatch) -> None:
        # A placeholder is nobody's batch, and its id may be anything.
        is_kept = self._shelves[batch.workspace].get(batch.id) is batch
        if self._folder is not None and is_kept:
            self._folder.note(batch.id, batch.saved())


def _restored(saved: SavedBatch) -> SimulatedBatch:
    """Return a batch as it was when the server that wrote it ended."""
    about = saved.about
    try:
        frames = read_batch(saved.body)
        # The files are gone, or others; what they were is known.
        media = {name: Medium(*known) for name, known in about.pop("media", {}).items()}
        planned = plan([Rule(**rule) for rule in about.pop("rules")], frames, media.get)
        cached = {position: CacheUse(*use) for position, *use in about.pop("cached")}
        del about["version"], about["sequence"]
        batch = SimulatedBatch(frames=frames, planned=planned.rules, media=media, **about)
        batch.cached.update(cached)
        if saved.state is not None:
            batch.restore(saved.state)
    except (RefusedError, ValueError, KeyError, TypeError) as error:
        raise unreadable(saved.path, error) from error
    return batch
