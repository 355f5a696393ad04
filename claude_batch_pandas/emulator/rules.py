"""What shall become of a request, by rule: the script of a test or of a demo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from claude_batch_pandas.emulator.checks import Frame, read_params
from claude_batch_pandas.emulator.media import Medium
from claude_batch_pandas.emulator.models import cache_minimum
from claude_batch_pandas.emulator.params import params_error
from claude_batch_pandas.emulator.prefixes import Boundary, boundaries
from claude_batch_pandas.emulator.prompts import last_user_text
from claude_batch_pandas.emulator.sources import Find, no_files
from claude_batch_pandas.exceptions import InputError

OUTCOMES = (
    "succeeded",
    "errored",
    "expired",
    "canceled",
    "refusal",
    "max_tokens",
    "pause_turn",
    "tool_use",
    "context_window",
    "empty",  # succeeded, without any text
    "unknown_type",  # a result type nobody knows yet
)

_UNANSWERED = {"errored", "expired", "canceled", "unknown_type"}


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What becomes of the requests it matches; the first rule that matches a request wins.

    A request must fit every condition that is given (`contains`, `model`, `every`); a rule without
    conditions matches all. Requests whose params the API refuses are errored before any rule.

    Parameters
    ----------
    outcome : str
        ``"succeeded"``, ``"errored"``, ``"expired"``, ``"canceled"``, ``"refusal"``,
        ``"max_tokens"``, ``"pause_turn"``, ``"tool_use"``, ``"context_window"``, ``"empty"`` (an
        answer without text) or ``"unknown_type"`` (a result type nobody knows).
    error_type, message : str
        The error of an errored request.
    flat : bool
        Write the error on one level, as some samples show it, instead of the API's two.
    contains : str, optional
        Matches when the last user text contains it.
    model : str, optional
        Matches requests to this model.
    every : int, optional
        Matches every n-th request of a batch: of four with ``every=2``, the second and the fourth.
    text : str, optional
        The answer to give.
    delay : float
        Seconds of the emulator's clock by which such a request holds its batch's end up.

    Examples
    --------
    >>> Rule(outcome="errored", error_type="overloaded_error", every=100).outcome
    'errored'
    """

    outcome: str
    error_type: str = "api_error"
    message: str = "[simulated] Internal server error"
    flat: bool = False
    contains: str | None = None
    model: str | None = None
    every: int | None = None
    text: str | None = None
    delay: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no request could ever follow."""
        if self.outcome not in OUTCOMES:
            message = f"No outcome {self.outcome!r}. A rule can ask for: {list(OUTCOMES)}."
            raise InputError(message)
        if self.every is not None and self.every < 1:
            message = f"every={self.every} matches nothing. Pass 1 or more."
            raise InputError(message)
        if self.delay < 0:
            message = f"delay={self.delay} is in the past. Pass 0 or more seconds."
            raise InputError(message)

    def matches(self, position: int, params: Mapping[str, Any]) -> bool:
        """Whether the request at this position of its batch falls under the rule."""
        if self.every is not None and (position + 1) % self.every:
            return False
        if self.model is not None and params.get("model") != self.model:
            return False
        return self.contains is None or self.contains in last_user_text(params)


class Plan(NamedTuple):
    """What was found out about the requests of a batch, by position."""

    rules: dict[int, Rule]  # what was decided; the others simply get an answer
    prefixes: dict[int, tuple[int, list[Boundary]]]  # what may be cached, and from what size on
    media: dict[str, Medium]  # the files that were found, by id


def plan(rules: Sequence[Rule], frames: Sequence[Frame], find: Find = no_files) -> Plan:
    """Read every request of a batch, once; `find` looks for the files that they name."""
    planned = Plan({}, {}, {})
    look = _noting(find, planned.media)
    for position, frame in enumerate(frames):
        params = read_params(frame, position)
        if error := params_error(params, find=look):
            planned.rules[position] = Rule(
                outcome="errored", error_type=error.type, message=error.message
            )
            continue
        rule = next((rule for rule in rules if rule.matches(position, params)), None)
        if rule is not None:
            planned.rules[position] = rule
        answered = rule is None or rule.outcome not in _UNANSWERED
        if answered and (prefixes := boundaries(params, look)):
            planned.prefixes[position] = (cache_minimum(params["model"]), prefixes)
    return planned


def _noting(find: Find, found: dict[str, Medium]) -> Find:
    """Return a function that finds the same, and notes it: files go, and answers come later."""

    def look(file_id: str) -> Medium | None:
        medium = find(file_id)
        if medium is not None:
            found[file_id] = medium
        return medium

    return look
