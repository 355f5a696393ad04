"""Run Claude over a DataFrame through the Message Batches API, at half price.

Importing this registers ``df.claude`` and ``s.claude``. Everything heavy is imported when it is
first used. The exceptions are in ``claude_batch_pandas.exceptions``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claude_batch_pandas import accessor, exceptions
from claude_batch_pandas.accessor import batch
from claude_batch_pandas.exceptions import BatchError
from claude_batch_pandas.settings import options

if TYPE_CHECKING:
    from claude_batch_pandas import emulator
    from claude_batch_pandas.blocks import document, image
    from claude_batch_pandas.exceptions import *  # noqa: F403 - as `__getattr__` has them
    from claude_batch_pandas.exports import export
    from claude_batch_pandas.finding import attach, recover, run
    from claude_batch_pandas.handles import Run
    from claude_batch_pandas.listing import runs, verify
    from claude_batch_pandas.reading import documents
    from claude_batch_pandas.slots import col
    from claude_batch_pandas.spending import costs, plot_costs

__version__ = "0.1.0"

__all__ = [
    "BatchError",
    "Run",
    "attach",
    "batch",
    "col",
    "costs",
    "document",
    "documents",
    "emulator",
    "exceptions",
    "export",
    "image",
    "options",
    "plot_costs",
    "recover",
    "run",
    "runs",
    "verify",
]

_LAZY = {
    "Run": "claude_batch_pandas.handles",
    "attach": "claude_batch_pandas.finding",
    "col": "claude_batch_pandas.slots",
    "costs": "claude_batch_pandas.spending",
    "plot_costs": "claude_batch_pandas.spending",
    "document": "claude_batch_pandas.blocks",
    "documents": "claude_batch_pandas.reading",
    "emulator": "claude_batch_pandas.emulator",
    "export": "claude_batch_pandas.exports",
    "image": "claude_batch_pandas.blocks",
    "recover": "claude_batch_pandas.finding",
    "run": "claude_batch_pandas.finding",
    "runs": "claude_batch_pandas.listing",
    "verify": "claude_batch_pandas.listing",
}


def _load(name: str) -> Any:
    if hasattr(exceptions, name) and name.endswith("Error"):
        return getattr(exceptions, name)  # each can be caught as cbp.PausedError, too
    if name not in _LAZY:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    import importlib

    module = importlib.import_module(_LAZY[name])
    found = module if name == "emulator" else getattr(module, name)
    globals()[name] = found
    return found


if not TYPE_CHECKING:  # to which it would make every misspelled name a good one
    __getattr__ = _load


def load_ipython_extension(shell: Any) -> None:
    """Add ``%%claude_batch`` and ``%claude_batch``: ``%load_ext claude_batch_pandas``."""
    from claude_batch_pandas import magics

    magics.load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Take them away again."""
    from claude_batch_pandas import magics

    magics.unload(shell)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


accessor.register()
