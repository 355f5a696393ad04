"""When each shard of a run is looked at again, and what is told of the waiting."""

from __future__ import annotations

from dataclasses import dataclass, field

from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import APIError, CredentialsError, PausedError
from claude_batch_pandas.polling import Pace, Verdict, explain, judge
from claude_batch_pandas.records import Shard


@dataclass(slots=True)
class Agenda:
    """When to look at a shard again, and what is known of it beyond the ledger."""

    pace: Pace
    due: float = 0.0  # on the monotonic clock
    missing_since: float | None = None  # when the batch began to be a 404
    refusal: str = ""  # the API's own words, when it said that it did not take the batch
    rejected: set[str] = field(default_factory=set)  # candidates that were inspected
    unknown_since: float | None = None  # when the answer to the POST was lost
    was_sent_here: bool = False  # by this process, which therefore knows when
    pause: PausedError | None = None  # a person is needed; the other shards go on meanwhile


@dataclass(slots=True)
class Waits:
    """The agendas of a run's shards.

    Parameters
    ----------
    engine : Engine

    Attributes
    ----------
    note : str
        What is being waited for, in words.
    quiet_until : float
        On the monotonic clock; the server asked not to be asked before.
    """

    engine: Engine
    note: str = ""
    quiet_until: float = 0.0
    _agendas: dict[int, Agenda] = field(default_factory=dict)

    @property
    def now(self) -> float:
        """The monotonic clock, in seconds."""
        return self.engine.clock.monotonic()

    @property
    def is_quiet(self) -> bool:
        """Whether nothing shall be asked now."""
        return self.now < self.quiet_until

    def agenda(self, shard: Shard) -> Agenda:
        """Return the agenda of a shard."""
        if shard.number not in self._agendas:
            self._agendas[shard.number] = Agenda(self.pace())
        return self._agendas[shard.number]

    def pace(self) -> Pace:
        """Return a pace of looks, from the first wait on."""
        return Pace(*self.engine.poll_seconds, self.engine.dice)

    def forget(self, shard: Shard) -> None:
        """Begin anew with a shard."""
        self._agendas.pop(shard.number, None)

    def wait(self, agenda: Agenda, seconds: float | None = None) -> None:
        """Look again after that many seconds, or at the agenda's own pace."""
        agenda.due = self.now + (agenda.pace.next() if seconds is None else seconds)

    def hush(self, seconds: float | None) -> None:
        """Ask nothing for as long as the server asked."""
        if seconds is not None:
            self.quiet_until = max(self.quiet_until, self.now + seconds)

    def weather(self, error: APIError | CredentialsError, agenda: Agenda) -> None:
        """Wait out an error that passes by itself.

        Raises
        ------
        PausedError
            For one that does not.
        """
        is_missing = isinstance(error, APIError) and error.is_missing
        if not is_missing:
            agenda.missing_since = None
        elif agenda.missing_since is None:
            agenda.missing_since = self.now
        since = self.now if agenda.missing_since is None else agenda.missing_since
        if judge(error, self.now - since) is Verdict.PAUSE:
            raise PausedError(explain(error))
        asked = error.retry_after if isinstance(error, APIError) else None
        self.hush(asked)
        self.wait(agenda, asked)
        self.note = f"{error} Asking again in {agenda.due - self.now:.0f} s."
