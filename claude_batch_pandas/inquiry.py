"""Which batch did a POST become? The server's list is searched, and results tell by custom_ids."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from claude_batch_pandas import resending
from claude_batch_pandas.answers import Reader
from claude_batch_pandas.client import Listing
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import APIError, PausedError
from claude_batch_pandas.polling import has_no_list
from claude_batch_pandas.reconcile import FENCE_MARGIN, candidates
from claude_batch_pandas.records import Batch, RunRecord, Shard
from claude_batch_pandas.requests import id_prefix
from claude_batch_pandas.results import read_tags
from claude_batch_pandas.scopes import check_scope

ENOUGH = 100  # readable results of somebody else, and none of ours: the batch is not ours


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
    """

    batches: list[Batch]
    has_fence: bool
    now: float | None


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
        PausedError
            When the key is another workspace's, or the server has no list.
        APIError
        """
        listing, has_fence = self._newer_than_fence(record, shard)
        check_scope(listing.scope, record.scope)
        found = candidates(shard, listing.batches, known, has_fence=has_fence)
        return Found(found, has_fence, listing.now)

    def is_ours(self, record: RunRecord, shard: Shard, batch: Batch) -> bool | None:
        """Tell by the results whether a batch is this shard's; None when they do not tell.

        One custom_id of ours proves that it is. That none is there proves that it is not only when
        nothing is missing from what was read, or when much was read.
        """
        prefix = id_prefix(record.nonce, shard.attempt).decode()
        expected = frozenset(self.reader.expected(record, shard))
        lines = readable = 0
        with contextlib.closing(self.engine.client.download(batch.id)) as blocks:
            for tags in read_tags(resending.lines_of(blocks)):
                for tag in tags:
                    lines += 1
                    if tag is None:
                        continue
                    if tag[0].startswith(prefix) and tag[0] in expected:
                        return True
                    readable += 1
                if readable >= ENOUGH:
                    return False
        return False if readable and lines == batch.counts.total else None

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
        msg = (
            f"The answer to the submission of shard {shard.number} was lost, and this server has "
            "no list of batches to look for it in. It may have been accepted, so it is not sent "
            "again; run the cell with reuse=False to ask anew, at the price of asking twice."
        )
        raise PausedError(msg)
