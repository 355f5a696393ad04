"""Which batch did a POST become? The server's list is searched, and results tell by custom_ids."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from claude_batch_pandas.answers import Reader
from claude_batch_pandas.client import Listing
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import APIError
from claude_batch_pandas.lines import lines_of
from claude_batch_pandas.polling import has_no_list
from claude_batch_pandas.reconcile import FENCE_MARGIN, candidates
from claude_batch_pandas.records import Batch, RunRecord, Shard
from claude_batch_pandas.requests import id_prefix
from claude_batch_pandas.results import read_tags
from claude_batch_pandas.scopes import check_scope, is_same_scope

ENOUGH = 100  # readable results of somebody else, and none of ours: the batch is not ours


class NoListError(Exception):
    """The server has no list of batches, so nothing can be looked for in it."""


class Found(NamedTuple):
    """What the server's list shows of a POST.

    Attributes
    ----------
    batches : list of Batch
        That it may have become.
    has_fence : bool
        Whether the list was asked for what is newer than the fence, so nothing is overlooked.
    now : float or None
        Seconds since 1970 by the server's clock.
    is_ours : bool
        Whether the answer names the run's organization and workspace, as far as those are known:
        of a list that does not say whose it is, nothing can be concluded.
    """

    batches: list[Batch]
    has_fence: bool
    now: float | None
    is_ours: bool


@dataclass(slots=True)
class Inquiry:
    """Asks the server what became of the submissions of a run.

    Parameters
    ----------
    engine : Engine
    reader : Reader
    """

    engine: Engine
    reader: Reader

    def find(self, record: RunRecord, shard: Shard, known: Collection[str]) -> Found:
        """Return the batches that a POST may have become.

        Parameters
        ----------
        record : RunRecord
        shard : Shard
            As it was sent: its fence, and when.
        known : collection of str
            Batch ids that are known to be something else.

        Raises
        ------
        NoListError
        PausedError
            When the key is another workspace's.
        APIError
        """
        listing, has_fence = self._newer_than_fence(record, shard)
        check_scope(listing.scope, record.scope)
        found = candidates(shard, listing.batches, known, has_fence=has_fence)
        return Found(found, has_fence, listing.now, is_same_scope(listing.scope, record.scope))

    def is_ours(self, record: RunRecord, shard: Shard, batch: Batch) -> bool | None:
        """Tell by the results whether a batch is this shard's; None when they do not tell.

        One custom_id of ours proves that it is. That none is there proves that it is not only when
        nothing is missing from what was read, or when much was read.
        """
        prefix = id_prefix(record.nonce, shard.attempt).decode()
        expected = frozenset(self.reader.expected(record, shard))
        lines = readable = 0
        download = self.engine.client.download(batch.id, shard.total)
        with contextlib.closing(download) as blocks:
            for tags in read_tags(lines_of(blocks)):
                for tag in tags:
                    lines += 1
                    if tag is None:
                        continue
                    if tag[0].startswith(prefix) and tag[0] in expected:
                        return True
                    readable += 1
                if readable >= ENOUGH or lines > shard.total:
                    break
        return False if readable and lines >= min(shard.total, ENOUGH) else None

    def _newer_than_fence(self, record: RunRecord, shard: Shard) -> tuple[Listing, bool]:
        """Return the batches that a POST may have become, and whether the fence told which."""
        client = self.engine.client
        if not shard.fence:
            return self._recent(record, shard), shard.fence == ""
        try:
            client.retrieve(shard.fence)  # the control: we look at the same list as before
            return client.list(before_id=shard.fence), True
        except APIError as error:
            if error.status not in {400, 404}:
                raise
        return self._recent(record, shard), False

    def _recent(self, record: RunRecord, shard: Shard) -> Listing:
        """Return what was created since about the intent, however many pages that is."""
        client = self.engine.client
        earliest = (shard.intended_at or 0.0) - FENCE_MARGIN
        try:
            newest = client.list()
            if not newest.has_older:
                return newest
            return newest._replace(batches=list(client.history(earliest)))
        except APIError as error:
            if not has_no_list(error) or record.scope.organization:
                raise
        raise NoListError
