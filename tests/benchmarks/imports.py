"""``import claude_batch_pandas`` beside ``import pandas``, in fresh interpreters.

The two take turns, and change who goes first, so that a machine that is busy for a while is as
unfair to one as to the other. An interpreter's own start is not counted: it would hide a part of
the difference.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

ROUNDS = 15
MOST_TIMES = 1.02  # what pandas takes
LAZY = ("anthropic", "ipywidgets")
THEIRS, OURS = "pandas", "claude_batch_pandas"
CODE = """
import sys, time
start = time.perf_counter()
import {module}
print(time.perf_counter() - start, *(name for name in {lazy} if name in sys.modules))
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let the number of rounds be chosen."""
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")


def main(chosen: argparse.Namespace) -> int:
    """Measure and print; 1 when the import is too slow, or not lazy."""
    seconds: dict[str, list[float]] = {THEIRS: [], OURS: []}
    loaded: set[str] = set()
    for number in range(-1, chosen.rounds):  # the first warms the disk and compiles
        for module in (THEIRS, OURS) if number % 2 else (OURS, THEIRS):
            taken, names = measure(module)
            loaded.update(names)
            if number >= 0:
                seconds[module].append(taken)
    is_fast = tell(seconds)
    print(f"loaded although lazy: {', '.join(sorted(loaded)) or 'nothing'}")
    return 0 if is_fast and not loaded else 1


def measure(module: str) -> tuple[float, list[str]]:
    """Import a module in a fresh interpreter; return the seconds, and what it should not load."""
    code = CODE.format(module=module, lazy=LAZY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    taken, *names = done.stdout.split()
    return float(taken), names


def tell(seconds: dict[str, list[float]]) -> bool:
    """Print the medians, and return whether the goal is met."""
    for module, taken in seconds.items():
        spread = f"{min(taken) * 1000:.0f} to {max(taken) * 1000:.0f}"
        middle = statistics.median(taken) * 1000
        print(f"import {module:<20} {middle:7.1f} ms, median of {len(taken)} ({spread})")
    theirs, ours = (statistics.median(seconds[module]) for module in (THEIRS, OURS))
    most = theirs * MOST_TIMES
    verdict = "met" if ours <= most else "missed"
    print(f"ratio: {ours / theirs:.3f}x, difference: {(ours - theirs) * 1000:+.1f} ms")
    print(f"goal: at most {MOST_TIMES}x = {most * 1000:.1f} ms; {verdict}")
    return ours <= most
