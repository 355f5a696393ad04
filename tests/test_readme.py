"""Every snippet of the README runs, and prints what the README says it prints."""

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

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def blocks() -> list[tuple[str, str]]:
    """Return (language, text) of every fenced block, in order."""
    return BLOCK.findall(README.read_text())


def test_snippets_run_and_print_what_the_readme_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Python blocks run one after the other, as a reader would run them."""
    monkeypatch.chdir(tmp_path)
    cbp.options.poll_seconds = (0.05, 0.1)
    names: dict[str, Any] = {}
    found = blocks()
    checked = 0
    for i, (language, text) in enumerate(found):
        if language != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(text, f"README.md block {i}", "exec", dont_inherit=True), names)  # noqa: S102 - our own text
        if i + 1 < len(found) and found[i + 1][0] == "text":
            # Before pandas 3, the strings that we return print a missing value as <NA>.
            told = printed.getvalue().replace("<NA>", " NaN")
            assert told.rstrip() == found[i + 1][1].rstrip()
            checked += 1

    assert checked >= 4


def test_commands_exist() -> None:
    """Every make target and claude-batch command in the README is there."""
    shell = "\n".join(text for language, text in blocks() if language == "sh")
    targets = set(re.findall(r"^make (\w+)", shell, re.MULTILINE))
    commands = set(re.findall(r"^claude-batch (\w+)", shell, re.MULTILINE))
    makefile = (README.parent / "Makefile").read_text()
    help_text = subprocess.run(
        [sys.executable, "-m", "claude_batch_pandas", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert targets == {"demo", "test"}
    assert all(f"\n{target}:" in makefile for target in targets)
    exist = set(re.findall(r"^  ([a-z]+) ", help_text.partition("Commands:")[2], re.MULTILINE))
    assert commands == exist - {"demo"}
