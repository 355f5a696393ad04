"""What a kernel costs while runs wait: CPU over a minute, beyond a kernel that does nothing.

Kernels are real ones, and wait for an emulator here whose batches do not end. What it costs to begin
is over before the minute begins.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from claude_batch_pandas.emulator import Emulator, serve

SECONDS, SETTLE = 60.0, 40.0
BEGIN = """
import threading, time
import pandas as pd
import claude_batch_pandas as cbp
cbp.options.canary = False
cbp.options.progress = "none"
df = pd.DataFrame({"text": [f"row {i}" for i in range(40)]})
"""
ASK = "run = df.claude.submit('{{text}} of {0}', name='{0}'{1})\n"
MEASURE = "print(time.process_time(), threading.active_count())"


class Wait(NamedTuple):
    """What is waited for beside what was before, and the goal in percent of a core."""

    what: str
    runs: int
    more: str  # what else the call is given
    most: float


WAITS = (
    Wait("a run", 1, "", 0.1),
    Wait("a card", 1, ", progress='auto'", 1.0),
    Wait("50 runs", 50, "", 5.0),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let the time be chosen."""
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"default: {SECONDS:.0f}")
    parser.add_argument("--settle", type=float, default=SETTLE, help=f"default: {SETTLE:.0f}")


def main(chosen: argparse.Namespace) -> int:
    """Measure and print; 1 when a goal is missed."""
    with serve(emulator=Emulator(duration=86_400.0)) as url, tempfile.TemporaryDirectory() as home:
        os.environ |= {
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": "none",
            "CLAUDE_BATCH_HOME": home,
        }
        with kernel() as client:
            execute(client, BEGIN)
            return _measure_all(client, chosen)


def _measure_all(client: Any, chosen: argparse.Namespace) -> int:
    before, threads = measure(client, chosen)
    print(f"{'nothing':<8} {before:6.3f} % of a core, {threads} threads")
    is_good = True
    for wait in WAITS:
        names = [f"{wait.what.replace(' ', '-')}-{i}" for i in range(wait.runs)]
        shown = "run" if wait.more else ""
        execute(client, "".join(ASK.format(name, wait.more) for name in names) + shown)
        percent, threads = measure(client, chosen)
        more, before = percent - before, percent
        is_good &= more <= wait.most
        verdict = "met" if more <= wait.most else "missed"
        goal = f"goal: at most {wait.most:g} %; {verdict}"
        print(f"{wait.what:<8} {more:+6.3f} %, {goal}; {threads} threads")
    return 0 if is_good else 1


def measure(client: Any, chosen: argparse.Namespace) -> tuple[float, int]:
    """Return what a kernel takes by and by, in percent of a core, and its threads."""
    time.sleep(chosen.settle)
    (start, _), began = execute(client, MEASURE), time.monotonic()
    time.sleep(chosen.seconds)
    end, threads = execute(client, MEASURE)
    return 100 * (float(end) - float(start)) / (time.monotonic() - began), int(threads)


@contextmanager
def kernel() -> Iterator[Any]:
    """Start a kernel; end it."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3")
    try:
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def execute(client: Any, code: str) -> list[str]:
    """Run a cell; return the words that it printed."""
    said: list[str] = []

    def hear(message: dict[str, Any]) -> None:
        assert message["msg_type"] != "error", message["content"]
        if message["msg_type"] == "stream":
            said.append(message["content"]["text"])

    client.execute_interactive(code, timeout=120, output_hook=hear)
    return "".join(said).split()
