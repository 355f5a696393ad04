"""A disk that is full or fails at any write: nothing is sent unseen, and the same call goes on."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from claude_batch_pandas.emulator import Emulator, serve
from tests.lives import Cell, Life, intents, judge, live

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither")

CALLS = ["write", "pwrite64", "fsync,fdatasync", "rename", "ftruncate", "unlink"]
ADVICE = "Check the disk and the permissions"


def outcome(life: Life, emulator: Emulator, cell: Cell) -> list[str]:
    """Return what is wrong after a life on a bad disk, which it may have survived."""
    code = life.end()
    failures = [told[1:] for told in life.told() if told[0] == "failed"]
    wrong = [
        f"it failed with {kind}: {text}"
        for kind, text in failures
        if kind != "LedgerError" or ADVICE not in text
    ]
    if code and not failures:
        wrong.append(f"it ended with {code} and told nothing")
    if len(emulator.batches) > intents(cell):
        wrong.append("a batch was sent that the ledger does not know of")
    return wrong


@contextmanager
def failing(life: Life, injection: str) -> Iterator[None]:
    """Let system calls of a process fail, as strace's ``inject=`` says."""
    calls = injection.partition(":")[0]
    command = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={calls}"]
    command += ["-e", f"inject={injection}", "-p", str(life.pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        said = strace.stderr.readline()
        if "attached" not in said:
            life.kill()
            pytest.skip(f"strace cannot attach here: {said.strip()}")
        yield
        life.end()


def loop(seed: int, folder: Path) -> list[str]:
    """Let calls to the system fail by chance, then none; return what is wrong."""
    dice = random.Random(seed)  # noqa: S311 - dice
    emulator = Emulator(duration=0.0, seed=seed)
    with serve(emulator=emulator) as url:
        cell = Cell(url=url, home=folder / "ledger", path=folder / "out.pkl")
        for _ in range(dice.randint(1, 2)):
            calls = ",".join(dice.sample(CALLS, dice.randint(1, len(CALLS))))
            nth = int(2 ** dice.uniform(0.0, 7.0))
            then = dice.choice(["", "+"])  # once, or from then on
            error = dice.choice(["ENOSPC", "EIO", "EDQUOT"])
            life = Life(cell.but(waits=True))
            life.until("ready")
            with failing(life, f"{calls}:error={error}:when={nth}{then}"):
                life.go()
            wrong = outcome(life, emulator, cell)
            if wrong:
                return [f"{calls} {error} {nth}{then}: {what}" for what in wrong]
        code = live(cell)
    return [f"with room again it ended with {code}"] if code else judge(emulator, cell)


@pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace")
@pytest.mark.parametrize("seed", range(12))
def test_a_disk_that_fails_at_any_write_loses_nothing(seed: int, tmp_path: Path) -> None:
    """The error says what to do; with room again, the same call finishes, and pays once."""
    assert loop(seed, tmp_path) == []


@pytest.mark.parametrize("largest", [0, 100, 1_000, 2_500, 5_000, 20_000, 45_000, 60_000])
def test_files_that_cannot_grow_lose_nothing(largest: int, tmp_path: Path) -> None:
    """The same without strace: no file may become larger than so many bytes."""
    emulator = Emulator(duration=0.0)
    with serve(emulator=emulator) as url:
        cell = Cell(url=url, home=tmp_path / "ledger", path=tmp_path / "out.pkl")
        wrong = outcome(Life(cell.but(largest=largest)), emulator, cell)
        finished = live(cell)

    assert wrong == []
    assert finished == 0
    assert judge(emulator, cell) == []
