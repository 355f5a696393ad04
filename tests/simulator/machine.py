"""The machine on which the package runs: its clock, threads, dice and crew, all of them simulated.

Everything here stands in the place of the standard library or of what `session` builds; no part of
the package or of the SDK is replaced.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import secrets
import time
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import anthropic
import httpx2

import claude_batch_pandas as cbp
from claude_batch_pandas import finding, handles, pools, session, workers
from tests.simulator.disk import Disk
from tests.simulator.network import Network
from tests.simulator.plans import Plan
from tests.simulator.turns import Clock, Turns, threading_of
from tests.simulator.world import KEY

Patches = list[tuple[Any, str, Any]]


class CrewOfWhoeverAsks:
    """The workers of the process that runs."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def __getattr__(self, name: str) -> Any:
        kernel = self._turns.kernel
        assert kernel is not None, "only simulated processes have workers"
        return getattr(kernel.crew, name)


@cache
def network() -> Network:
    """Return the network that every schedule uses in its turn."""
    return Network()


@cache
def sdk() -> anthropic.Anthropic:
    """Return a real SDK client, with the retries that it has by default."""
    return anthropic.Anthropic(api_key=KEY, http_client=httpx2.Client(transport=network()))


@contextlib.contextmanager
def installed(seed: int, plan: Plan, turns: Turns, disk: Disk, home: Path) -> Iterator[None]:
    """Run the package on the simulated machine while the block runs."""
    logger = logging.getLogger("claude_batch_pandas")
    level = logger.level
    patches = [*disk.patches(), *_patches(seed, plan, turns), (os, "environ", dict(os.environ))]
    with contextlib.ExitStack() as undo:
        undo.callback(logger.setLevel, level)
        undo.callback(cbp.options.reset)
        undo.enter_context(warnings.catch_warnings())
        undo.enter_context(swapped(patches))
        undo.callback(disk.close_all)
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL)
        os.environ["CLAUDE_BATCH_HOME"] = str(home)
        cbp.options.reset()
        cbp.options.progress = "none"
        for name in ("settle_seconds", "poll_seconds", "on_unknown", "max_in_flight"):
            setattr(cbp.options, name, getattr(plan.options, name))
        yield


def _patches(seed: int, plan: Plan, turns: Turns) -> Patches:
    """Return what stands for the clock, the threads, the dice and the crew of a process."""
    clock, crew, real_engine = Clock(turns), CrewOfWhoeverAsks(turns), session.build_engine
    names, engines = Random(f"{seed}/names"), Random(f"{seed}/engines")
    duration = plan.settings.duration

    def build_engine(sdk: Any) -> Any:
        return dataclasses.replace(real_engine(sdk), dice=Random(engines.random()))

    return [
        (session, "clock", clock),
        (session, "crew", crew),
        (session, "build_engine", build_engine),
        (finding, "crew", crew),
        (finding, "build_engine", build_engine),
        (workers, "threading", threading_of(turns)),
        (pools, "threading", threading_of(turns)),
        (workers, "time", SimpleNamespace(monotonic=clock.monotonic)),
        # Who looks every second for days would have us wait.
        (workers, "FOLLOW_SECONDS", max(100.0, duration / 2)),
        (handles, "SLICE_SECONDS", max(1000.0, duration)),
        (time, "sleep", turns.sleep),
        (secrets, "token_hex", lambda n: names.randbytes(n).hex()),
        (secrets, "token_bytes", names.randbytes),
        (secrets, "choice", names.choice),
    ]


@contextlib.contextmanager
def swapped(patches: Patches) -> Iterator[None]:
    """Put things in the place of others while the block runs."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in patches]
    try:
        for owner, name, value in patches:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in reversed(before):
            setattr(owner, name, value)
