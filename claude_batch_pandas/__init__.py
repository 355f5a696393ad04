"""Run Claude over a DataFrame through the Message Batches API, at half price.

Importing this registers ``df.claude`` and ``s.claude``. Everything heavy is imported when it is
first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claude_batch_pandas import accessor
from claude_batch_pandas.exceptions import (
    APIError,
    BatchError,
    ChangedFrameError,
    CredentialsError,
    InputError,
    LedgerError,
    PausedError,
    RunNotFoundError,
    WaitTimeoutError,
)
from claude_batch_pandas.settings import options

if TYPE_CHECKING:
    from claude_batch_pandas import emulator
    from claude_batch_pandas.exports import export
    from claude_batch_pandas.finding import attach, recover, run, runs, verify
    from claude_batch_pandas.handles import Run

__version__ = "0.1.0"

__all__ = [
    "APIError",
    "BatchError",
    "ChangedFrameError",
    "CredentialsError",
    "InputError",
    "LedgerError",
    "PausedError",
    "Run",
    "RunNotFoundError",
    "WaitTimeoutError",
    "attach",
    "emulator",
    "export",
    "options",
    "recover",
    "run",
    "runs",
    "verify",
]

_LAZY = {
    "Run": "claude_batch_pandas.handles",
    "emulator": "claude_batch_pandas.emulator",
    "export": "claude_batch_pandas.exports",
    "attach": "claude_batch_pandas.finding",
    "recover": "claude_batch_pandas.finding",
    "run": "claude_batch_pandas.finding",
    "runs": "claude_batch_pandas.finding",
    "verify": "claude_batch_pandas.finding",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    import importlib

    module = importlib.import_module(_LAZY[name])
    found = module if name == "emulator" else getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


accessor.register()
