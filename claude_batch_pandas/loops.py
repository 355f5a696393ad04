"""The event loop that a run is awaited in: asyncio's, whoever runs it."""

from __future__ import annotations

import asyncio

from claude_batch_pandas.exceptions import BatchError


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
