"""Asks a person before much is spent."""

from __future__ import annotations

import sys

from claude_batch_pandas.estimates import Estimate
from claude_batch_pandas.exceptions import CostLimitError, InputError
from claude_batch_pandas.widgets import in_notebook

YES = frozenset({"y", "yes"})


def ask(estimate: Estimate, above: float | None) -> None:
    """Ask whether to send what was estimated, where it can cost more than some US dollars.

    Parameters
    ----------
    estimate : Estimate
    above : float or None
        ``options.confirm_above``; None asks never.

    Raises
    ------
    CostLimitError
        When the answer is not yes.
    InputError
        When nobody can be asked.
    """
    is_little = (
        estimate.dollars is not None and above is not None and estimate.dollars.high <= above
    )
    if above is None or is_little:
        return
    words = f"{estimate.requests - estimate.answered:,} requests: {estimate.words}."
    answer = _answer(f"{words} Send them? [y/N] ")
    if answer is None:
        msg = (
            f"confirm=True, and nobody is here to be asked. Nothing was sent. {words} Leave "
            f"confirm= out, or set options.confirm_above={above} higher."
        )
        raise InputError(msg)
    if answer.strip().lower() not in YES:
        msg = "Nothing was sent: it was not confirmed."
        raise CostLimitError(msg)


def _answer(question: str) -> str | None:
    """Return what a person answers; None where nobody can, as in a notebook that a tool runs."""
    if not in_notebook() and not sys.stdin.isatty():
        return None
    try:
        return input(question)
    except (EOFError, NotImplementedError):
        return None
