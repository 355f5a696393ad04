"""When the API takes no more: how long the next shard is held back. Pure, but for the dice."""

from __future__ import annotations

import random

from claude_batch_pandas.polling import Pace

SECONDS = 300.0  # a full queue is asked again after this, even if no shard of ours ended
PACE = (15.0, SECONDS)  # and in these steps when none of ours is in it


class Hold:
    """Stops the sending of shards for a while.

    Parameters
    ----------
    dice : random.Random

    Attributes
    ----------
    until : float
        On the monotonic clock; 0 when nothing is held.
    why : str
        In words.
    """

    def __init__(self, dice: random.Random) -> None:
        self.until, self.why = 0.0, ""
        self._open: int | None = None  # open shards when the queue was full
        self._pace = Pace(*PACE, dice)

    def begin(self, now: float, others: int, asked: float | None) -> None:
        """Hold back: as long as was asked, or until a shard ends when the queue is full.

        Parameters
        ----------
        now : float
            On the monotonic clock.
        others : int
            Shards that are open beside the one that was refused.
        asked : float or None
            Seconds the API asked to wait.
        """
        self._open = 0
        if asked is not None:
            self.until = now + asked
            self.why = f"the API asked to wait {asked:.0f} s"
        elif others:
            self.until, self._open = now + SECONDS, others
            self.why = "the API takes no more for now (its queue, or a rate); the next shard waits for one to end"
        else:
            self.until = now + self._pace.next()
            self.why = "the API takes no more for now (its queue, or a rate); the next shard waits"

    def is_on(self, now: float, open_: int) -> bool:
        """Tell whether shards are held back; a hold that is over is forgotten."""
        if self._open is None:
            return False
        if open_ >= self._open and now < self.until:
            return True
        self._open, self.until = None, 0.0
        return False

    def succeed(self) -> None:
        """Note that the API took a shard: the next hold begins short again."""
        self._pace.restart()
