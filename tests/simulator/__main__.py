"""``python -m tests.simulator``: one schedule by its seed, or very many."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.simulator.soak import soak

USUAL = 1000  # schedules


def main(arguments: list[str] | None = None) -> int:
    """Play what was asked for; 0 when every promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--seed", type=int, help="play this one schedule")
    parser.add_argument("--trace", action="store_true", help="show all that happens in it")
    parser.add_argument("--mutant", help="make this mistake in it; 'list' lists them")
    parser.add_argument("--schedules", type=int, default=USUAL, help="how many to play")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first one's seed")
    parser.add_argument("--state", type=Path, help="keep the progress in this file")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    asked = parser.parse_args(arguments)
    if asked.seed is not None:
        return _play_one(asked.seed, asked.mutant, show=asked.trace)
    done = soak(asked.schedules, asked.first, asked.state, asked.jobs, _say)
    _say(done.table())
    return 0 if done.counts.is_clean else 1


def _play_one(seed: int, mutant: str | None, *, show: bool) -> int:
    from tests.simulator.mutants import MUTANTS
    from tests.simulator.schedule import play

    if mutant is not None and mutant not in MUTANTS:
        _say(f"There is no mutant {mutant!r}. There are: {', '.join(MUTANTS)}.")
        return 2
    verdict = play(seed, keep=show, mutant=None if mutant is None else MUTANTS[mutant])
    for line in [*verdict.trace, *verdict.complaints, str(verdict.counts)]:
        _say(line)
    return 0 if verdict.counts.is_clean else 1


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
