"""Every byte of the ledger counts: one that changes is noticed, or changes nothing."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas import session
from claude_batch_pandas.emulator import Emulator, Rule
from claude_batch_pandas.exceptions import BatchError
from claude_batch_pandas.store import Store
from tests.soak.spread import spread
from tests.test_steps import on_results


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame({"text": ["a", "b", "a", None, "c"]}, index=["x", "y", "y", "z", "w"])


def problems() -> list[str]:
    """Return the files that are not what was written."""
    return cbp.verify()["file"].tolist()


def test_a_ledger_that_is_well_has_no_problems(
    frame: pd.DataFrame, client: Any, emulator: Emulator
) -> None:
    """Runs that ended, that were retried, attached, purged, or are on their way."""
    assert problems() == []
    emulator.rules = (Rule(outcome="errored", error_type="permission_error", contains="b"),)
    frame.claude.batch("{text}", client=client, shard_size=1)
    cbp.run(cbp.runs()["id"].iloc[0], client=client).retry().wait()
    frame.claude.batch("purge {text}", client=client)
    cbp.run(cbp.runs()["id"].iloc[0], client=client).purge()
    frame.claude.batch("do not keep {text}", client=client, keep_requests=False)
    frame.claude.submit("{text} again", client=client)
    session.crew.leave(60.0)

    assert problems() == []
    found = cbp.verify()
    assert list(found.columns) == ["run", "file", "problem"]


def test_an_attached_run_can_be_verified(client: Any, emulator: Emulator) -> None:
    request: Any = {
        "custom_id": "theirs",
        "params": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]},
    }
    theirs = client.messages.batches.create(requests=[request])
    cbp.attach(theirs.id, client=client).wait()

    assert problems() == []


@pytest.mark.parametrize(
    "name",
    [
        "rows.npy",
        "recipe.json",
        "index.parquet",
        "shard-0000.ordinals.npy",
        "shard-0000.requests.json",
        "shard-0000.results.jsonl",
    ],
)
def test_a_file_that_is_changed_or_gone_is_named(
    name: str, frame: pd.DataFrame, client: Any, home: Path
) -> None:
    """By its run and its name; what was never there is not missed."""
    frame.claude.batch("{text}", client=client)
    run_id = cbp.runs()["id"].iloc[0]
    path = home / "runs" / run_id / name
    path.write_bytes(path.read_bytes()[:-1])
    changed = cbp.verify().to_dict("records")
    path.unlink()
    gone = cbp.verify().to_dict("records")

    problem = "it was changed: its hash differs"
    assert changed == [{"run": run_id, "file": name, "problem": problem}]
    if name != "index.parquet":
        assert gone == [{"run": run_id, "file": name, "problem": "it is gone"}]


def test_a_folder_that_is_gone_is_named(frame: pd.DataFrame, client: Any, home: Path) -> None:
    frame.claude.batch("{text}", client=client)
    run_id = cbp.runs()["id"].iloc[0]
    shutil.rmtree(home / "runs" / run_id)

    assert cbp.verify()["problem"].tolist() == ["the folder is gone"]


def test_results_that_could_not_be_verified_are_no_damage(
    frame: pd.DataFrame, connect: Any, clock: Any
) -> None:
    """They are what the server gave."""
    spoil = on_results(edit=lambda body: body[:-9], times=3)
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[spoil])
    frame.claude.batch("{text}", client=connect(emulator))

    assert problems() == []


# Single bytes


def ask(frame: pd.DataFrame, client: Any) -> pd.DataFrame:
    """Do what a person does who comes back: the same cell, and the run by its id."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out: pd.DataFrame = frame.claude.batch("{text}", client=client)
        for run_id in cbp.runs()["id"]:
            pd.testing.assert_frame_equal(cbp.run(run_id, client=client).result(frame), out)
    return out


def flips(home: Path, count: int) -> Iterator[tuple[Path, int]]:
    """Change one byte after the other, each in the ledger as it was."""
    copy = home.with_name("copy")
    shutil.copytree(home, copy)
    files = [path.relative_to(home) for path in sorted(home.rglob("*")) if path.is_file()]
    for name in files:
        for offset in spread((copy / name).stat().st_size, count):
            shutil.rmtree(home)
            shutil.copytree(copy, home)
            data = bytearray((home / name).read_bytes())
            data[offset] ^= 1 << (offset * 7 + 3) % 8
            (home / name).write_bytes(data)
            yield name, offset


def test_no_byte_changes_unnoticed(
    frame: pd.DataFrame, client: Any, emulator: Emulator, home: Path
) -> None:
    """Verifying finds it, or using the ledger does; else every answer is right and paid once."""
    expected = frame.claude.batch("{text}", client=client)
    sent = len(emulator.batches)
    silent: list[tuple[Path, int]] = []
    for name, offset in flips(home, 12):
        if problems():
            continue
        try:
            out = ask(frame, client)
        except (BatchError, UserWarning):
            continue
        if not out.equals(expected) or len(emulator.batches) != sent:
            silent.append((name, offset))

    assert silent == []


def test_no_byte_of_an_open_run_pays_twice(
    frame: pd.DataFrame, client: Any, emulator: Emulator, home: Path
) -> None:
    """A batch on its way is found again, or its ledger is refused."""
    expected = frame.claude.batch("{text}", client=client, name="first")
    frame.claude.submit("{text} again", client=client)
    session.crew.stop()
    sent = len(emulator.batches)
    silent: list[tuple[Path, int]] = []
    for name, offset in flips(home, 4):
        if problems():
            continue
        try:
            out = frame.claude.batch("{text}", client=client, name="first")
        except (BatchError, UserWarning):
            continue
        if not out.equals(expected) or len(emulator.batches) > sent:
            silent.append((name, offset))

    assert silent == []


def test_the_database_is_read_anew(frame: pd.DataFrame, client: Any, home: Path) -> None:
    """A change that leaves the file's times as they were is seen, too."""
    frame.claude.batch("{text}", client=client)
    path = home / "ledger.sqlite3"
    times = path.stat()
    path.write_bytes(path.read_bytes().replace(b"collected", b"withdrawn"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert problems() == ["ledger.sqlite3"]


def test_a_row_that_turned_to_nonsense_is_told_as_damage(
    frame: pd.DataFrame, client: Any, home: Path
) -> None:
    """Even by who has the database open already."""
    frame.claude.batch("{text}", client=client)
    store = Store(home)
    path = home / "ledger.sqlite3"
    path.write_bytes(path.read_bytes().replace(b"collected", b"colleqted"))

    with pytest.raises(cbp.LedgerError, match="cannot be used: 'colleqted' is not a valid"):
        store.shards(store.runs()[0].id)
