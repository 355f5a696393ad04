"""What it costs that everything is on the disk before it is believed: seconds with and without.

This package and itself without a single fsync take turns in fresh processes, over the same frame, on
the disk of ``TMPDIR``. Seconds, not CPU: a disk is waited for.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from tests.benchmarks.race import SHAPES, race, spread

ROUNDS = 5
MOST_TIMES = 1.3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let rows, shape and rounds be chosen."""
    parser.add_argument("--rows", type=int, default=100_000, help="default: 100,000")
    parser.add_argument("--shape", choices=SHAPES, default="S")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")


def main(chosen: argparse.Namespace) -> int:
    """Measure and print; 1 when the goal is missed."""
    rounds = race(chosen.rows, chosen.shape, chosen.rounds, ["ours", "unsynced"])
    ratios = [_seconds(one["ours"]) / _seconds(one["unsynced"]) for one in rounds]
    for way in ("ours", "unsynced"):
        print(f"{way:<9} {statistics.median(_seconds(one[way]) for one in rounds):.2f} s")
    is_met = statistics.median(ratios) <= MOST_TIMES
    verdict = "met" if is_met else "missed"
    print(f"durable: {spread(ratios)} times the seconds; goal: at most {MOST_TIMES}; {verdict}")
    return 0 if is_met else 1


def _seconds(told: dict[str, Any]) -> float:
    return float(sum(phase["wall"] for phase in told["phases"].values()))
