"""Tracebacks and warnings that end at the door: our frames hold rows, and some tools show locals.

IPython's ``%xmode Verbose``, Sentry and rich print the variables of every frame. An error of ours
says in words what is wrong, so its traceback shows the caller's frames and no more; a bug of ours,
which is any other exception, keeps all of its own.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from claude_batch_pandas.exceptions import BatchError

HERE = str(Path(__file__).parent)


class Curtain:
    """A context for what is called from outside: lets its errors pass without its frames."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, BatchError | KeyboardInterrupt):
            _raise(error)


def warn(words: str) -> None:
    """Warn of something, at the caller's line: the first that is not ours."""
    frame, level = sys._getframe(1), 2  # noqa: SLF001 - warnings counts frames itself
    while frame.f_back is not None and frame.f_code.co_filename.startswith(HERE):
        frame, level = frame.f_back, level + 1
    warnings.warn(words, UserWarning, stacklevel=level)


def _raise(error: BaseException) -> NoReturn:
    behind = error.__cause__ or error.__context__
    while behind is not None:  # what a template function did wrong is the caller's, and stays
        behind.__traceback__ = _without_ours(behind.__traceback__)
        behind = behind.__cause__ or behind.__context__
    raise error.with_traceback(None)


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    if trace is None:
        return None
    rest = _without_ours(trace.tb_next)
    if trace.tb_frame.f_code.co_filename.startswith(HERE):
        return rest
    return TracebackType(rest, trace.tb_frame, trace.tb_lasti, trace.tb_lineno)
