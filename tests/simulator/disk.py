"""The disk of the simulated machine: real files, in which a crash leaves what a crash would.

It stands where the operating system does (``os``, ``fcntl``, ``sqlite3``), so the package needs no
seam of its own. A file that was not fsynced may be gone, empty or cut after a loss of power, and
what was renamed or deleted in a folder that was not fsynced may be undone. SQLite is the real one:
durable once COMMIT returned. New folders are taken to be durable, as they are on every file system
that orders its journal.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, Self

from claude_batch_pandas import database
from tests.simulator.turns import Kernel, Turns

LOCK_SECONDS = 1.0  # until somebody who waits for a lock tries again; then twice as long
real_open, real_fdopen, real_fsync = os.open, os.fdopen, os.fsync
real_replace, real_unlink, real_rmdir, real_mkdir = os.replace, os.unlink, os.rmdir, os.mkdir
real_flock, real_connect = fcntl.flock, sqlite3.connect


class Change(NamedTuple):
    """A rename or deletion that is not on the disk yet."""

    folder: str
    undo: Callable[[], None]


class Disk:
    """The files of one ledger.

    Parameters
    ----------
    turns : Turns
    dice : Random
    """

    def __init__(self, turns: Turns, dice: Random) -> None:
        self._turns, self._dice = turns, dice
        self._names: dict[int, str] = {}  # open files by descriptor
        self._unsynced: set[str] = set()
        self._changes: list[Change] = []
        self._idle = _IdleOfWhoeverAsks(turns)

    def close(self, kernel: Kernel | None) -> None:
        """Close what a kernel that is gone had open."""
        self._idle.close(kernel)

    def close_all(self) -> None:
        """Close whatever is open."""
        for kernel in self._idle.kernels():
            self.close(kernel)

    def lose(self) -> None:
        """Lose what was not synced, as when the power fails."""
        while self._changes and self._dice.random() < 0.7:
            with contextlib.suppress(OSError):  # its folder was renamed or deleted since
                self._changes.pop().undo()
        for path in sorted(self._unsynced):
            what = self._dice.choice(["gone", "empty", "cut", "whole"])
            if not os.path.exists(path) or what == "whole":
                continue
            if what == "gone":
                real_unlink(path)
            else:
                size = os.path.getsize(path)
                os.truncate(path, 0 if what == "empty" else self._dice.randrange(size + 1))
        self._unsynced.clear()
        self._changes.clear()

    def patches(self) -> list[tuple[Any, str, Any]]:
        """Return what stands for the operating system while a schedule runs."""
        return [
            (os, "open", self._open),
            (os, "fdopen", self._fdopen),
            (os, "fsync", self._fsync),
            (os, "replace", self._replace),
            (os, "rename", self._replace),
            (os, "unlink", self._unlink),
            (os, "rmdir", self._rmdir),
            (os, "mkdir", self._mkdir),
            (fcntl, "flock", self._flock),
            (sqlite3, "connect", self._connect),
            (database, "_idle", self._idle),
        ]

    def _reach(self, kernel: Kernel, what: str) -> None:
        kernel.reach("disk", what)
        if kernel.is_full("disk"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _open(self, path: Any, flags: int, mode: int = 0o777, **options: Any) -> int:
        kernel = self._turns.kernel
        if kernel is None:
            return real_open(path, flags, mode, **options)
        kernel.check()
        name = os.fspath(path)
        descriptor = real_open(path, flags, mode, **options)
        self._names[descriptor] = name
        if flags & os.O_TRUNC:
            self._unsynced.add(name)
            try:
                self._reach(kernel, f"opened {_label(name)}")
            except BaseException:
                os.close(descriptor)
                raise
        return descriptor

    def _fdopen(self, descriptor: int, *args: Any, **options: Any) -> Any:
        file = real_fdopen(descriptor, *args, **options)
        kernel = self._turns.kernel
        return file if kernel is None else _File(self, kernel, file, self._names[descriptor])

    def _fsync(self, descriptor: int) -> None:
        kernel = self._turns.kernel
        if kernel is None:
            real_fsync(descriptor)
            return
        name = self._names[descriptor]
        self._reach(kernel, f"before fsync of {_label(name)}")
        self._unsynced.discard(name)
        self._changes = [change for change in self._changes if change.folder != name]
        self._reach(kernel, f"after fsync of {_label(name)}")

    def _replace(self, source: Any, target: Any) -> None:
        kernel = self._turns.kernel
        if kernel is None:
            real_replace(source, target)
            return
        old, new = os.fspath(source), os.fspath(target)
        kernel.reach("disk", f"before rename to {_label(new)}")
        before = _content(new)
        real_replace(old, new)
        self._rename(old, new)

        def undo() -> None:
            real_replace(new, old)
            self._rename(new, old)
            _restore(new, before)

        self._changes.append(Change(os.path.dirname(new), undo))
        kernel.reach("disk", f"after rename to {_label(new)}")

    def _rename(self, old: str, new: str) -> None:
        """Follow a file, or what is in a folder, to its new name."""
        self._unsynced.discard(new)
        for path in sorted(self._unsynced):
            if path == old or path.startswith(f"{old}/"):
                self._unsynced.remove(path)
                self._unsynced.add(new + path.removeprefix(old))

    def _unlink(self, path: Any, **options: Any) -> None:
        kernel = self._turns.kernel
        if kernel is None:
            real_unlink(path, **options)
            return
        kernel.check()
        name = os.fspath(path)
        before = None if options else _content(name)  # by descriptor: of a draft, nobody's loss
        real_unlink(path, **options)
        self._unsynced.discard(name)
        self._changes.append(Change(os.path.dirname(name), lambda: _restore(name, before)))
        kernel.reach("disk", f"deleted {_label(name)}")

    def _rmdir(self, path: Any, **options: Any) -> None:
        self._check()
        real_rmdir(path, **options)

    def _mkdir(self, path: Any, mode: int = 0o777, **options: Any) -> None:
        self._check()
        real_mkdir(path, mode, **options)

    def _check(self) -> None:
        kernel = self._turns.kernel
        if kernel is not None:
            kernel.check()

    def _flock(self, descriptor: Any, how: int) -> None:
        """Lock for real, but wait for a lock in virtual time."""
        kernel = self._turns.kernel
        if kernel is None or how == fcntl.LOCK_UN:  # the system frees the locks of the dead
            real_flock(descriptor, how)
            return
        kernel.check()
        wait = LOCK_SECONDS
        while True:
            try:
                real_flock(descriptor, how | fcntl.LOCK_NB)
            except BlockingIOError:
                if how & fcntl.LOCK_NB:
                    raise
                self._turns.sleep(wait)
                wait *= 2
            else:
                kernel.reach("lock", "has the lock")
                return

    def _connect(self, *args: Any, **options: Any) -> Any:
        kernel = self._turns.kernel
        if kernel is None:
            return real_connect(*args, **options)
        kernel.check()
        connection = real_connect(*args, **options, factory=_Connection)
        connection.kernel = kernel
        return connection


class _IdleOfWhoeverAsks:
    """The connections that a process has open and does not use; a process sees its own only."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._idle: dict[Kernel | None, dict[Any, Any]] = defaultdict(dict)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._idle[self._turns.kernel])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._idle[self._turns.kernel], name)

    def kernels(self) -> list[Kernel | None]:
        """Return the processes that were here."""
        return [*self._idle]

    def close(self, kernel: Kernel | None) -> None:
        """Close those of a process."""
        for connection, _ in self._idle.pop(kernel, {}).values():
            connection.close()


class _Connection(sqlite3.Connection):
    """A connection of a simulated process: nobody else's turn comes inside a transaction."""

    kernel: Kernel
    last = ""  # what the transaction did, for the trace

    def execute(self, statement: str, *args: Any) -> sqlite3.Cursor:
        kernel = self.kernel
        kernel.check()
        if statement != "COMMIT":
            self.last = statement if statement[:6] in {"UPDATE", "INSERT"} else self.last
            return super().execute(statement, *args)
        kernel.reach("commit", f"before COMMIT of {self.last[:60]}", calm=True)
        if kernel.is_full("commit"):
            message = "database or disk is full"
            raise sqlite3.OperationalError(message)
        cursor = super().execute(statement)
        kernel.reach("commit", f"after COMMIT of {self.last[:60]}")
        return cursor


class _File:
    """A file that is being written; a death in the middle leaves the first half."""

    def __init__(self, disk: Disk, kernel: Kernel, file: Any, name: str) -> None:
        self._disk, self._kernel, self._file, self._name = disk, kernel, file, name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        return int(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def write(self, data: Any) -> int:
        self._kernel.check()
        half = len(data) // 2
        self._file.write(data[:half])
        self._disk._reach(self._kernel, f"in a write to {_label(self._name)}")
        self._file.write(data[half:])
        self._disk._unsynced.add(self._name)
        self._disk._reach(self._kernel, f"after a write to {_label(self._name)}")
        return len(data)


def _label(path: str) -> str:
    """Return a file's name without what differs from run to run."""
    return os.path.basename(path).split(f".{os.getpid()}-")[0]


def _content(path: str) -> bytes | None:
    return Path(path).read_bytes() if os.path.isfile(path) else None


def _restore(path: str, content: bytes | None) -> None:
    if content is not None and os.path.isdir(os.path.dirname(path)):
        Path(path).write_bytes(content)
