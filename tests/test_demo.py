from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anthropic
import pandas as pd
import pytest

from claude_batch_pandas import demo, options
from claude_batch_pandas.emulator import Emulator
from claude_batch_pandas.exceptions import BatchError

CANARY = "sk-ant-canary-5f0c1e"
RUN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from claude_batch_pandas.cli import main
sys.exit(main(["demo", *sys.argv[1:]]))
"""


def start(temporary: Path, *options: str) -> subprocess.Popen[str]:
    """Start the demo with credentials in its environment that it must not touch."""
    return subprocess.Popen(
        [sys.executable, "-c", RUN, *options],
        env={
            **os.environ,
            "TMPDIR": str(temporary),
            "ANTHROPIC_API_KEY": CANARY,
            "ANTHROPIC_AUTH_TOKEN": CANARY,
            "ANTHROPIC_BASE_URL": "http://192.0.2.1",  # of a network that exists nowhere
            "HTTP_PROXY": "http://192.0.2.1",
            "CLAUDE_BATCH_HOME": str(temporary / "mine"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that its own child can be ended with it
    )


def read_until(process: subprocess.Popen[str], start_of_line: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(start_of_line):
            return
    pytest.fail(f"The demo ended without a line that starts with {start_of_line!r}.")


def number(name: str, out: str) -> int:
    (found,) = re.findall(rf"^ *{name}: ([\d,]+)", out, re.MULTILINE)
    return int(found.replace(",", ""))


def test_the_demo_dies_resumes_and_sends_nothing_twice(tmp_path: Path) -> None:
    with start(tmp_path, "--json") as process:
        told, out = process.communicate(timeout=60)

    assert process.returncode == 0, out
    found = json.loads(told)
    assert found["requests"] == found["asked"] == number("requests on the server", out)
    assert (found["twice"], found["missing"]) == (0, 0)
    assert number("succeeded", out) == 3_080
    assert re.search(r"it would have cost: \$0\.\d\d$", out, re.MULTILINE)
    assert re.search(r"accuracy against the gold intents: \d\d\.\d% \(simulated", out)
    assert re.search(r"\.\.\. +\.\.\..*\n3075 ", out), "the frame is shown"
    assert "SIGKILL, exit code -9" in out
    (sent, shards) = re.findall(r"had sent: (\d+) of (\d+)", out)[0]
    assert 0 < int(sent) < int(shards)
    assert "rows with a reply: 3,080 of 3,080" in out
    assert number("batches on the server", out) == number("shards", out) + int(shards)
    assert number("requests on the server", out) == number("unique requests asked", out)
    assert number("requests never sent", out) == 0
    assert number("requests sent twice", out) == 0
    assert len(re.findall(r"^run .*shards ended", out, re.MULTILINE)) >= 4, "it is live"
    assert CANARY not in told + out
    assert list(tmp_path.iterdir()) == [], "the user's ledger is not touched, its own is gone"


def test_no_key_reaches_the_disk(tmp_path: Path) -> None:
    """A demo that is killed outright leaves its ledger behind; it holds no credentials."""
    with start(tmp_path) as process:
        read_until(process, "2. A second run")
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)

    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name.endswith(".results.jsonl") for path in files)
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []


def test_an_interrupt_ends_it_at_once(tmp_path: Path) -> None:
    with start(tmp_path) as process:
        read_until(process, "1. Label")
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)

    assert process.returncode == 130
    assert error.endswith("interrupted\n")
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_ends_too_early_is_an_error() -> None:
    with (
        subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"]) as child,
        pytest.raises(BatchError, match="ended by itself, with exit code 7, before its time"),
    ):
        demo.wait_for_batches(Emulator(), 1, child)


def test_the_count_sees_what_was_sent_twice_and_what_was_not_sent(
    connect: Callable[..., anthropic.Anthropic],
) -> None:
    options.poll_seconds = (0.01, 0.1)
    queries = pd.DataFrame({"text": ["one", "two", "two"], "category": ["a", "b", "b"]})
    server = Emulator(duration=0)
    client = connect(server)
    for _ in range(2):
        queries.claude.batch(**demo.intent_call(queries), reuse=False, client=client)

    tally = demo.count_requests(queries, server)

    assert tally == demo.Tally(batches=2, requests=4, asked=4, twice=2, missing=2)
    assert "requests sent twice: 2" in str(tally)
