"""Processes that make one call and may die of it, and the judge of what came of them.

A life is forked from a server that has everything imported, so that it costs milliseconds. What it
does goes through a pipe; what it leaves behind is judged by the emulator, which bills every request
that was accepted.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import logging
import multiprocessing
import os
import pickle
import signal
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pandas as pd

import claude_batch_pandas as cbp
from claude_batch_pandas import session
from claude_batch_pandas.clock import SystemClock
from claude_batch_pandas.emulator import Emulator
from claude_batch_pandas.records import ShardState
from claude_batch_pandas.store import Store
from claude_batch_pandas.verifying import verify

try:
    import resource
except ImportError:  # pragma: no cover - Windows
    resource = None  # type: ignore[assignment]

ROWS = 40
PROMPTS = 35  # different ones
SHARDS = 4
PATIENCE = 60.0  # seconds, for what takes a moment: a test shall fail, not hang
YEAR = 365.25 * 86_400.0

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.warm"])


def frame() -> pd.DataFrame:
    """Return the rows every process asks about."""
    return pd.DataFrame({"text": [f"row {i % PROMPTS}" for i in range(ROWS)]}, index=[5] * ROWS)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A call, and what befalls the process that makes it."""

    url: str
    home: Path
    path: Path  # of the answers
    step: str = ""  # such as "store:Store.add_run", where a signal strikes
    when: str = "before"  # or "after"
    nth: int = 1  # at which call of that step
    blow: int = signal.SIGKILL
    read_timeout: float | None = None  # of the SDK's client, in seconds
    years: tuple[float, ...] = (0.0,)  # that its clock is wrong by, one look after the other
    waits: bool = False  # for a word before it begins
    largest: int | None = None  # bytes that it may write into a file

    def but(self, **changes: Any) -> Cell:
        """Return another cell with the same call."""
        return replace(self, **changes)


class WrongClock(SystemClock):
    """The machine's clock, some years off; with several numbers it jumps at every look."""

    def __init__(self, *years: float) -> None:
        self._years = itertools.cycle(years)

    def now(self) -> float:
        """Return the wrong seconds since 1970."""
        return super().now() + next(self._years) * YEAR


class Life:
    """A process that makes a call, from its birth on."""

    def __init__(self, cell: Cell) -> None:
        self._pipe, theirs = processes.Pipe()
        self._process = processes.Process(target=_live, args=(cell, theirs), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None, "it was started"
        return self._process.pid

    def go(self) -> None:
        """Give the word that a cell with `waits` waits for."""
        self._pipe.send("go")

    def until(self, kind: str, is_it: Callable[..., bool] = lambda *_: True) -> tuple[Any, ...]:
        """Wait for it to tell something of a kind, and return what it told."""
        while self._pipe.poll(PATIENCE):
            told, *about = self._pipe.recv()
            if told == kind and is_it(*about):
                return tuple(about)
            assert told != "failed" or kind == "failed", about
        msg = f"the process told nothing of {kind!r} in {PATIENCE} s"
        raise AssertionError(msg)

    def told(self) -> list[tuple[Any, ...]]:
        """Return what it told and nobody asked for; call it when the process is over."""
        messages = []
        with contextlib.suppress(EOFError):
            while self._pipe.poll():
                messages.append(self._pipe.recv())
        return messages

    def is_over_in(self, seconds: float) -> bool:
        """Give it some time; tell whether it ended."""
        self._process.join(seconds)
        return self._process.exitcode is not None

    def strike(self, blow: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, blow)

    def end(self) -> int:
        """Wait for its end and return its exit code."""
        self._process.join(PATIENCE)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
            self._process.join()
            msg = f"the process was not over in {PATIENCE} s"
            raise AssertionError(msg)
        return code

    def kill(self) -> int:
        """Kill it, and return its exit code."""
        self._process.kill()
        return self.end()


def live(cell: Cell) -> int:
    """Let a process make the call, and return its exit code."""
    return Life(cell).end()


def judge(emulator: Emulator, cell: Cell) -> list[str]:
    """Return what is wrong: a request billed twice or never, a wrong row, a lost batch, a bad file."""
    out = pd.read_pickle(cell.path)  # noqa: S301 - written by our own process
    sent = sorted(prompts(emulator))
    ours = {shard.batch_id for run in _store(cell).runs() for shard in _store(cell).shards(run.id)}
    lost = [batch.id for batch in emulator.batches if batch.id not in ours]
    expected = frame().assign(answer=[f"[simulated] {text}" for text in frame()["text"]])
    wrong = {
        f"{len(sent)} requests were billed": sent != sorted(set(frame()["text"])),
        f"batches that the ledger does not own: {lost}": lost != [],
        "rows have wrong answers": out["answer"].tolist() != expected["answer"].tolist(),
        "the index changed": out.index.tolist() != expected.index.tolist(),
        f"damaged files: {[*verify(cell.home)]}": any(verify(cell.home)),
    }
    return [what for what, is_wrong in wrong.items() if is_wrong]


def prompts(emulator: Emulator) -> list[str]:
    """Return the prompts of every batch that was accepted."""
    return [r["params"]["messages"][0]["content"] for b in emulator.batches for r in b.requests]


def intents(cell: Cell) -> int:
    """Return how many shards the ledger knows to have been sent, perhaps."""
    store = _store(cell)
    shards = [shard for run in store.runs() for shard in store.shards(run.id)]
    return sum(shard.state is not ShardState.PLANNED for shard in shards)


def _store(cell: Cell) -> Store:
    return Store(cell.home)


def _live(cell: Cell, pipe: Connection) -> None:
    """Make the call; the process is one of its own."""
    for name in [name for name in os.environ if name.startswith(("ANTHROPIC_", "CLAUDE_BATCH"))]:
        del os.environ[name]
    os.environ |= {"ANTHROPIC_BASE_URL": cell.url, "CLAUDE_BATCH_HOME": str(cell.home)}
    os.environ["HOME"] = str(cell.home.parent)  # where the SDK looks for a profile
    cbp.options.poll_seconds = (0.02, 0.05)
    cbp.options.settle_seconds = 1.1
    session.clock = WrongClock(*cell.years)
    voice = _Voice(pipe)
    logging.getLogger("claude_batch_pandas").addHandler(_Telling(voice))
    if cell.waits:
        voice.send(("ready",))
        pipe.recv()
    if cell.largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (cell.largest, resource.RLIM_INFINITY))
    if cell.step:
        strike_at(cell, voice)
    try:
        out = frame().claude.batch(
            "{text}",
            shard_size=12,
            canary=False,
            client=_client(cell),
            progress=_hook(voice),
        )
    except Exception as error:
        voice.send(("failed", type(error).__name__, str(error)))
        raise SystemExit(1) from error
    with contextlib.suppress(OSError):  # where the disk is full, it is for this, too
        cell.path.write_bytes(pickle.dumps(out))


def _client(cell: Cell) -> Any:
    import anthropic

    if cell.read_timeout is None:
        return None
    return anthropic.Anthropic(api_key="none", timeout=cell.read_timeout)


class _Voice:
    """Tells through a pipe without the system call ``write``, which a test may let fail."""

    def __init__(self, pipe: Connection) -> None:
        self._socket = socket.socket(fileno=os.dup(pipe.fileno()))

    def send(self, message: tuple[Any, ...]) -> None:
        """Send what `Connection.recv` understands."""
        data = pickle.dumps(message)
        self._socket.sendall(struct.pack("!i", len(data)) + data)


def _hook(voice: _Voice) -> Callable[[Any], None]:
    """Return a progress hook that tells the note, the state and when it was."""
    return lambda progress: voice.send(
        ("progress", progress.note, str(progress.state), progress.submitted, time.monotonic())
    )


class _Telling(logging.Handler):
    """Tells warnings through a pipe."""

    def __init__(self, voice: _Voice) -> None:
        super().__init__(logging.WARNING)
        self._voice = voice

    def emit(self, record: logging.LogRecord) -> None:
        self._voice.send(("warned", record.getMessage()))


def strike_at(cell: Cell, voice: _Voice) -> None:
    """Have this process struck just before the n-th call of a function of ours, or as it returns."""
    module_name, _, name = cell.step.partition(":")
    owner: Any = importlib.import_module(f"claude_batch_pandas.{module_name}")
    *classes, attribute = name.split(".")
    for part in classes:
        owner = getattr(owner, part)
    original = getattr(owner, attribute)
    begun, returned = itertools.count(1), itertools.count(1)  # a call that raises does not return

    def strike() -> None:
        voice.send(("struck",))
        os.kill(os.getpid(), cell.blow)

    def deadly(*args: Any, **kwargs: Any) -> Any:
        if next(begun) == cell.nth and cell.when == "before":
            strike()
        result = original(*args, **kwargs)
        if next(returned) == cell.nth and cell.when == "after":
            strike()
        return result

    setattr(owner, attribute, deadly)
