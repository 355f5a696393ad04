"""The event loop that a run is awaited in: asyncio's, whoever runs it."""

from __future__ import annotations

import asyncio
import sys

from claude_batch_pandas.exceptions import BatchError

FIRST_KERNEL = 7  # the first ipykernel that nested loops break

DROPS_CELLS = (
    "nest_asyncio is applied in this kernel, and with ipykernel 7 or later it makes Run All drop "
    "cells without a word. This package does not need it: leave nest_asyncio.apply() out, or use "
    "nest_asyncio2 from 1.7.3 on, and restart the kernel."
)


def patch_warning() -> str:
    """Say that the running kernel may drop cells; empty when all is well.

    The archived nest-asyncio gives a kernel's next cell to the loop that it nests, which loses it.
    """
    kernel = sys.modules.get("ipykernel")
    is_new = int(str(getattr(kernel, "__version__", "0")).partition(".")[0]) >= FIRST_KERNEL
    is_patched = hasattr(asyncio, "_nest_patched") and not hasattr(asyncio, "_nest_asyncio2")
    return DROPS_CELLS if kernel is not None and is_new and is_patched else ""


def check_loop() -> None:
    """Refuse to be awaited in a loop that is not asyncio's, such as trio's."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        msg = (
            "Awaiting a run needs asyncio, and no asyncio loop runs here. The run goes on; under "
            "trio, wait for it in a thread: await trio.to_thread.run_sync(run.result)."
        )
        raise BatchError(msg) from None
