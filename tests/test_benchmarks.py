"""The benchmarks run and print what they promise; how fast something is, no test asserts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def measure(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a benchmark in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_the_race_is_run_by_all_three() -> None:
    """In turns, over the same answers; a line of the table for each frame, and every phase."""
    done = measure("--rows", "300", "--rounds", "1", "--shape", "L")

    assert done.stderr == ""
    assert re.search(
        r"^300 L, round 1: plain \d+\.\d\d s, ours \d+\.\d\d s, bare", done.stdout, re.MULTILINE
    )
    for phase in ("plain  join", "ours   results", "bare   render"):
        assert re.search(rf"^  {phase} +\d.* CPU s, .* s, .* MB$", done.stdout, re.MULTILINE)
    assert re.findall(r"^\| 300 \| ([SL]) \|", done.stdout, re.MULTILINE) == ["L"]
    assert done.returncode == 0


def test_typed_answers_are_measured_beside_texts() -> None:
    """Four ways, two ratios, and whether the goals were met."""
    done = measure("answers", "--rows", "900", "--rounds", "2")

    assert done.stderr == ""
    for name in ("texts", "typed", "types alone", "json_normalize"):
        assert re.search(rf"^{name} +\d+\.\d\d .* CPU s$", done.stdout, re.MULTILINE)
    assert re.search(r"^goals (met|missed)$", done.stdout, re.MULTILINE)
    assert done.returncode == int("missed" in done.stdout)


def test_the_import_is_measured_beside_that_of_pandas() -> None:
    """Both medians, their ratio and difference, the goal, and what was loaded too early."""
    done = measure("import", "--rounds", "1")

    assert done.stderr == ""
    assert re.search(r"^import pandas +\d+\.\d ms, median of 1 ", done.stdout, re.MULTILINE)
    assert re.search(r"^import claude_batch_pandas +\d+\.\d ms", done.stdout, re.MULTILINE)
    assert re.search(r"^ratio: \d\.\d{3}x, difference: [+-]\d+\.\d ms$", done.stdout, re.MULTILINE)
    assert re.search(r"^goal: .*; (met|missed)$", done.stdout, re.MULTILINE)
    assert "loaded although lazy: nothing" in done.stdout
    assert done.returncode == int("missed" in done.stdout)


@pytest.mark.parametrize(
    ("name", "ways", "unit", "verdict"),
    [
        ("durability", ("ours", "unsynced"), "s", r"durable: \d\.\d\d .* times the seconds"),
        ("whole", ("plain", "ours"), ".* CPU s", r"a whole process: \d\.\d\d .* times"),
    ],
)
def test_two_ways_are_measured(name: str, ways: tuple[str, str], unit: str, verdict: str) -> None:
    """Of each its seconds; their ratio in the same round, and whether the goal was met."""
    done = measure(name, "--rows", "300", "--rounds", "1")

    assert done.stderr == ""
    for way in ways:
        assert re.search(rf"^{way} +\d+\.\d\d {unit}$", done.stdout, re.MULTILINE)
    assert re.search(rf"^{verdict}; goal: .*; (met|missed)$", done.stdout, re.MULTILINE)
    assert done.returncode == int("missed" in done.stdout)


def test_waiting_is_measured() -> None:
    """In one kernel: nothing, a run, a card, and fifty."""
    done = measure("idle", "--seconds", "0.5", "--settle", "0")

    assert "Traceback" not in done.stderr
    for what in ("nothing", "a run", "a card", "50 runs"):
        assert re.search(rf"^{what} .*\d\.\d{{3}} %.* \d+ threads$", done.stdout, re.MULTILINE)
    assert done.returncode == int("missed" in done.stdout)
