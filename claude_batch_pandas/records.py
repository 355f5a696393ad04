"""The nouns: what the other files hand to each other.

Plain frozen values without behaviour. Times are seconds since 1970 (UTC), sizes are bytes, money
is US dollars. Nothing here knows pandas, the SDK or the disk.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple


class RowStatus(StrEnum):
    """What became of one row; the categories of the ``<output>_status`` column."""

    SUCCEEDED = "succeeded"  # an answer, possibly an empty one
    REFUSED = "refused"  # the model declined (stop_reason refusal)
    TRUNCATED = "truncated"  # cut by max_tokens, the context window or an unfinished turn
    INVALID = "invalid"  # the row can never be sent: too large, or not UTF-8
    ERRORED = "errored"  # the API failed this request; not billed
    EXPIRED = "expired"  # 24 hours went by before its turn; not billed
    CANCELED = "canceled"  # canceled before its turn; not billed
    SKIPPED = "skipped"  # missing or empty input; never sent
    PROCESSING = "processing"  # no result yet; only in a partial result


class RunState(StrEnum):
    """Where a run is; shown in `repr(run)` and ``cbp.runs()``."""

    PREPARING = "preparing"  # rows are being rendered; nothing is sent yet
    SUBMITTING = "submitting"  # shards are being sent
    CHECKING = "checking"  # was a submission accepted? the server's list is being asked
    IN_PROGRESS = "in_progress"  # every shard is at the API
    CANCELING = "canceling"  # a cancel was asked for; what is done is kept
    COLLECTING = "collecting"  # results are being downloaded
    PAUSED = "paused"  # a person is needed: key, credit, a refused submission
    ENDED = "ended"  # every result is on this disk
    PURGED = "purged"  # the local data was deleted


class ShardState(StrEnum):
    """Where a shard is; the ledger keeps one row per shard."""

    PLANNED = "planned"  # its body is on disk; nothing was sent
    SUBMITTING = "submitting"  # the intent is on disk; a POST may have happened
    IN_PROGRESS = "in_progress"  # the API gave it a batch id
    CANCELING = "canceling"  # the API was asked to cancel it
    ENDED = "ended"  # the API is done with it; results wait at the API
    COLLECTED = "collected"  # its results are verified and on this disk
    WITHDRAWN = "withdrawn"  # canceled before it was ever sent


KEY_WORKSPACE = "key-"  # begins the workspace of a scope whose server names none


def key_workspace(fingerprint: str | None) -> str:
    """Return the workspace of a key whose server names none; the key itself is the border."""
    return f"{KEY_WORKSPACE}{fingerprint or 'rotating'}"


class Scope(NamedTuple):
    """Where an answer is valid: answers of one scope never serve another."""

    origin: str  # scheme, host, port and path prefix of the API
    organization: str  # as the API's response headers name it
    workspace: str  # likewise; a fingerprint of the key where they do not


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """`request_counts` of a batch, in requests. They stay at `processing` until it ends."""

    processing: int = 0
    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0

    @property
    def total(self) -> int:
        """All requests of the batch; the API keeps this sum constant."""
        return self.processing + self.succeeded + self.errored + self.canceled + self.expired


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A Message Batch as the API describes it."""

    id: str
    processing_status: str  # in_progress, canceling, ended
    counts: Counts
    created_at: float
    expires_at: float  # 24 hours after created_at
    ended_at: float | None = None
    archived: bool = False  # results are gone, 29 days after created_at


LOST = "lost"  # in place of a canary's shape, when its answer was lost and may have been paid


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """The part of a run that becomes one batch; one row of the ledger."""

    run_id: str
    number: int  # position within the run, from 0
    attempt: int  # how often its requests were planned; part of their custom_ids
    total: int  # requests
    size: int  # bytes of the body
    sha256: str  # of the body
    betas: tuple[str, ...] = ()  # the anthropic-beta header
    state: ShardState = ShardState.PLANNED
    fence: str | None = None  # newest batch id before the POST; "" when there was none
    intended_at: float | None = None  # when the intent became durable
    batch_id: str | None = None
    created_at: float | None = None
    expires_at: float | None = None
    counts: Counts | None = None
    results_sha256: str | None = None
    complete: bool = True  # False when some rows have no readable result
    live: bool = False  # its one request goes through the Messages API, at the live price
    shape: str = ""  # of a canary: what its answer proves about the requests like it
    load: str = ""  # what its requests weigh, as `weights` writes it; "" when nobody weighed them
    reserved_at: float | None = None  # when it was sent last, on this machine's clock
    reserved: Decimal | None = None  # US dollars that it can cost at most; None when unknown
    spent: Decimal | None = None  # what it did cost, once somebody had to know

    @property
    def is_open(self) -> bool:
        """Whether its requests count against the API's queue, or may."""
        return self.state in OPEN_STATES

    @property
    def is_settled(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in {ShardState.COLLECTED, ShardState.WITHDRAWN}


OPEN_STATES = frozenset({ShardState.SUBMITTING, ShardState.IN_PROGRESS, ShardState.CANCELING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """A submission of a shard that another one took the place of; it may be a batch all the same.

    Its answer was lost, or said that it was refused, and nothing showed up, so the shard was sent
    again. Should it show up later, one of the two is the shard's batch, and this is the other.
    """

    run_id: str
    number: int  # of the shard
    attempt: int
    fence: str | None = None  # as of a shard
    intended_at: float | None = None
    batch_id: str | None = None  # once it showed up
    refused: bool = False  # the API said, in its own words, that it did not take it
    settled: bool = False  # nothing more will happen to it
    dollars: Decimal = Decimal(0)  # what it cost, as far as prices are known; 0 until settled
    unpriced: int = 0  # its answers of unknown price
    reserved_at: float | None = None  # as of a shard
    reserved: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One call over one frame; one row of the ledger. It holds no prompt text."""

    id: str
    name: str
    key: str  # what makes a rerun of the same cell the same run
    scope: Scope
    nonce: str  # 16 hex digits, in every custom_id
    model: str
    output: str
    rows: int
    requests: int  # unique requests, reused ones included
    created_at: float
    ended_at: float | None = None  # when the last result was here
    reuse: bool = True
    sources: tuple[str, ...] = ()  # runs whose requests this one reuses
    reasons: tuple[tuple[str, str], ...] = ()  # of runs of older versions: (status, why) of rows
    state: RunState = RunState.SUBMITTING
    note: str = ""  # why it is paused, in words
    cancel: bool = False  # canceling was asked for
    attached: bool = False  # its batch was not sent from this ledger
    on_unknown: str = "resend"  # what to do when a submission cannot be found
    max_attempts: int = 3  # batches that a row may be part of by itself
    keep_requests: bool = True  # False: their bodies go as soon as the API has them
    warm: bool = False  # one request goes first, alone, and fills the prompt cache
    max_cost: Decimal | None = None  # US dollars that it may cost at most
    max_cost_per_day: Decimal | None = None  # that all runs of a day may, where it was made


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a progress hook is handed. Shards and downloaded rows move; counts rarely do."""

    run_id: str
    name: str
    state: RunState
    rows: int
    requests: int
    shards: int
    submitted: int = 0  # shards that have a batch id
    ended: int = 0  # shards the API is done with
    collected: int = 0  # shards whose results are on this disk
    downloaded: int = 0  # requests whose results are on this disk
    counts: Counts = field(default_factory=Counts)  # summed over the shards that report
    elapsed: float = 0.0  # seconds since the run was made
    expires_in: float | None = None  # seconds until the first open batch expires
    note: str = ""  # what is being waited for, in words
    summary: str = ""  # the closing line, once ended
    dollars: Decimal | None = None
    measured_at: float = 0.0  # seconds since 1970

    def at(self, now: float) -> Progress:
        """Return this progress some time later, when nothing but the time has moved."""
        passed = now - self.measured_at
        if self.is_over or not self.measured_at or passed <= 0:
            return self
        left = None if self.expires_in is None else max(0.0, self.expires_in - passed)
        return replace(self, elapsed=self.elapsed + passed, expires_in=left, measured_at=now)

    @property
    def is_over(self) -> bool:
        """Whether nothing will move without a person."""
        return self.state in {RunState.ENDED, RunState.PAUSED, RunState.PURGED}
