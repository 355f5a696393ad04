"""Options: what a call uses when it is not told.

A per-call argument wins over an option that was set, that over the environment, that over the
default.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

from claude_batch_pandas.exceptions import InputError

PROGRESS = ("auto", "bar", "log", "none")
ON_UNKNOWN = ("resend", "ask", "wait")  # what to do when a submission cannot be found


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        msg = f"options.{name} must be a name, not {value!r}; for example 'claude-haiku-5-5'."
        raise InputError(msg)
    return value


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        msg = f"options.{name} must be a whole number of at least 1, not {value!r}."
        raise InputError(msg)
    return value


def _positive(name: str, value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value <= 0:
        msg = f"options.{name} must be a positive number, not {value!r}."
        raise InputError(msg)
    return float(value)


def _positive_or_none(name: str, value: Any) -> float | None:
    return None if value is None else _positive(name, value)


def _wait(name: str, value: Any) -> tuple[float, float]:
    if not isinstance(value, tuple | list) or len(value) != 2:  # noqa: PLR2004
        msg = f"options.{name} must be (first wait, longest wait) in seconds, not {value!r}."
        raise InputError(msg)
    first, longest = (_positive(name, part) for part in value)
    if first > longest:
        msg = f"options.{name} waits {first} s first but at most {longest} s; swap the two."
        raise InputError(msg)
    return first, longest


def _on_unknown(name: str, value: Any) -> str:
    if value not in ON_UNKNOWN:
        msg = f"options.{name} must be one of {', '.join(ON_UNKNOWN)}, not {value!r}."
        raise InputError(msg)
    return str(value)


def _yes_or_no(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        msg = f"options.{name} must be True or False, not {value!r}."
        raise InputError(msg)
    return value


def _progress(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return "auto" if value else "none"
    if value in PROGRESS or callable(value):
        return value
    msg = f"options.{name} must be one of {', '.join(PROGRESS)} or a function, not {value!r}."
    raise InputError(msg)


CHECKS: Mapping[str, tuple[Any, Callable[[str, Any], Any]]] = {
    "model": ("claude-haiku-5-5", _text),
    "max_tokens": (4096, _count),
    "max_in_flight": (100_000, _count),
    "poll_seconds": ((5.0, 60.0), _wait),
    "settle_seconds": (900.0, _positive),
    "on_unknown": ("resend", _on_unknown),
    "max_attempts": (3, _count),
    "max_cost_per_day": (None, _positive_or_none),
    "confirm_above": (10.0, _positive_or_none),
    "progress": ("auto", _progress),
    "canary": (True, _yes_or_no),
    "allow_http": (False, _yes_or_no),
}
ENVIRONMENT = {"model": "CLAUDE_BATCH_MODEL"}


class Options:
    """Settings of this process, checked when they are set.

    Attributes
    ----------
    model : str, default "claude-haiku-5-5"
        Or the environment variable ``CLAUDE_BATCH_MODEL``.
    max_tokens : int, default 4096
        Tokens an answer may have, thinking included.
    max_in_flight : int, default 100_000
        Requests of one run that wait at the API at once.
    poll_seconds : tuple of float, default (5.0, 60.0)
        First and longest wait between two looks at a batch, in seconds.
    settle_seconds : float, default 900.0
        How long a batch whose creation was not confirmed may take to show up in the list.
    on_unknown : {"resend", "ask", "wait"}, default "resend"
        What to do when the answer to a submission was lost, and `settle_seconds` later no batch of
        it is in the server's list: send it again, pause and ask you, or go on looking.
    max_attempts : int, default 3
        Batches a row may be part of by itself; `run.retry` is your own decision.
    max_cost_per_day : float or None, default None
        US dollars that all runs of this ledger may cost on one day (local time); what is on its way
        counts at the most that it can cost.
    confirm_above : float or None, default 10.0
        US dollars; with ``confirm=True``, a call that may cost more asks first.
    progress : {"auto", "bar", "log", "none"} or callable, default "auto"
    canary : bool, default True
        Ask one row of a large run at once, at the live price, before the others are sent.
    allow_http : bool, default False
        Send the key and the prompts to an unencrypted address of another machine, too.

    Raises
    ------
    InputError
        On an unknown name or a value that cannot be used.

    Examples
    --------
    >>> import claude_batch_pandas as cbp
    >>> cbp.options.max_tokens = 2048
    >>> cbp.options.max_tokens
    2048
    >>> cbp.options.reset()
    """

    model: str
    max_tokens: int
    max_in_flight: int
    poll_seconds: tuple[float, float]
    settle_seconds: float
    on_unknown: str
    max_attempts: int
    max_cost_per_day: float | None
    confirm_above: float | None
    progress: Any
    canary: bool
    allow_http: bool

    def __init__(self) -> None:
        object.__setattr__(self, "_set", {})

    def __getattr__(self, name: str) -> Any:
        if name not in CHECKS:
            raise AttributeError(_unknown(name))
        if name in self._set:
            return self._set[name]
        default, check = CHECKS[name]
        value = os.environ.get(ENVIRONMENT.get(name, ""))
        return check(name, value) if value else default

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in CHECKS:
            raise InputError(_unknown(name))
        self._set[name] = CHECKS[name][1](name, value)

    def __dir__(self) -> list[str]:
        return [*CHECKS, "reset"]

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in CHECKS)
        return f"Options({shown})"

    def reset(self) -> None:
        """Forget everything that was set."""
        self._set.clear()


def _unknown(name: str) -> str:
    return f"There is no option {name!r}. The options are: {', '.join(CHECKS)}."


options = Options()
