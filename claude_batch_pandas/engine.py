"""What every part of the engine is given: client, ledger, clock and settings, built elsewhere."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from weakref import WeakValueDictionary

from claude_batch_pandas.answers import Reader
from claude_batch_pandas.client import Client
from claude_batch_pandas.clock import Clock
from claude_batch_pandas.gathering import Gatherer, Parts
from claude_batch_pandas.outputs import Output
from claude_batch_pandas.spool import Spool
from claude_batch_pandas.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What a run needs to be driven: built by `session`, never by the parts that use it."""

    connect: Callable[[], Client]  # only called when the API is needed
    store: Store
    spool: Spool
    clock: Clock
    max_in_flight: int  # requests of a run that are open at once
    poll_seconds: tuple[float, float]
    settle_seconds: float
    max_cost_per_day: Decimal | None = None  # US dollars
    dice: random.Random = field(default_factory=random.Random)
    outputs: dict[str, Output] = field(default_factory=dict)  # of the calls of this process
    parts: Parts = field(default_factory=WeakValueDictionary)  # what somebody here still holds

    @property
    def client(self) -> Client:
        """The API."""
        return self.connect()

    def reader(self) -> Reader:
        """Make a reader of results; it remembers what it read."""
        return Reader(self.store, self.spool, self.outputs)

    def gatherer(self) -> Gatherer:
        """Make what gathers the results of whole runs as columns."""
        return Gatherer(self.reader(), self.parts)
