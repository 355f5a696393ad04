"""How long the API keeps results, and what is said while some are not on this disk. Pure."""

from __future__ import annotations

import time
from collections.abc import Sequence

from claude_batch_pandas.records import Shard, ShardState

DAY = 86_400.0
KEPT_DAYS = 29  # from the batch's creation, not its end (the page on batch processing)
WARNED_DAYS = (21, 27, 28)


def warning(run_id: str, shards: Sequence[Shard], now: float) -> str:
    """Say that results of a run wait at the API, which will delete them; empty while all is well.

    Something is said when a batch has ended, and from days 21, 27 and 28 on.

    Parameters
    ----------
    run_id : str
    shards : sequence of Shard
    now : float
        Seconds since 1970, by the server's clock where that is known.
    """
    waiting = [shard for shard in shards if shard.batch_id is not None and not shard.is_settled]
    created = min((shard.created_at for shard in waiting if shard.created_at), default=None)
    if created is None:
        return ""
    days = int((now - created) // DAY)
    is_late = days >= WARNED_DAYS[0]
    if not is_late and not any(shard.state is ShardState.ENDED for shard in waiting):
        return ""
    until = time.strftime("%d %B %Y", time.gmtime(created + KEPT_DAYS * DAY))
    batches = "1 batch" if len(waiting) == 1 else f"{len(waiting):,} batches"
    what = f"Results of run {run_id} are not on this disk yet ({batches})"
    how = f"Fetch them: claude_batch_pandas.run({run_id!r}).result()"
    if days >= KEPT_DAYS:
        return f"{what}; the API deleted them on {until}, {KEPT_DAYS} days after their creation."
    step = max((day for day in WARNED_DAYS if day <= days), default=0)
    left = ", within a day" if KEPT_DAYS - step == 1 else f", within {KEPT_DAYS - step} days"
    left = left if step else ""
    return f"{what}; the API deletes them on {until}{left}. {how}"
