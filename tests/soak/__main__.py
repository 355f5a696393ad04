"""``python -m tests.soak``: what the tests do in a slice, seed after seed, until it is stopped.

Where every part stands is in ``.soak/``, so that a stopped soak goes on where it was. A seed that
failed is kept there with what was wrong; the part goes on with the next.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

FOLDER = Path(".soak")
FUZZ_SECONDS = 60
SCHEDULES = 200  # of the simulator, a seed

Part = Callable[[int, Path], list[str]]  # a seed and a folder of its own -> what was wrong


def kills(seed: int, folder: Path) -> list[str]:
    """Kill one call again and again."""
    from tests.test_kills import loop

    return loop(seed, folder)


def kernels(seed: int, folder: Path) -> list[str]:
    """Let two kernels fight over one run."""
    from tests.test_two_kernels import loop

    return loop(seed, folder)


def ipykernels(seed: int, folder: Path) -> list[str]:
    """Run what starts kernels under an ipykernel that is not the newest; makes environments."""
    from tests.soak.kernels import loop

    return loop(seed, folder)


def pytest_of(*arguments: str) -> Part:
    """Return a part that runs tests over another spread of places and examples."""

    def run(seed: int, folder: Path) -> list[str]:
        command = [
            *(sys.executable, "-m", "pytest", "-q", "-x", f"--basetemp={folder / 'pytest'}"),
            *("-o", "faulthandler_timeout=0", f"--hypothesis-seed={seed}", *arguments),
        ]
        environment = os.environ | {"CBP_SOAK": str(seed + 1)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return [] if done.returncode == 0 else [done.stdout[-4000:]]

    return run


def simulator(seed: int, folder: Path) -> list[str]:
    """Play some hundred schedules of faults and crashes."""
    command = [
        *(sys.executable, "-m", "tests.simulator", "--schedules", str(SCHEDULES)),
        *("--from", str(seed * SCHEDULES), "--state", str(folder / "state.json")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [] if done.returncode == 0 else [(done.stdout + done.stderr)[-4000:]]


def fuzz(seed: int, folder: Path) -> list[str]:
    """Look for bytes that break the reader of results; needs the extra ``soak``."""
    corpus = FOLDER / "corpus"
    command = [
        *(sys.executable, "-m", "tests.soak.fuzzing", str(corpus), f"-seed={seed + 1}"),
        *(f"-max_total_time={FUZZ_SECONDS}", f"-artifact_prefix={folder}/"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
    return [] if done.returncode == 0 else [done.stderr[-4000:]]


PARTS: dict[str, tuple[Part, int]] = {  # and how many seeds are a long soak
    "simulator": (simulator, 500),
    "kills": (kills, 500),
    "kernels": (kernels, 200),
    "ipykernels": (ipykernels, 20),
    "cuts": (pytest_of("tests/test_faults.py", "-k", "cut"), 80),
    "caps": (
        pytest_of("tests/test_caps.py", "tests/test_caps_kernels.py", "-k", "engines or kernels"),
        50,
    ),
    "shell": (pytest_of("tests/test_shell_size.py"), 3),
    "flips": (pytest_of("tests/test_verifying.py", "-k", "no_byte"), 200),
    "properties": (pytest_of("tests/test_store_machine.py", "tests/test_every_frame.py"), 100),
    "fuzz": (fuzz, 60),
}


@dataclass
class Progress:
    """Where a part stands."""

    next: int = 0
    seconds: float = 0.0
    failures: dict[str, list[str]] = field(default_factory=dict)  # by seed

    @classmethod
    def load(cls, name: str) -> Progress:
        """Return where a part stood when the last soak ended."""
        path = FOLDER / f"{name}.json"
        return cls(**json.loads(path.read_bytes())) if path.exists() else cls()

    def save(self, name: str) -> None:
        """Remember it, whole or not at all."""
        path = FOLDER / f"{name}.json"
        temporary = path.with_suffix(".part")
        temporary.write_text(json.dumps(asdict(self)))
        temporary.replace(path)


def step(name: str) -> None:
    """Run the next seed of a part."""
    progress, (part, _) = Progress.load(name), PARTS[name]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        wrong = part(progress.next, Path(folder))
    if wrong:
        progress.failures[str(progress.next)] = wrong
        print(f"{name} {progress.next}: {wrong[0]}", flush=True)
    progress.next += 1
    progress.seconds += time.monotonic() - began
    progress.save(name)


def report(names: list[str]) -> int:
    """Print where every part stands; return how many seeds failed."""
    failed = 0
    for name in names:
        progress, (_, goal) = Progress.load(name), PARTS[name]
        failed += len(progress.failures)
        print(
            f"{name:12} {progress.next:>9,} of {goal:,} seeds, {len(progress.failures)} failed, "
            f"{progress.seconds / 60:,.0f} min"
        )
    return failed


def main() -> int:
    """Soak until the time is over or somebody stops it."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--part", action="append", choices=PARTS)
    chosen = parser.parse_args()
    names = chosen.part or [*PARTS]
    FOLDER.mkdir(exist_ok=True)
    deadline = time.monotonic() + 60 * chosen.minutes
    try:
        while time.monotonic() < deadline:
            # The part that has used the least time goes next, so that all advance alike.
            step(min(names, key=lambda name: Progress.load(name).seconds))
    except KeyboardInterrupt:
        print("Stopped; the next soak goes on from here.")
    return 1 if report(names) else 0


if __name__ == "__main__":
    sys.exit(main())
