"""The prompt cache: which prefix of a request was seen before, by workspace, and for how long.

In `/v1/messages` every prefix that is there is read. In a batch hits are best effort, as the API
says: requests run side by side, and an entry serves only those that come after it. Here a share of
the requests misses, always the same ones for a seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

from claude_batch_pandas.emulator.prefixes import Boundary

_SECONDS = {"5m": 300.0, "1h": 3_600.0}
_LOOKBACK = 20  # blocks before a breakpoint in which an older entry is found
_CROWD = 10_000  # entries after which expired ones are looked for
_COLD_SHARE = 0.6  # of the requests of a batch that read what the same batch wrote
_WARM_SHARE = 0.95  # of those that read what was there before


class CacheUse(NamedTuple):
    """What one request read from the cache and wrote to it, in tokens."""

    read: int = 0
    written_5m: int = 0
    written_1h: int = 0

    @property
    def written(self) -> int:
        """All that was written."""
        return self.written_5m + self.written_1h


UNUSED = CacheUse()


class _Entry(NamedTuple):
    origin: str  # the batch or call that wrote it
    expires_at: float
    ttl: str


class PromptCache:
    """Prefixes that were written and have not expired."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, bytes], _Entry] = {}
        self._crowd = _CROWD
        self._lock = Lock()

    def use(
        self,
        workspace: str,
        prefixes: Sequence[Boundary],
        *,
        minimum: int,
        origin: str,
        now: float,
        until: float,
        luck: float = 0.0,
    ) -> CacheUse:
        """Read what is there of a request's prefixes, and write the rest up to its breakpoints.

        Parameters
        ----------
        workspace : str
            Workspaces do not share entries.
        prefixes : sequence of Boundary
            Of the request.
        minimum : int
            Tokens below which nothing is cached.
        origin : str
            The batch, or the call, that the request belongs to.
        now, until : float
            When the request starts, and when the entries it used begin to age.
        luck : float
            From 0 to 1; the unlucky miss in a batch.
        """
        marks = [i for i, prefix in enumerate(prefixes) if prefix.ttl and prefix.tokens >= minimum]
        if not marks:
            return UNUSED
        with self._lock:
            hit = self._find(workspace, prefixes, marks, now)
            if hit is not None and not self._serves(workspace, prefixes[hit], origin, luck):
                hit = None
            if hit is not None:
                self._refresh(workspace, prefixes[hit], until)
            read = prefixes[hit].tokens if hit is not None else 0
            written = {"5m": 0, "1h": 0}
            done = read
            for mark in marks:
                prefix = prefixes[mark]
                if hit is not None and mark <= hit:
                    continue
                written[prefix.ttl or "5m"] += prefix.tokens - done
                done = prefix.tokens
                self._write(workspace, prefix, origin, now, until)
            self._forget_expired(now)
        return CacheUse(read, written["5m"], written["1h"])

    def _find(
        self, workspace: str, prefixes: Sequence[Boundary], marks: list[int], now: float
    ) -> int | None:
        """Return the longest prefix that is there, looking back a little from each breakpoint."""
        for mark in reversed(marks):
            for position in range(mark, max(-1, mark - _LOOKBACK - 1), -1):
                entry = self._entries.get((workspace, prefixes[position].key))
                if entry is not None and entry.expires_at > now:
                    return position
        return None

    def _serves(self, workspace: str, prefix: Boundary, origin: str, luck: float) -> bool:
        entry = self._entries[workspace, prefix.key]
        return luck < (_COLD_SHARE if entry.origin == origin else _WARM_SHARE)

    def _refresh(self, workspace: str, prefix: Boundary, until: float) -> None:
        """Let an entry live on: each use starts its time anew."""
        entry = self._entries[workspace, prefix.key]
        expires_at = max(entry.expires_at, until + _SECONDS[entry.ttl])
        self._entries[workspace, prefix.key] = entry._replace(expires_at=expires_at)

    def _write(
        self, workspace: str, prefix: Boundary, origin: str, now: float, until: float
    ) -> None:
        """Write an entry; one that lives, and was only missed, keeps its origin."""
        entry = _Entry(origin, until + _SECONDS[prefix.ttl or "5m"], prefix.ttl or "5m")
        known = self._entries.get((workspace, prefix.key))
        if known is not None and known.expires_at > now:
            longest = max(known, entry, key=lambda one: one.expires_at)
            entry = longest._replace(origin=known.origin)
        self._entries[workspace, prefix.key] = entry

    def _forget_expired(self, now: float) -> None:
        """Drop what has expired, now and then, so that a long-lived server does not grow."""
        if len(self._entries) > self._crowd:
            self._entries = {k: e for k, e in self._entries.items() if e.expires_at > now}
            self._crowd = max(_CROWD, 2 * len(self._entries))
