"""A whole process over a small frame, imports and all: the plain loop beside this package.

Of 1,000 rows, the imports take longer than the work. The two take turns, each in a fresh process.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
from pathlib import Path

from tests.benchmarks import reviews
from tests.benchmarks.race import run, serving, spread

ROWS, ROUNDS = 1_000, 9
MOST_TIMES = 1.0
WAYS = ("plain", "ours")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let rows and rounds be chosen."""
    parser.add_argument("--rows", type=int, default=ROWS, help=f"default: {ROWS:,}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")


def main(chosen: argparse.Namespace) -> int:
    """Measure and print; 1 when the goal is missed."""
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder, serving() as url:
        path = Path(folder) / "reviews.parquet"
        reviews.write(chosen.rows, path)
        for number in range(chosen.rounds + 1):
            for way in WAYS if number % 2 else reversed(WAYS):
                seconds[way].append(_measure(way, path, url))
    plain, ours = (seconds[way][1:] for way in WAYS)  # the first warms the disk and compiles
    print(f"plain {spread(plain)} CPU s")
    print(f"ours  {spread(ours)} CPU s")
    ratios = [mine / its for mine, its in zip(ours, plain, strict=True)]
    is_met = statistics.median(ratios) <= MOST_TIMES
    verdict = "met" if is_met else "missed"
    print(f"a whole process: {spread(ratios)} times; goal: at most {MOST_TIMES:g}; {verdict}")
    return 0 if is_met else 1


def _measure(way: str, path: Path, url: str) -> float:
    """Return the CPU seconds of one process, from its start to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(way, "S", path, url, "cold")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
