"""What shows progress where we are: a card in a notebook, a bar in a terminal, lines in a log."""

from __future__ import annotations

import os
import sys
from typing import Any

from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.progress import Hook, Lines, TerminalBar, silent
from claude_batch_pandas.settings import PROGRESS, options


def hook_for(progress: Any) -> Hook:
    """Return what shows progress where we are: a notebook, a terminal, a log.

    Raises
    ------
    InputError
    """
    chosen = options.progress if progress is None else progress
    if callable(chosen):
        return chosen  # type: ignore[no-any-return]
    if isinstance(chosen, bool):
        chosen = "auto" if chosen else "none"
    if chosen not in PROGRESS:
        msg = f"progress must be one of {', '.join(PROGRESS)} or a function, not {chosen!r}."
        raise InputError(msg)
    if chosen == "none":
        return silent
    if chosen == "log":
        return Lines()
    from claude_batch_pandas.widgets import CellCard, in_notebook

    if in_notebook():
        return CellCard()
    return TerminalBar() if chosen == "bar" or _has_width() else Lines()


def _has_width() -> bool:
    """Tell whether standard error is a terminal, and one that does not say it is 0 wide."""
    if not sys.stderr.isatty():
        return False
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except (OSError, ValueError):
        return True
