"""Caps on dollars: what is spent or reserved, and whether a shard still fits under them.

What is sent is reserved at the most that it can cost, and counts as that until its usage tells. Pure.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from claude_batch_pandas.money import show

LIVE, LOST = 2, 3  # times the price of a batch: asked at once, and once more where that was lost
WAYS_OUT = "raise the cap, send fewer rows, or set a smaller max_tokens"


class Charge(NamedTuple):
    """What one submission counts as: what it came to, or else the most that it can."""

    spent: Decimal | None
    reserved: Decimal | None

    @property
    def dollars(self) -> Decimal | None:
        """US dollars, None when nobody can say."""
        return self.reserved if self.spent is None else self.spent


class Committed(NamedTuple):
    """What is spent or reserved under a cap.

    Attributes
    ----------
    dollars : Decimal
        US dollars.
    unknown : int
        Submissions beside that, of which nobody can say what they cost at most.
    """

    dollars: Decimal = Decimal(0)
    unknown: int = 0

    @classmethod
    def of(cls, charges: Iterable[Charge]) -> Committed:
        """Return the sum of some charges."""
        told = [charge.dollars for charge in charges]
        known = [dollars for dollars in told if dollars is not None]
        return cls(sum(known, Decimal(0)), len(told) - len(known))


class Cap(NamedTuple):
    """What shall not be passed when something is sent.

    Attributes
    ----------
    reserve : Decimal or None
        US dollars that it can cost at most; None when nobody can say.
    at : float
        Now, in seconds since 1970 on this machine's clock.
    per_day : Decimal or None
        ``options.max_cost_per_day``.
    what : str
        Is to be sent, in words.
    """

    reserve: Decimal | None
    at: float
    per_day: Decimal | None = None
    what: str = "What goes out next"

    @property
    def since(self) -> float:
        """When the day began, in local time."""
        return start_of_day(self.at)

    def refusal(self, per_run: Decimal | None, run: Committed, day: Committed) -> str:
        """Return why something may not be sent; empty when it may.

        Parameters
        ----------
        per_run : Decimal or None
            ``max_cost`` of the run.
        run, day : Committed
            What is spent or reserved already, of the run and of this day.
        """
        if per_run is not None and (why := self._why(f"max_cost={per_run}", per_run, run)):
            return why
        if self.per_day is None:
            return ""
        return self._why(f"options.max_cost_per_day={self.per_day}", self.per_day, day, " today")

    def _why(self, name: str, most: Decimal, committed: Committed, when: str = "") -> str:
        if self.reserve is None or committed.unknown:
            what = "what it can cost at most" if self.reserve is None else f"what was sent{when}"
            return (
                f"{name} cannot be kept: {what} is not known (the price of a model, or what the "
                "API's own tools read). Choose a model with a known price, or take the cap away."
            )
        if committed.dollars + self.reserve <= most:
            return ""
        used = f" {show(committed.dollars)} of it is spent or reserved{when}." * bool(
            committed.dollars
        )
        return (
            f"{self.what} can cost up to {show(self.reserve)}, more than {name} allows.{used} "
            f"To go on, {WAYS_OUT}."
        )


def start_of_day(now: float) -> float:
    """Return when a day began in local time, in seconds since 1970."""
    day = time.localtime(now)
    return time.mktime((day.tm_year, day.tm_mon, day.tm_mday, 0, 0, 0, 0, 0, -1))
