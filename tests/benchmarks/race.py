"""The plain loop over the SDK, this package, and the least there is, over the same frame.

They take turns, each in a fresh process, against one local server that is faster than all of them.
CPU seconds and memory are the client's own, imports and the frame apart; ratios are of the same round.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks import reviews
from tests.benchmarks.contestants import WAYS

README = Path(__file__).parents[2] / "README.md"
TABLE = re.compile(r"(<!-- race -->\n).*?(<!-- /race -->)", re.DOTALL)
ROUNDS, ROUNDS_OF_A_MILLION = 5, 1
MILLION = 1_000_000
LEAST_ANSWERED = 0.8  # of the rows; a few are refused
SHAPES = {"S": "a short system prompt", "L": "2 kB of it, cached"}
LEAST_FASTER, MOST_OF_BARE = 10.0, 2.0  # goals at 100,000 rows
MOST_SENDING, MOST_COLLECTING = 32.0, 160.0  # MB, beyond the frame and its new columns
HEADER = (
    "| rows | system | plain loop | this package | least there is | times less than the loop "
    "| times the least | MB: loop | sending | collecting |\n" + "|---" * 10 + "|\n"
)

Round = dict[str, dict[str, Any]]  # what each way told


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let rows, shapes and rounds be chosen."""
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000], help="default: 100,000")
    parser.add_argument("--shape", choices=SHAPES, nargs="+", default=[*SHAPES])
    parser.add_argument(
        "--rounds", type=int, help=f"default: {ROUNDS}, and {ROUNDS_OF_A_MILLION} of a million rows"
    )
    parser.add_argument("--ways", choices=WAYS, nargs="+", default=[*WAYS], help="default: all")
    parser.add_argument("--write", action="store_true", help="write the table into the README")


def main(chosen: argparse.Namespace) -> int:
    """Measure and print; 1 when a goal at 100,000 rows is missed."""
    lines, is_met = [], True
    for rows in chosen.rows:
        for shape in chosen.shape:
            default = ROUNDS_OF_A_MILLION if rows >= MILLION else ROUNDS
            rounds = race(rows, shape, chosen.rounds or default, chosen.ways)
            tell(rounds)
            if set(WAYS) <= set(chosen.ways):
                lines.append(line_of(rows, shape, rounds))
                is_met &= rows != reviews.GOAL_ROWS or is_good(rounds)
    table = f"{HEADER}{''.join(lines)}"
    print(table)
    if chosen.write:
        usual = f"{ROUNDS} rounds ({ROUNDS_OF_A_MILLION} of a million rows)"
        rounds_told = usual if chosen.rounds is None else f"{chosen.rounds} rounds"
        words = (
            f"CPU seconds, median of {rounds_told}, on a machine with {os.cpu_count()} cores; "
            "imports apart; memory in MB beyond the frame, while collecting also beyond the new "
            "columns.\n\n"
        )
        text = README.read_text()
        README.write_text(TABLE.sub(lambda found: found[1] + words + table + found[2], text))
    return 0 if is_met else 1


def race(rows: int, shape: str, count: int, ways: list[str]) -> list[Round]:
    """Return what each way took, round by round; who goes first changes."""
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory() as folder, serving() as url:
        path = Path(folder) / "reviews.parquet"
        reviews.write(rows, path)
        for number in range(count):
            turn = number % len(ways)
            order = [*ways[turn:], *ways[:turn]]
            rounds.append({way: run(way, shape, path, url) for way in order})
            told = ", ".join(f"{way} {cpu(rounds[-1][way]):.2f} s" for way in ways)
            print(f"{rows:,} {shape}, round {number + 1}: {told}", flush=True)
    return rounds


def tell(rounds: list[Round]) -> None:
    """Print each phase: CPU and wall seconds, and the peak of memory."""
    for way in rounds[0]:
        for name in rounds[0][way]["phases"]:
            told = [one[way]["phases"][name] for one in rounds]
            seconds, wall, peak = (
                spread([phase[kind] for phase in told]) for kind in ("cpu", "wall", "peak")
            )
            print(f"  {way:<6} {name:<18} {seconds} CPU s, {wall} s, {peak} MB")


def cpu(told: dict[str, Any]) -> float:
    """Return the CPU seconds of all phases."""
    return float(sum(phase["cpu"] for phase in told["phases"].values()))


def peak(told: dict[str, Any], *names: str) -> float:
    """Return the highest memory of some phases, or of all, in MB beyond the frame."""
    phases = told["phases"]
    return float(max(phases[name]["peak"] for name in names or phases))


def ratios(rounds: list[Round], way: str, other: str) -> list[float]:
    """Return how many times the CPU of another way one takes, round by round."""
    return [cpu(one[way]) / cpu(one[other]) for one in rounds]


def collecting(told: dict[str, Any]) -> float:
    """Return what ours holds while it collects, in MB beyond the frame and the new columns."""
    return peak(told, "results", "join") - float(told["columns"])


def line_of(rows: int, shape: str, rounds: list[Round]) -> str:
    """Return a line of the table."""
    middle = [statistics.median(cpu(one[way]) for one in rounds) for way in WAYS]
    seconds = " | ".join(f"{value:.2f}" for value in middle)
    sending = statistics.median(peak(one["ours"], "render and create") for one in rounds)
    held = statistics.median(collecting(one["ours"]) for one in rounds)
    loop = statistics.median(peak(one["plain"]) for one in rounds)
    faster, slower = ratios(rounds, "plain", "ours"), ratios(rounds, "ours", "bare")
    return (
        f"| {rows:,} | {shape} | {seconds} | {spread(faster)} | {spread(slower)} | {loop:,.0f} "
        f"| {sending:,.0f} | {held:,.0f} |\n"
    )


def is_good(rounds: list[Round]) -> bool:
    """Print the goals, and tell whether all are met."""
    goals = [
        ("times less CPU than the loop", ratios(rounds, "plain", "ours"), LEAST_FASTER, 1),
        ("times the CPU of the least", ratios(rounds, "ours", "bare"), MOST_OF_BARE, -1),
        (
            "MB while sending",
            [peak(one["ours"], "render and create") for one in rounds],
            MOST_SENDING,
            -1,
        ),
        ("MB while collecting", [collecting(one["ours"]) for one in rounds], MOST_COLLECTING, -1),
    ]
    met = True
    for name, values, goal, sign in goals:
        is_met = sign * statistics.median(values) >= sign * goal
        met &= is_met
        words = "at least" if sign > 0 else "at most"
        print(f"goal: {words} {goal:g} {name}: {spread(values)}; {'met' if is_met else 'missed'}")
    return met


def spread(values: list[float]) -> str:
    """Return the median in words, and between what it lies."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def run(way: str, shape: str, path: Path, url: str, *how: str) -> dict[str, Any]:
    """Run one way in a process of its own; return what it tells, if it has the answers."""
    command = [sys.executable, "-m", "tests.benchmarks.contestants", way, shape, str(path), url]
    done = subprocess.run([*command, *how], stdout=subprocess.PIPE, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["answered"] > told["rows"] * LEAST_ANSWERED, told
    return told


@contextmanager
def serving() -> Iterator[str]:
    """Start the server in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.server"]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.communicate("")
