"""What a person sees in a terminal: a session in a pseudo-terminal, screen by screen."""

from __future__ import annotations

import errno
import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from claude_batch_pandas.emulator import Emulator, serve
from tests.lives import PATIENCE
from tests.test_steps import on_look

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals there")

COLUMNS, LINES = 160, 24
COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may ignore it
import claude_batch_pandas as cbp
from claude_batch_pandas.cli import main
cbp.options.poll_seconds = (0.05, 0.2)
sys.exit(main(sys.argv[1:]))
"""


class Clock:
    """The server's, which the test sets forward."""

    seconds = 0.0

    def now(self) -> float:
        return time.time() + self.seconds


@pytest.fixture
def clock_of_server() -> Clock:
    return Clock()


@pytest.fixture
def emulator(clock_of_server: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Serve an API whose batches end when the test lets time pass."""
    emulator = Emulator(clock=clock_of_server.now, duration=3600.0)
    with serve(emulator=emulator) as url:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
        monkeypatch.setenv("TERM", "xterm")
        yield emulator


class Session:
    """A command in a terminal of its own, recorded.

    Attributes
    ----------
    screens : list of str
        Every screen that was seen, each but for its blank ends.
    """

    def __init__(self, *arguments: str) -> None:
        import fcntl
        import struct
        import termios

        import pyte

        self.screens = [""]
        self._screen = pyte.Screen(COLUMNS, LINES)
        self._stream = pyte.ByteStream(self._screen)
        self.terminal, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *arguments],
            preexec_fn=lambda: os.login_tty(theirs),  # noqa: PLW1509 - Ctrl-C comes from a terminal
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.terminal)

    def see(self, pattern: str) -> str:
        """Watch until the screen shows something; return the screen."""
        return self._watch(lambda: re.search(pattern, self.screens[-1]) is not None, pattern)

    def end(self) -> str:
        """Watch until the command is over; return the last screen."""
        self._watch(lambda: False, "the end")
        self.process.wait(PATIENCE)
        return self.screens[-1]

    @property
    def title(self) -> str:
        """What the window is called."""
        return str(self._screen.title)

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.terminal, keys)

    def _watch(self, is_seen: Callable[[], bool], what: str) -> str:
        deadline = time.monotonic() + PATIENCE
        while not is_seen():
            ready, _, _ = select.select([self.terminal], [], [], deadline - time.monotonic())
            assert ready, f"{what} was not seen; the last screen:\n{self.screens[-1]}"
            try:
                data = os.read(self.terminal, 65_536)
            except OSError as error:
                if error.errno != errno.EIO:  # so Linux tells that nobody writes any more
                    raise
                data = b""
            if not data:
                break
            self._stream.feed(data)
            screen = "\n".join(line.rstrip() for line in self._screen.display).rstrip()
            if screen != self.screens[-1]:
                self.screens.append(screen)
        return self.screens[-1]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("text\none\ntwo\nthree\n")
    return path


def test_a_run_is_followed_live(emulator: Emulator, clock_of_server: Clock, rows: Path) -> None:
    """A bar that moves in its line, over a network that goes away, to a line that stays."""
    with Session("submit", str(rows), "-t", "Label {text}", "--wait") as session:
        session.see(r"\|.*\| 0/1 shards, .*in progress at the API, expires in")
        emulator.faults = [on_look(reset=True, times=None)]
        session.see(r"0/1 shards, .*[Cc]onnection.* Asking again in")
        emulator.faults = []
        session.see(r"0/1 shards, \d+ s, in progress at the API, expires in \d\d h \d\d min$")
        clock_of_server.seconds += 3601
        last = session.end()
    first, *rest = last.splitlines()
    assert session.process.returncode == 0
    assert "3 rows, 3 distinct requests (0 asked before) in 1 batch" in first
    assert re.search(
        r"^3 succeeded; \$0\.0\d+; \d+ s; run \d{8}-answer-\w{4}$", "\n".join(rest), re.MULTILINE
    )
    assert "shards" not in last  # the bar is gone
    assert all(screen.count(" shards, ") <= 1 for screen in session.screens)
    assert len(emulator.batches) == 1


def test_ctrl_c_in_a_terminal_leaves_the_run_alone(
    emulator: Emulator, clock_of_server: Clock, rows: Path
) -> None:
    """And `watch` goes on where it was."""
    with Session("submit", str(rows), "-t", "Label {text}", "--wait") as session:
        session.see("in progress at the API")
        session.type(b"\x03")
        last = session.end()
    [run_id] = set(re.findall(r"\d{8}-answer-\w{4}", last))
    assert session.process.returncode == 130
    assert f"Run {run_id} goes on; come back: claude-batch watch {run_id}" in last
    assert "Traceback" not in last
    with Session("watch", run_id) as session:
        session.see("in progress at the API")
        clock_of_server.seconds += 3601
        last = session.end()
    assert session.process.returncode == 0
    assert re.search(rf"3 succeeded; \$0\.0\d+; .*; run {run_id}$", last)
    assert [batch.total for batch in emulator.batches] == [3]
    assert not [call for call in emulator.calls if call.path.endswith("/cancel")]


def test_what_a_server_says_moves_no_cursor(
    emulator: Emulator, clock_of_server: Clock, rows: Path
) -> None:
    """Whatever a terminal would take it for, it is text."""
    said = "\x1b[2J\x1b]0;owned\x07bad"
    body = {"type": "error", "error": {"type": "api_error", "message": said}}
    with Session("submit", str(rows), "-t", "{text}", "--wait") as session:
        session.see("in progress at the API")
        emulator.faults = [on_look(status=500, body=json.dumps(body).encode(), times=None)]
        screen = session.see("api_error: .*bad")
        emulator.faults = []
        clock_of_server.seconds += 3601
        last = session.end()
    assert "3 rows, 3 distinct" in screen.splitlines()[0]  # which would be cleared
    assert "3 succeeded" in last
    assert session.title == ""
