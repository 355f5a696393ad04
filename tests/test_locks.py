"""Locks between processes: one holder, and none left behind by a killed one."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_batch_pandas import locks
from claude_batch_pandas.exceptions import LedgerError
from claude_batch_pandas.locks import Lock, held

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there a lock always succeeds")

INSIDE = "inside"
HOLD = """
import sys
from pathlib import Path
from claude_batch_pandas.locks import Lock
lock = Lock(Path(sys.argv[1]))
print(lock.acquire(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.lock"


@pytest.fixture
def other(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


def test_lock_has_one_holder(path: Path) -> None:
    """A second lock on the same file is refused until the first is released."""
    first, second = Lock(path), Lock(path)
    taken = [first.acquire(), second.acquire()]
    first.release()

    assert taken == [True, False]
    assert second.acquire()
    assert (first.is_held, second.is_held) == (False, True)
    second.release()


FULL = """
import resource
import sys
from pathlib import Path
from claude_batch_pandas.locks import Lock
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
lock = Lock(Path(sys.argv[1]))
print(lock.acquire(), lock.holder(), flush=True)
"""


def test_a_full_disk_does_not_refuse_the_lock(path: Path) -> None:
    """Who holds it is told where there is room to write it down."""
    told = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, check=True)

    assert told.stdout.decode().split(maxsplit=1) == ["True", "another process\n"]
    assert Lock(path).acquire()


def test_taking_it_twice_changes_nothing(path: Path) -> None:
    """A holder may ask again; one release gives it back, and more do no harm."""
    lock = Lock(path)
    taken = [lock.acquire(), lock.acquire()]
    lock.release()
    lock.release()

    assert taken == [True, True]
    assert not lock.is_held
    assert Lock(path).acquire()


def test_lock_holds_between_processes(path: Path, other: subprocess.Popen[str]) -> None:
    """A lock of another process is refused, and the file says whose it is."""
    lock = Lock(path)

    assert not lock.acquire()
    assert not lock.is_held
    assert f"process {other.pid} on " in lock.holder()


def test_killed_process_leaves_no_lock(path: Path, other: subprocess.Popen[str]) -> None:
    """The system drops the lock of a killed process, without anybody cleaning up."""
    other.kill()
    other.wait()
    lock = Lock(path)

    assert lock.acquire()
    assert f"process {os.getpid()} on " in lock.holder()
    lock.release()


def test_waiting_ends_when_the_holder_is_gone(path: Path, other: subprocess.Popen[str]) -> None:
    """Asked to wait, the lock is taken as soon as the other process lets it go."""
    done = threading.Event()

    def take() -> None:
        with held(path):
            done.set()

    waiter = threading.Thread(target=take, daemon=True)
    waiter.start()
    was_done = done.is_set()
    other.kill()
    other.wait()
    waiter.join(timeout=30)

    assert not was_done
    assert done.is_set()
    assert Lock(path).acquire()


def test_interrupt_while_waiting_takes_nothing(path: Path, other: subprocess.Popen[str]) -> None:
    """Stopping a wait for a lock leaves it with its holder and nothing half taken."""
    lock = Lock(path)

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt(INSIDE)

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt, match=INSIDE):
            lock.acquire(wait=True)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert not lock.is_held
    assert f"process {other.pid} on " in lock.holder()


def test_lock_is_given_back_after_an_error(path: Path) -> None:
    """An error inside the context gives the lock back."""
    with pytest.raises(ValueError, match=INSIDE), held(path):
        raise ValueError(INSIDE)

    assert Lock(path).acquire()


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_lock_file_is_for_its_owner(path: Path, umask: int) -> None:
    """The lock file has mode 0600 whatever the umask."""
    before = os.umask(umask)
    try:
        Lock(path).acquire()
    finally:
        os.umask(before)

    assert path.stat().st_mode & 0o777 == 0o600


def test_lock_without_a_folder_is_told(tmp_path: Path) -> None:
    """A lock that cannot be made is an error of the ledger, with the path."""
    with pytest.raises(LedgerError, match=r"nowhere.run\.lock cannot be opened: No such file"):
        Lock(tmp_path / "nowhere" / "run.lock").acquire()


def test_a_file_system_that_cannot_lock_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a lock two kernels would send the same shard, so nothing goes on there."""

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    lock = Lock(path)

    with pytest.raises(LedgerError, match=r"cannot lock .*Set CLAUDE_BATCH_HOME to a local disk"):
        lock.acquire()
    assert not lock.is_held


def test_a_system_without_locks_serves_one_kernel(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows a lock always succeeds, and is given back like any other."""
    monkeypatch.setattr(locks, "fcntl", None)
    first, second = Lock(path), Lock(path)
    taken = [first.acquire(), second.acquire()]
    first.release()

    assert taken == [True, True]
    assert (first.is_held, second.is_held) == (False, True)
    second.release()


@pytest.mark.parametrize(
    "content", [None, b"", b"not json", b"[1]", b"\xff", b'{"pid": 1, "host": "h", "since": 1e999}']
)
def test_unknown_holder_is_nobody(path: Path, content: bytes | None) -> None:
    """A lock file that is missing or damaged names no holder."""
    if content is not None:
        path.write_bytes(content)

    assert Lock(path).holder() == "another process"


def test_who_waits_is_told_for_whom(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A kernel that plans for long does not make another one hang without a word."""
    first = Lock(path)
    first.acquire()

    class Release(logging.Handler):
        """Ends the waiting as soon as it was told of."""

        def emit(self, record: logging.LogRecord) -> None:
            """Take the record as the sign that somebody waits."""
            assert record.levelno == logging.WARNING
            first.release()

    # At the root and last, so that the record has reached caplog before anybody can go on.
    logging.getLogger().addHandler(handler := Release(logging.WARNING))
    try:
        with held(path, patience=0.0):
            pass
    finally:
        logging.getLogger().removeHandler(handler)

    assert f"Waiting for process {os.getpid()} on " in caplog.text
    assert "which plans a run in this ledger. Interrupting is safe." in caplog.text
