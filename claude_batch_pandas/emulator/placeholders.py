"""A plausible batch for an id that nobody was given: for test suites that make ids up."""

from __future__ import annotations

import msgspec

from claude_batch_pandas.emulator.batches import SimulatedBatch
from claude_batch_pandas.emulator.checks import Frame

_AGE = 60.0
_PARAMS = msgspec.Raw(
    b'{"model":"claude-haiku-5-5","max_tokens":1024,'
    b'"messages":[{"role":"user","content":"Hello, world"}]}'
)


def placeholder(batch_id: str, workspace: str, now: float) -> SimulatedBatch:
    """Return a batch of one request, a minute old, that ends when it is looked at.

    It is made anew for each call: canceling it or deleting it leaves nothing behind.
    """
    return SimulatedBatch(
        id=batch_id,
        frames=[Frame("my-custom-id-1", _PARAMS)],
        planned={},
        created_at=now - _AGE,
        duration=0.0,
        workspace=workspace,
    )
