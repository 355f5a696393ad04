"""Every snippet of the emulator's page runs, and prints what the page says it prints."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas.emulator import FAILURES, Emulator
from claude_batch_pandas.emulator.fixtures import claude_emulator
from claude_batch_pandas.emulator.limits import TIERS
from claude_batch_pandas.emulator.rules import OUTCOMES
from claude_batch_pandas.emulator.server import EmulatorOptions

__all__ = ["claude_emulator"]  # imported for its name, as a conftest does

PAGE = Path(cbp.__file__).parent / "emulator" / "README.md"
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """Run the Python blocks one after the other, and return the names they leave."""
    names: dict[str, Any] = {"__name__": "page"}
    found = BLOCK.findall(PAGE.read_text())
    checked = 0
    for i, (language, text) in enumerate(found):
        if language != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(text, f"README.md block {i}", "exec"), names)  # noqa: S102 - our own text
        if i + 1 < len(found) and found[i + 1][0] == "text":
            assert printed.getvalue().rstrip() == found[i + 1][1].rstrip()
            checked += 1
    assert checked == 3
    return names


def test_the_pages_own_test_passes(names: dict[str, Any], claude_emulator: Emulator) -> None:
    """The test that the page shows is run as it stands there."""
    names["test_refusals_are_data"](claude_emulator)

    assert len(claude_emulator.batches) == 1


def test_every_flag_is_described() -> None:
    """The table of flags is the command's help."""
    done = subprocess.run(
        [sys.executable, "-m", "claude_batch_pandas", "emulate", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    flags = set(re.findall(r"^  (--[\w-]+)", done.stdout, re.MULTILINE)) - {"--help"}

    assert set(re.findall(r"^\| `(--[\w-]+)", PAGE.read_text(), re.MULTILINE)) == flags


def test_every_tier_and_outcome_is_described() -> None:
    page = PAGE.read_text()
    for name, tier in TIERS.items():
        assert f"| `{name}` | {tier.requests_per_minute:,} | {tier.queued_requests:,} |" in page

    assert all(f"`{outcome}`" in page for outcome in OUTCOMES)


def test_every_named_fault_is_described() -> None:
    """The table has each once: without -after where that is another, and with N for a status."""
    row = r"^\| `([\w-]+)` \| ((?:POST|batch|list|results): .*) \|$"
    names: dict[str, str] = {}
    for name, (words, _) in FAILURES.items():
        if name.endswith("-after") and name.removesuffix("-after") in FAILURES:
            continue
        status = re.fullmatch(r"(?:status|html)-(\d+)", name)
        number = status[1] if status else "N"
        names[name.replace(number, "N")] = words.replace(number, "N")

    assert dict(re.findall(row, PAGE.read_text(), re.MULTILINE)) == names


def test_serve_takes_what_an_emulator_takes() -> None:
    """Options of the one are options of the other, but for speed, which serve names itself."""
    taken = set(Emulator.__init__.__annotations__) - {"return", "speed"}

    assert set(EmulatorOptions.__annotations__) == taken
