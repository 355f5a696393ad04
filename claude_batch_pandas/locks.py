"""Locks between processes: one writer per run, one planner per ledger.

The system drops a lock when its process dies, so a killed kernel never leaves one behind. Inside a
lock file stands who holds it. On Windows there is no `fcntl`; there a lock always succeeds, and one
kernel at a time is what is supported.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from claude_batch_pandas.exceptions import InputError, LedgerError

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

_held = threading.local()  # paths, by thread
PLANNING = "planning.lock"  # in the ledger's folder: one planner at a time


class Lock:
    """A lock file.

    Parameters
    ----------
    path : Path
        Made when missing, owner-only; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def acquire(self, *, wait: bool = False) -> bool:
        """Take the lock; without `wait`, return False when somebody else holds it.

        Raises
        ------
        LedgerError
            When the file system cannot lock.
        """
        if self.is_held:
            return True
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            msg = (
                f"The lock {self._path} cannot be opened: {error.strerror}. Check its permissions."
            )
            raise LedgerError(msg) from error
        with contextlib.ExitStack() as undo:  # an interrupt while waiting leaves no file open
            undo.callback(os.close, descriptor)
            if not self._flock(descriptor, wait=wait):
                return False
            undo.pop_all()
        self._descriptor = descriptor
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        with contextlib.suppress(OSError):  # a full disk shall not refuse the lock
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(holder).encode())
        return True

    def _flock(self, descriptor: int, *, wait: bool) -> bool:
        if fcntl is None:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        except OSError as error:
            msg = (
                f"The file system cannot lock {self._path} ({error.strerror}). "
                "Set CLAUDE_BATCH_HOME to a local disk."
            )
            raise LedgerError(msg) from error
        return True

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor is not None:
            if fcntl is not None:
                # A forked child shares the file, so closing it here alone would keep the lock.
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = None

    def abandon(self) -> None:
        """Close the file in a forked child; the lock stays with the parent, and ends with it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> str:
        """Return who took the lock last, as ``process 4711 on laptop since 14:05``."""
        told: Any = None
        with contextlib.suppress(OSError, ValueError):
            told = json.loads(self._path.read_bytes())
        try:
            since = time.strftime("%H:%M", time.localtime(told["since"]))
            return f"process {told['pid']} on {told['host']} since {since}"
        except (TypeError, KeyError, ValueError, OverflowError):
            return "another process"


@contextlib.contextmanager
def held(path: Path, patience: float = 5.0) -> Iterator[None]:
    """Wait for a lock and hold it; after some seconds of patience, say who has it.

    Raises
    ------
    InputError
        When this thread holds it already, and would wait for itself for ever.
    """
    mine: set[Path] = _held.__dict__.setdefault("paths", set())
    if path in mine:
        msg = (
            "A run is being planned by this thread: a template function cannot start, attach or "
            "retry another. Make the two calls one after the other."
        )
        raise InputError(msg)
    lock = Lock(path)
    if not lock.acquire():
        telling = threading.Timer(patience, _tell_holder, (lock,))
        telling.daemon = True
        telling.start()
        try:
            lock.acquire(wait=True)
        finally:
            telling.cancel()
    mine.add(path)
    try:
        yield
    finally:
        mine.discard(path)
        lock.release()


def _tell_holder(lock: Lock) -> None:
    log.warning(
        "Waiting for %s, which plans a run in this ledger. Interrupting is safe.", lock.holder()
    )
