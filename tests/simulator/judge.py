"""Who paid twice, and what was lost: asked of the server, never of the package's own books."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import pandas as pd

from claude_batch_pandas.results import UNREADABLE
from tests.simulator.world import UNBILLED, World

DOWNLOADS = 3  # bad ones of a batch, after which its rows may be called unreadable
DOLLARS = {"input_tokens": 0.05e-6, "output_tokens": 0.25e-6}  # of the model, in a batch
STOPS = {"refusal": "refused", "max_tokens": "truncated"}


@dataclass
class Counts:
    """What was found, over one schedule or many."""

    schedules: int = 0
    crashes: int = 0
    faults: int = 0
    double: int = 0  # requests that were billed twice
    lost: int = 0  # rows without an answer and without an honest status
    wrong: int = 0  # rows with the answer to something else
    foreign: int = 0  # batches of others that were adopted or canceled
    unfinished: int = 0  # schedules that did not end
    over_budget: int = 0  # schedules in which more was billed than the runs' caps allow

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return not any(getattr(self, name) for name in PROMISES)

    def add(self, other: Counts) -> None:
        """Count another one's too."""
        for one in fields(Counts):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


PROMISES = ("double", "lost", "wrong", "foreign", "unfinished", "over_budget")


class Outcome(NamedTuple):
    """What the server made of one request in one batch."""

    batch_id: str
    status: str
    text: str
    is_billed: bool
    dollars: float


@dataclass
class Judge:
    """Looks at one schedule after its end.

    Parameters
    ----------
    world : World
    allowed : mapping of str to int
        How many times more than once a person asked for a text to be asked, in so many words.
    """

    world: World
    allowed: Mapping[str, int]
    counts: Counts = field(default_factory=Counts)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._outcomes: dict[str, list[Outcome]] = defaultdict(list)
        for batch_id, text, result in self.world.results():
            self._outcomes[text].append(_outcome(batch_id, result))
        self._batches = Counter(
            batch_id for found in self._outcomes.values() for batch_id, *_ in found
        )

    def look_at_payments(self) -> None:
        """Count requests that were billed more often than anybody wanted."""
        for text, found in self._outcomes.items():
            billed = [outcome.batch_id[-6:] for outcome in found if outcome.is_billed]
            extra = len(billed) - 1 - self.allowed.get(text, 0)
            if extra > 0:
                self.counts.double += extra
                self.complaints.append(f"{text!r} was billed in {', '.join(billed)}")

    def look_at_dollars(self, most: float) -> None:
        """Count it when more was billed than all runs together may cost, in US dollars."""
        billed = sum(outcome.dollars for found in self._outcomes.values() for outcome in found)
        if billed > most * (1 + 1e-9):
            self.counts.over_budget += 1
            self.complaints.append(f"${billed:.7f} were billed, where ${most:.7f} were allowed")

    def look_at_batches(self, adopted: Collection[str]) -> None:
        """Count batches of others that were taken for ours, or canceled."""
        for batch_id in sorted(adopted):
            if batch_id not in self.world.ours:
                self.counts.foreign += 1
                self.complaints.append(f"{batch_id[-6:]} was adopted, and is somebody else's")
        for batch_id in self.world.foreign_cancels:
            self.counts.foreign += 1
            self.complaints.append(f"{batch_id[-6:]} was canceled, and is somebody else's")

    def look_at_rows(
        self, asked: Sequence[str | None], out: pd.DataFrame, *, may_be_late: bool = False
    ) -> None:
        """Count rows that were lost, and rows that have another one's answer.

        With `may_be_late`, answers may be in batches that showed up when nobody looked any more.
        """
        if len(out) != len(asked):
            self.counts.lost += abs(len(out) - len(asked))
            self.complaints.append(f"{len(asked)} rows became {len(out)}")
        rows = zip(asked, out["answer"], out["answer_status"], out["answer_error"], strict=False)
        for text, answer, status, error in rows:
            problem = self._problem(text, None if pd.isna(answer) else answer, str(status), error)
            if problem and not (may_be_late and problem[0] == "lost"):
                kind, words = problem
                setattr(self.counts, kind, getattr(self.counts, kind) + 1)
                self.complaints.append(f"row {text!r} is {status} ({error}), but {words}")

    def _problem(
        self, text: str | None, answer: str | None, status: str, error: Any
    ) -> tuple[str, str] | None:
        if text is None:
            return None if status == "skipped" else ("wrong", "asks nothing")
        found = self._outcomes[text]
        billed = [outcome for outcome in found if outcome.is_billed]
        if answer is not None and text.split()[0] not in answer:
            return "wrong", f"has the answer {answer!r}"
        if status == "errored" and error == UNREADABLE:
            damaged = self.world.damaged
            is_honest = any(damaged[outcome.batch_id] >= DOWNLOADS for outcome in found)
            return None if is_honest else ("lost", f"the server has {_told(found)}")
        # Who asks anew gets the newest answer, whatever was paid before.
        true = billed if billed and not self.allowed.get(text) else found
        if any(o.status == status and o.text == (answer or "") for o in true):
            return None
        # Whoever canceled it may have asked it anew, in another run and in so many words.
        is_elsewhere = not billed or self.allowed.get(text)
        if is_elsewhere and status == "canceled" and "before it was sent" in str(error):
            return None
        return "wrong" if answer is not None else "lost", f"the server has {_told(found)}"


def _outcome(batch_id: str, result: Mapping[str, Any]) -> Outcome:
    """Read one result as simply as can be."""
    kind = result["type"]
    if kind in UNBILLED:
        return Outcome(batch_id, kind, "", False, 0.0)
    message = result["message"]
    text = "".join(block.get("text", "") for block in message["content"])
    dollars = sum(message["usage"][kind] * price for kind, price in DOLLARS.items())
    return Outcome(batch_id, STOPS.get(message["stop_reason"], "succeeded"), text, True, dollars)


def _told(found: Sequence[Outcome]) -> str:
    return "; ".join(f"{o.status} in {o.batch_id[-6:]}" for o in found) or "never seen it"
