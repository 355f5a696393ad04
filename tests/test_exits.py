"""Scripts that end right after submit(), in every way there is: the rerun finishes, paid once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_batch_pandas.emulator import Emulator, serve
from tests.lives import PROMPTS, Cell, judge, live, prompts

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork server")

SCRIPT = """
import os, signal, sys
from tests.lives import frame
frame().claude.submit("{text}", shard_size=12, canary=False)
"""
ORDERLY = {"": 0, "sys.exit(3)": 3, "raise RuntimeError": 1}
SUDDEN = {
    "os._exit(4)": 4,
    "os.kill(os.getpid(), signal.SIGTERM)": -signal.SIGTERM,
    "os.abort()": -signal.SIGABRT,
}


@pytest.fixture
def emulator() -> Emulator:
    return Emulator(duration=0.0)


@pytest.fixture
def cell(emulator: Emulator, tmp_path: Path) -> Iterator[Cell]:
    with serve(emulator=emulator) as url:
        yield Cell(url=url, home=tmp_path / "ledger", path=tmp_path / "out.pkl")


def end(ending: str, cell: Cell) -> int:
    """Run a script that submits and ends, and return its exit code."""
    settings = {"ANTHROPIC_BASE_URL": cell.url, "CLAUDE_BATCH_HOME": str(cell.home)}
    command = [sys.executable, "-c", SCRIPT + ending]
    return subprocess.run(
        command, env=os.environ | settings, capture_output=True, check=False
    ).returncode


@pytest.mark.parametrize("ending", ORDERLY)
def test_a_script_that_submits_and_ends_has_submitted(
    ending: str, emulator: Emulator, cell: Cell
) -> None:
    """submit() returns at once; the end of the process waits until everything is sent."""
    code = end(ending, cell)
    sent = len(prompts(emulator))
    finished = live(cell)

    assert (code, finished) == (ORDERLY[ending], 0)
    assert sent == PROMPTS
    assert judge(emulator, cell) == []


@pytest.mark.parametrize("ending", SUDDEN)
def test_a_script_that_is_gone_at_once_loses_nothing(
    ending: str, emulator: Emulator, cell: Cell
) -> None:
    """Whatever was sent by then, the same call sends the rest, and nothing again."""
    code = end(ending, cell)
    finished = live(cell)

    assert (code, finished) == (SUDDEN[ending], 0)
    assert judge(emulator, cell) == []
