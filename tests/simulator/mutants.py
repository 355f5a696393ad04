"""Mistakes that the judge has to find: each takes away one decision of the protocol.

A simulator that finds nothing proves something only if it finds these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from claude_batch_pandas import caps, collecting, exchange, inquiry, locks, reconciling
from claude_batch_pandas.collecting import Check
from claude_batch_pandas.reconcile import Decision, Next
from claude_batch_pandas.store import Store
from tests.simulator.machine import Patches


def sdk_retries() -> Patches:
    """Leave the retries of a submission to the SDK, as it does by default."""
    once = exchange._once

    def twice(verb: str, headers: Mapping[str, str]) -> dict[str, Any]:
        options = once(verb, headers)
        return {**options, "max_retries": 2} if "Content-Length" in headers else options

    return [(exchange, "_once", twice)]


def blind_resend() -> Patches:
    """Plan a shard whose fate is unknown again at once."""
    return [(reconciling, "decide", lambda *_: Decision(Next.RESEND))]


def id_saved_after() -> Patches:
    """Write nothing before the POST, only the batch's id after it."""
    return [(Store, "mark_submitting", lambda *_: True)]


def list_ignored() -> Patches:
    """Conclude that nothing was created without looking at the list."""
    return [(inquiry, "candidates", lambda *_, **__: [])]


def anything_adopted() -> Patches:
    """Take a batch of the same size for ours without looking into it."""
    return [(inquiry.Inquiry, "is_ours", lambda *_: True)]


def no_lock() -> Patches:
    """Let two kernels drive one run."""
    return [(locks.Lock, "_flock", lambda *_, **__: True)]


def downloads_believed() -> Patches:
    """Take whatever comes as the results."""
    return [(collecting, "verify", lambda *_: Check(0, ""))]


def caps_forgotten() -> Patches:
    """Send whatever it may cost."""
    return [(caps.Cap, "refusal", lambda *_: "")]


MUTANTS: dict[str, Callable[[], Patches]] = {
    mutant.__name__.replace("_", " "): mutant
    for mutant in (
        sdk_retries,
        blind_resend,
        id_saved_after,
        list_ignored,
        anything_adopted,
        no_lock,
        downloads_believed,
        caps_forgotten,
    )
}
