"""What every test starts from: a ledger of its own, no credentials, a clock that jumps."""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import anthropic
import httpx2
import pandas as pd
import pytest
from hypothesis import settings

import claude_batch_pandas as cbp
from claude_batch_pandas import session
from claude_batch_pandas.emulator import Emulator

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


# Files that take long, and the longest first, so that in the end no core has nothing to do.
LONG = (
    "test_notebook",
    "test_notebooks",
    "test_simulator",
    "test_loops",
    "test_demo",
    "test_exits",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long."""
    ranks = {name: rank for rank, name in enumerate(LONG)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(LONG)))


class JumpingClock:
    """Time that passes only when somebody waits for it, and then at once."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self._now = start
        self._mutex = threading.Lock()
        self.on_wait: Callable[[], None] = lambda: None

    def now(self) -> float:
        """Return the virtual seconds since 1970."""
        return self._now

    def monotonic(self) -> float:
        """Return the same; it never goes back."""
        return self._now

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Let the time pass, unless there is nothing to wait for."""
        self.on_wait()
        if not event.is_set():
            self.advance(seconds)
        return event.is_set()

    def advance(self, seconds: float) -> None:
        """Let time pass without anybody waiting."""
        with self._mutex:
            self._now += seconds


def lack(reason: str) -> NoReturn:
    """Skip a test for a tool that is not here; with ``CBP_BROWSER=required``, fail."""
    if os.environ.get("CBP_BROWSER") == "required":
        pytest.fail(f"All tools are required here, but {reason}.")
    pytest.skip(reason)


def need(*modules: str) -> None:
    """Skip a test, or fail, unless all of these can be imported."""
    for name in modules:
        if importlib.util.find_spec(name) is None:
            lack(f"{name} is not installed")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the test a ledger of its own and no credentials."""
    for name in [name for name in os.environ if name.startswith(("ANTHROPIC_", "CLAUDE_BATCH"))]:
        monkeypatch.delenv(name)
    folder = tmp_path / "ledger"
    monkeypatch.setenv("CLAUDE_BATCH_HOME", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path))  # where the SDK looks for a profile
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    cbp.options.progress = "none"
    cbp.options.canary = False  # its own tests turn it on
    yield folder
    session.crew.stop()
    cbp.options.reset()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let SIGINT interrupt, even where the tests were started with it ignored (as by ``&``)."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def jupyter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let kernels keep what they write in a folder of the test; return it."""
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> JumpingClock:
    """Let the package live on a clock that jumps."""
    jumping = JumpingClock()
    monkeypatch.setattr(session, "clock", jumping)
    return jumping


@pytest.fixture
def connect() -> Callable[..., anthropic.Anthropic]:
    """Return a function that makes a real SDK client for an emulator in this process."""

    def client(emulator: Emulator, api_key: str = "key-of-a-test", **options: Any) -> Any:
        transport = emulator.transport()
        return anthropic.Anthropic(
            api_key=api_key, http_client=httpx2.Client(transport=transport), **options
        )

    return client


@pytest.fixture
def emulator(clock: JumpingClock) -> Emulator:
    """Return an API that ends every batch after a virtual minute."""
    return Emulator(clock=clock.now, duration=60.0)


@pytest.fixture
def client(emulator: Emulator, connect: Callable[..., anthropic.Anthropic]) -> anthropic.Anthropic:
    """Return a real SDK client that talks to the emulator."""
    return connect(emulator)


@pytest.fixture
def queries() -> pd.DataFrame:
    """Return a small frame of bank queries with a duplicate index."""
    texts = ["Where is my card?", "I lost my card!", "Top up failed", "Where is my card?"]
    return pd.DataFrame({"text": texts, "n": [1, 2, 3, 4]}, index=[7, 7, 8, 9])
