"""When to ask again, and what an error while asking means. Pure, but for the dice."""

from __future__ import annotations

import random
from enum import Enum

from claude_batch_pandas.exceptions import (
    ENDLESS,
    UNSENT,
    UNUSABLE,
    UNWRITABLE,
    APIError,
    CredentialsError,
)

GROWTH = 1.5
JITTER = 0.1  # of the wait, so that many runs do not ask in step
LASTING = 900.0  # seconds after which a 404 is no longer taken for a hiccup

# The server could not say; asking again is right. Everything else below 500 needs a person.
PASSING = frozenset({404, 408, 409, 425, 429, 499})

NO_LIST = frozenset({404, 405, 501})  # of a server that has no list of batches

# Codes of errors that only money mends, whatever their status.
SPENT = frozenset(
    {"enforced_spend_limit_reached", "contract_spend_limit_reached", "ramp_limit_exceeded"}
)

# A genuine API error with one of these came instead of a batch. 429 and 5xx prove nothing.
REFUSED = frozenset({400, 401, 402, 403, 404, 413, 422})


class Verdict(Enum):
    """What an error means for the run."""

    WAIT = "wait"  # passes by itself
    PAUSE = "pause"  # needs a person


class Pace:
    """The waits between two looks: the first, then half as long again each time, up to the longest.

    Parameters
    ----------
    first, longest : float
        Seconds.
    dice : random.Random
    """

    def __init__(self, first: float, longest: float, dice: random.Random) -> None:
        self._first, self._longest, self._dice = first, longest, dice
        self._wait = first

    def next(self) -> float:
        """Return the seconds to wait before the next look."""
        wait = min(self._wait * self._dice.uniform(1 - JITTER, 1 + JITTER), self._longest)
        self._wait = min(self._wait * GROWTH, self._longest)
        return wait

    def restart(self) -> None:
        """Begin with the first wait again, because something moved."""
        self._wait = self._first


def has_no_list(error: APIError) -> bool:
    """Tell whether a list was refused because the server, a relay perhaps, has none."""
    return error.status in NO_LIST


def is_refusal(error: APIError) -> bool:
    """Tell whether an error proves that the POST behind it created nothing.

    Everything that is not proof (a lost answer, a timeout, 429, 5xx) means that a batch may exist.
    """
    if error.code in {UNSENT, UNWRITABLE} or error.status == 413:  # noqa: PLR2004 - Cloudflare's is HTML
        return True
    return error.status in REFUSED and error.type is not None


def judge(error: APIError | CredentialsError, lasted: float) -> Verdict:
    """Tell whether an error met while asking passes by itself.

    Parameters
    ----------
    error : APIError or CredentialsError
    lasted : float
        Seconds since 404s began, without another answer between.
    """
    if isinstance(error, CredentialsError):
        return Verdict.PAUSE
    status = error.status
    if error.code in {UNWRITABLE, UNUSABLE, ENDLESS}:
        return Verdict.PAUSE
    if status is None or status in {429, 404} or status >= 500 or status < 400:  # noqa: PLR2004
        return Verdict.PAUSE if status == 404 and lasted >= LASTING else Verdict.WAIT  # noqa: PLR2004
    return Verdict.WAIT if status in PASSING else Verdict.PAUSE


BUSY = "It is busy or in trouble; call again later, nothing is lost."
HINTS = {
    401: "Check the API key, then call again; the run goes on where it is.",
    403: "The key may not do this; check its workspace and permissions, then call again.",
    404: "The batch is not visible: it belongs to another workspace or key, or was deleted. "
    "Use the key that sent it, then call again; of one that was deleted, run.cancel() ends the run.",
    429: BUSY,
}
HINTS_OF_SENDING = HINTS | {
    404: "The server takes no batches at this address; check ANTHROPIC_BASE_URL, then call again.",
    413: "The server takes less at once; ask with a smaller shard_size= and reuse=False.",
}


def explain(error: APIError | CredentialsError, *, is_sending: bool = False) -> str:
    """Return what a paused run says about the error behind it.

    Parameters
    ----------
    error : APIError or CredentialsError
    is_sending : bool
        Whether a batch was being sent, not looked at.
    """
    if isinstance(error, CredentialsError):
        return str(error)
    hints = HINTS_OF_SENDING if is_sending else HINTS
    status = error.status or 0
    is_theirs = status >= 500  # noqa: PLR2004
    otherwise = BUSY if is_theirs else "Mend the cause, then call again; nothing is lost."
    hint = hints.get(status, otherwise)
    return f"{error} {hint}"
