"""One SQLite file: private, checked, brought up to date, and durable when a call returns."""

from __future__ import annotations

import atexit
import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from claude_batch_pandas.exceptions import BatchError, LedgerError
from claude_batch_pandas.tables import FIRST_SEALED, MIGRATIONS, SEALED, SEALS, seal_of

BUSY_SECONDS = 30.0  # how long to wait for another process's transaction
MOST_IDLE = 4  # open files that nobody uses at the moment
Connection = sqlite3.Connection

Stamp = tuple[int, ...]  # how a file looks from outside

_checked: dict[Path, Stamp] = {}  # how each database looked when it was last known good
# By process and file, and how that looked then. SQLite forbids a process that was forked even to
# close what it inherited.
_idle: dict[tuple[int, Path], tuple[Connection, Stamp]] = {}


class Database:
    """The database of a ledger.

    Parameters
    ----------
    path : Path
        Made when missing, owner-only; its folder must exist.

    Raises
    ------
    LedgerError
        When it cannot be opened, is damaged, or is of a newer version than this package.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # SQLite gives its journal the mode of the database, so this makes both private. One that is
        # there is not opened: to close it would let go of all locks that this process has on it.
        with _as_ledger_error(path), contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        self._migrate()
        if _checked.get(path) != _stamp(path):  # once, and again when another process wrote to it
            self.check()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Have a connection for one use, which is nobody else's meanwhile."""
        with _as_ledger_error(self._path), contextlib.ExitStack() as unless_good:
            database = _take(self._path)
            unless_good.callback(database.close)  # that rolls back
            yield database
            stamp = _stamp(self._path)
            unless_good.pop_all()
            _keep(database, self._path, stamp)

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Do what is done inside as one transaction: durable when it is left, or not at all."""
        with self.reading() as database:
            database.execute("BEGIN IMMEDIATE")
            is_checked = _checked.get(self._path) == _stamp(self._path)
            yield database
            _seal(database)
            # Whatever raised before this line closes the connection.
            database.execute("COMMIT")
            if is_checked:
                _checked[self._path] = _stamp(self._path)

    def check(self) -> None:
        """Refuse a database of which a byte was changed by anybody but SQLite.

        Raises
        ------
        LedgerError
        """
        stamp = _stamp(self._path)
        with _as_ledger_error(self._path), contextlib.closing(_open(self._path)) as database:
            (found,) = database.execute("PRAGMA integrity_check(1)").fetchone()
            if found == "ok":
                found = next(_broken(database), "")
        if found:
            msg = (
                f"The ledger {self._path} is damaged: {found}. Restore it from a copy; or move the "
                "folder away, and claude_batch_pandas.recover(df, template=...) finds the answers "
                "of the last 29 days on the server."
            )
            raise LedgerError(msg)
        _checked[self._path] = stamp

    def _migrate(self) -> None:
        with self.reading() as database:
            version = _version(database)
        if version == len(MIGRATIONS):
            return
        if SEALS <= version < len(MIGRATIONS):
            self.check()  # what is brought up to date is sealed anew, whatever it holds by then
        with self.writing() as database:
            version = _version(database)  # another process may have been first
            if version > len(MIGRATIONS):
                msg = (
                    f"The ledger {self._path} is of version {version}, newer than this package "
                    f"({len(MIGRATIONS)}). Upgrade claude-batch-pandas."
                )
                raise LedgerError(msg)
            for statements in MIGRATIONS[version:]:
                for statement in statements:
                    database.execute(statement)
            database.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def insert(
    database: sqlite3.Connection, table: str, row: Mapping[str, Any], verb: str = "INSERT"
) -> None:
    """Add a row to a table, or replace the one of its key when the verb says so."""
    names, marks = ", ".join(row), ", ".join("?" * len(row))
    database.execute(f"{verb} INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))


def _take(path: Path) -> Connection:
    """Return a connection that is open already, or else a new one, at 50 times the cost.

    It is used again only while the file is as it left it: another may be in its place by now, and a
    page that it remembers is no proof of what is there.
    """
    now = _stamp(path)
    database, stamp = _idle.pop((os.getpid(), path), (None, now))
    if database is None:
        return _open(path)
    if stamp == now:
        return database
    database.close()
    return _open(path)


def _open(path: Path) -> Connection:
    # Threads take turns with it.
    database = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    database.row_factory = sqlite3.Row
    # FULL: a commit that returned is on the disk, whatever happens to the power.
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA fullfsync = ON")  # macOS; nothing elsewhere
    return database


def _keep(database: Connection, path: Path, stamp: Stamp) -> None:
    """Keep a connection open for the next use, unless another thread's is kept already."""
    kept, _ = _idle.setdefault((os.getpid(), path), (database, stamp))
    if kept is not database:
        database.close()
    _close_idle(MOST_IDLE)


@atexit.register
def _close_idle(most: int = 0) -> None:
    """Close the connections of this process that were not used for longest."""
    own = [key for key in list(_idle) if key[0] == os.getpid()]
    for key in own[: max(0, len(own) - most)]:
        if found := _idle.pop(key, None):
            found[0].close()


def _stamp(path: Path) -> Stamp:
    """Return what changes whenever a file is written."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def _seal(database: sqlite3.Connection) -> None:
    """Give every row that was written its hash."""
    for table in SEALED:
        rows = database.execute(f"SELECT rowid, * FROM {table} WHERE seal IS NULL").fetchall()  # noqa: S608 - our own names
        for row in rows:
            values = (seal_of(row), row["rowid"])
            database.execute(f"UPDATE {table} SET seal = ? WHERE rowid = ?", values)  # noqa: S608 - our own names


def _broken(database: sqlite3.Connection) -> Iterator[str]:
    """Yield the rows whose hash differs."""
    for table in SEALED if _version(database) > SEALS else FIRST_SEALED:
        for row in database.execute(f"SELECT rowid, * FROM {table}"):  # noqa: S608 - our own names
            if seal_of(row) != row["seal"]:
                yield f"row {row['rowid']} of its table {table} was changed"


@contextlib.contextmanager
def _as_ledger_error(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError, ValueError, ArithmeticError) as error:  # what is in a row, too
        if isinstance(error, BatchError):
            raise
        msg = f"The ledger {path} cannot be used: {error}. Check the disk and the permissions."
        raise LedgerError(msg) from error
