"""``python -m tests.soak.loops kills``: the loops of real processes, seed after seed.

``--loops`` says how many; without it, until stopped. The next seed is kept in the folder ``.soak``,
so that a start after a stop goes on where it was. A seed that fails is told, and ends the soak.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests import test_disk, test_kills, test_two_kernels

LOOPS: dict[str, Callable[[int, Path], list[str]]] = {
    "kills": test_kills.loop,
    "kernels": test_two_kernels.loop,
    "disk": test_disk.loop,
}
FOLDER = Path(".soak")


def run(name: str, loops: int | None = None, folder: Path = FOLDER) -> list[str]:
    """Run further seeds of a loop, and return what is wrong with the first that fails."""
    folder.mkdir(exist_ok=True)
    seed_file = folder / f"{name}.seed"
    first = int(seed_file.read_text()) if seed_file.exists() else 0
    for seed in itertools.count(first) if loops is None else range(first, first + loops):
        with tempfile.TemporaryDirectory() as place:
            wrong = LOOPS[name](seed, Path(place))
        if wrong:
            return [f"{name}, seed {seed}: {what}" for what in wrong]
        seed_file.write_text(str(seed + 1))
    return []


def main() -> str | None:
    """Soak in the loop that was asked for; return what is wrong, in words."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.loops")
    parser.add_argument("name", choices=LOOPS)
    parser.add_argument("--loops", type=int)
    chosen = parser.parse_args()
    try:
        return "\n".join(run(chosen.name, chosen.loops)) or None
    except KeyboardInterrupt:
        return None


if __name__ == "__main__":
    sys.exit(main())
