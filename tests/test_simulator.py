"""Never silently paid twice, never a row lost: over hundreds of schedules of faults and crashes.

``make soak`` plays a hundred thousand. A seed that fails is looked at with
``python -m tests.simulator --seed N --trace``.
"""

from __future__ import annotations

import gc
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.simulator.__main__ import main
from tests.simulator.disk import Disk
from tests.simulator.judge import Counts
from tests.simulator.machine import swapped
from tests.simulator.mutants import MUTANTS
from tests.simulator.schedule import play
from tests.simulator.soak import Soak
from tests.simulator.turns import Death, Fate, Kernel, Turns

SCHEDULES, PART = 300, 50
# Of long runs, in which something was wrong once: what a person was told, or what was judged.
RARE = (722, 16_928, 19_906, 27_129, 47_147)
PATIENCE = 300  # schedules in which a mistake has to be found
BROKEN = {  # where it is not a double payment, or not found soon
    "anything adopted": ("foreign", 0),
    "downloads believed": ("lost", 0),
    "no lock": ("double", 95),
    "caps forgotten": ("over_budget", 60),
}


@pytest.fixture(scope="module", autouse=True)
def no_garbage() -> Iterator[None]:
    """Collect what the dead left open before anybody else looks for it."""
    gc.collect()
    gc.freeze()  # what was imported need not be looked through again and again
    yield
    gc.unfreeze()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.mark.parametrize("first", range(0, SCHEDULES, PART))
def test_no_schedule_breaks_a_promise(first: int) -> None:
    """Whatever fails and whoever dies when: paid once, answered rightly, and over at last."""
    broken = {
        verdict.seed: verdict.complaints
        for verdict in map(play, range(first, first + PART))
        if not verdict.counts.is_clean
    }

    assert broken == {}


@pytest.mark.parametrize("seed", RARE)
def test_what_was_mended_stays_so(seed: int) -> None:
    assert play(seed).complaints == []


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mistake_is_found(name: str) -> None:
    """A package without one decision of the protocol breaks the promise that this one keeps."""
    promise, first = BROKEN.get(name, ("double", 0))
    verdicts = (play(seed, mutant=MUTANTS[name]) for seed in range(first, first + PATIENCE))

    assert any(getattr(verdict.counts, promise) for verdict in verdicts)


def test_a_seed_says_everything() -> None:
    """The same seed is the same story, down to the last boundary."""
    told = [play(7, keep=True) for _ in range(2)]

    assert told[0] == told[1]
    assert told[0].trace


# The machine


def kernel_of(fate: Fate) -> Kernel:
    """Return a process with that fate."""
    return Kernel("k", Turns(Random(0), 0.0), fate)


def run(kernel: Kernel, disk: Disk, target: Any) -> None:
    """Run something in a process on a disk."""
    with swapped(disk.patches()):
        kernel.turns.begin(kernel, target, is_main=True)
        kernel.turns.run()


def write(path: Path, *, is_synced: bool) -> None:
    """Write a file as a process would, and perhaps sync it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        file.write(b"0123456789")
        if is_synced:
            os.fsync(file.fileno())


@pytest.mark.parametrize("is_synced", [True, False])
def test_what_was_not_synced_is_lost_with_the_power(is_synced: bool, tmp_path: Path) -> None:
    """Over some losses of power the file is whole, or gone, empty or cut; synced, it stays."""
    left = set()
    for seed in range(40):
        kernel = kernel_of(Fate())
        disk = Disk(kernel.turns, Random(seed))
        path = tmp_path / f"{seed}"
        run(kernel, disk, lambda path=path: write(path, is_synced=is_synced))
        disk.lose()
        left.add(path.read_bytes() if path.exists() else None)

    assert (left == {b"0123456789"}) is is_synced
    assert is_synced or {None, b"", b"0123456789"} < left


@pytest.mark.parametrize("is_synced", [True, False])
def test_a_rename_in_a_folder_that_was_not_synced_is_undone(
    is_synced: bool, tmp_path: Path
) -> None:
    """What stood there before comes back."""

    def rename() -> None:
        os.replace(tmp_path / "new", tmp_path / "name")
        if is_synced:
            os.fsync(os.open(tmp_path, os.O_RDONLY))

    left = set()
    for seed in range(20):
        (tmp_path / "name").write_bytes(b"old")
        (tmp_path / "new").write_bytes(b"new")
        kernel = kernel_of(Fate())
        disk = Disk(kernel.turns, Random(seed))
        run(kernel, disk, rename)
        disk.lose()
        left.add((tmp_path / "name").read_bytes())

    assert left == ({b"new"} if is_synced else {b"old", b"new"})


def test_the_dead_do_nothing(tmp_path: Path) -> None:
    """Whatever a dead process tries while it unwinds has no effect."""
    path, tried = tmp_path / "file", []

    def live() -> None:
        try:
            write(path, is_synced=True)
        finally:
            tried.append(path.exists())
            os.unlink(path)

    kernel = kernel_of(Fate(doom=("disk", 3)))
    run(kernel, Disk(kernel.turns, Random(0)), live)

    assert tried == [True]
    assert path.exists()
    with pytest.raises(Death):
        kernel.check()


# At length


def test_a_long_run_goes_on_where_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was played is remembered, and not played again."""
    state = tmp_path / "soak" / "state.json"
    Soak(5, 1000, Counts(schedules=995, crashes=12)).save(state)
    code = main(["--schedules", "995", "--from", "5", "--state", str(state)])
    told = capsys.readouterr().out

    assert code == 0
    assert "schedules              995" in told
    assert "double                   0  3.0e-03" in told
    assert json.loads(state.read_text())["next"] == 1000


def test_another_beginning_needs_another_state(tmp_path: Path) -> None:
    """Seeds that were never played are not counted as if they were."""
    Soak(0, 10).save(tmp_path / "state")

    with pytest.raises(SystemExit, match="began with seed 0, not 5"):
        main(["--from", "5", "--state", str(tmp_path / "state")])


def test_one_seed_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """The trace ends with the counts; a mistake is told by the exit code."""
    code = main(["--seed", "3", "--trace"])
    told = capsys.readouterr().out.splitlines()

    assert code == 0
    assert any("POST batches" in line for line in told)
    assert told[-1].startswith("Counts(schedules=1")
    assert main(["--seed", "3", "--mutant", "nonsense"]) == 2
    assert "There are: sdk retries," in capsys.readouterr().out
