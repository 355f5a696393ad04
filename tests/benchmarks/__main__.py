"""What the package costs, measured side by side: ``python -m tests.benchmarks [<name>]``.

A benchmark is a module here with two functions: `add_arguments`, which tells argparse what may be
chosen, and `main`, which measures, prints, and returns 1 when its goal is missed.
"""

from __future__ import annotations

import argparse
import sys

from tests.benchmarks import answers, durability, idle, imports, race, whole

BENCHMARKS = {
    "race": race,
    "answers": answers,
    "durability": durability,
    "idle": idle,
    "import": imports,
    "whole": whole,
}


def main() -> int:
    """Run the benchmark that was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    names = parser.add_subparsers(dest="name", required=True, metavar="name")
    for name, benchmark in BENCHMARKS.items():
        about = (benchmark.__doc__ or "").splitlines()[0]
        benchmark.add_arguments(names.add_parser(name, help=about, description=about))
    given = sys.argv[1:]
    usual = [] if given[:1] and given[0] in {*BENCHMARKS, "-h", "--help"} else ["race"]
    chosen = parser.parse_args([*usual, *given])
    code: int = BENCHMARKS[chosen.name].main(chosen)
    return code


if __name__ == "__main__":
    sys.exit(main())
