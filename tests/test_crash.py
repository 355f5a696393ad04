"""kill -9 at every durable step, in real processes: the same call finishes the work, paid once."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas.emulator import Emulator, serve

ROWS = 40
STEPS = [
    "catalog:save",
    "spool:Spool.publish",
    "store:Store.add_run",
    "resending:checked_body",
    "store:Store.mark_submitting",
    "client:Client.create",
    "store:Store.mark_submitted",
    "client:Client.retrieve",
    "store:Store.mark_seen",
    "collecting:verify",
    "collecting:collect",
    "store:Store.mark_collected",
    "store:Store.mark_ended",
]

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["anthropic", "pandas", "claude_batch_pandas.session"])


def frame() -> pd.DataFrame:
    """Return the rows every process asks about."""
    return pd.DataFrame({"text": [f"row {i % 35}" for i in range(ROWS)]}, index=[5] * ROWS)


def cell(url: str, home: str, path: str, step: str = "", when: str = "", nth: int = 1) -> None:
    """Do the main job in a process of its own, and die at a step of it."""
    os.environ |= {"ANTHROPIC_BASE_URL": url, "CLAUDE_BATCH_HOME": home}
    cbp.options.poll_seconds = (0.02, 0.05)
    cbp.options.settle_seconds = 1.1
    cbp.options.progress = "none"
    if step:
        die_at(step, when, nth)
    frame().claude.batch("{text}", shard_size=12).to_pickle(path)


def die_at(step: str, when: str, nth: int) -> None:
    """Have this process killed just before or after the n-th call of a function of ours."""
    module_name, _, name = step.partition(":")
    owner: Any = importlib.import_module(f"claude_batch_pandas.{module_name}")
    *classes, attribute = name.split(".")
    for part in classes:
        owner = getattr(owner, part)
    original = getattr(owner, attribute)
    calls: list[None] = []

    def deadly(*args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        if len(calls) == nth and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if len(calls) == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, attribute, deadly)


@pytest.fixture(scope="module")
def api() -> Iterator[tuple[Emulator, str]]:
    """Serve an emulator that ends every batch at once."""
    emulator = Emulator(duration=0.0)
    with serve(emulator=emulator) as url:
        yield emulator, url


def run(*arguments: Any) -> int:
    """Run the cell in a process and return its exit code."""
    process = processes.Process(target=cell, args=tuple(map(str, arguments[:5])) + arguments[5:])
    process.start()
    process.join()
    code = process.exitcode
    process.close()
    assert code is not None
    return code


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step_the_same_call_finishes(
    step: str, when: str, api: tuple[Emulator, str], tmp_path: Path
) -> None:
    """Whatever the step, every request is paid once and every row has its own answer."""
    emulator, url = api
    emulator.batches.clear()
    nth = (
        1
        if step
        in {"catalog:save", "spool:Spool.publish", "store:Store.add_run", "store:Store.mark_ended"}
        else 2
    )
    home, path = tmp_path / "ledger", tmp_path / "out.pkl"
    killed = run(url, home, path, step, when, nth)
    finished = run(url, home, path)
    out = pd.read_pickle(path)  # noqa: S301 - written by our own process

    assert killed == -signal.SIGKILL
    assert finished == 0
    sent = [r["params"]["messages"][0]["content"] for b in emulator.batches for r in b.requests]
    assert sorted(sent) == sorted(f"row {i}" for i in range(35))
    assert out["answer"].tolist() == [f"[simulated] {text}" for text in frame()["text"]]
    assert out.index.tolist() == [5] * ROWS


def test_finished_shards_are_not_downloaded_again(
    api: tuple[Emulator, str], tmp_path: Path
) -> None:
    """Killed after the second shard was collected, only the other shards are downloaded."""
    emulator, url = api
    emulator.batches.clear()
    home, path = tmp_path / "ledger", tmp_path / "out.pkl"
    run(url, home, path, "store:Store.mark_collected", "after", 2)
    emulator.calls.clear()
    run(url, home, path)

    assert len(emulator.batches) == 4
    assert sum(call.path.endswith("/results") for call in emulator.calls) == 2
    assert not any(call.method == "POST" for call in emulator.calls)


SCRIPT = """
import sys
import pandas as pd
import claude_batch_pandas
pd.DataFrame({"text": [f"row {i}" for i in range(35)]}).claude.submit("{text}", shard_size=12)
"""


def test_a_script_that_submits_and_ends_has_submitted(
    api: tuple[Emulator, str], tmp_path: Path
) -> None:
    """submit() returns at once; the end of the process waits until everything is sent."""
    emulator, url = api
    emulator.batches.clear()
    settings = {"ANTHROPIC_BASE_URL": url, "CLAUDE_BATCH_HOME": str(tmp_path / "ledger")}
    subprocess.run([sys.executable, "-c", SCRIPT], env=os.environ | settings, check=True)

    assert sum(batch.total for batch in emulator.batches) == 35


def test_a_killed_draft_leaves_nothing_behind(api: tuple[Emulator, str], tmp_path: Path) -> None:
    """What was rendered but never became a run is cleaned up by the next call."""
    _, url = api
    home, path = tmp_path / "ledger", tmp_path / "out.pkl"
    run(url, home, path, "catalog:save", "before", 1)
    drafts = list((home / "runs").glob(".draft-*"))
    run(url, home, path)

    assert len(drafts) == 1
    assert not list((home / "runs").glob(".draft-*"))
