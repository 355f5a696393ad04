"""One SQLite file: private, checked, brought up to date, and durable when a call returns."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from claude_batch_pandas.exceptions import BatchError, LedgerError
from claude_batch_pandas.tables import FIRST_SEALED, MIGRATIONS, SEALED, SEALS, seal_of

BUSY_SECONDS = 30.0  # how long to wait for another process's transaction
Connection = sqlite3.Connection

_checked: dict[Path, tuple[int, ...]] = {}  # how each database looked when it was last known good


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
        with _as_ledger_error(path):
            # SQLite gives its journal the mode of the database, so this makes both private.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self._migrate()
        if _checked.get(path) != _stamp(path):  # once, and again when another process wrote to it
            self.check()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Open a connection for one use; they are cheap, and none is shared between threads."""
        with _as_ledger_error(self._path):
            database = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
            with contextlib.closing(database):
                database.row_factory = sqlite3.Row
                # FULL: a commit that returned is on the disk, whatever happens to the power.
                database.execute("PRAGMA synchronous = FULL")
                database.execute("PRAGMA fullfsync = ON")  # macOS; nothing elsewhere
                yield database

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Do what is done inside as one transaction: durable when it is left, or not at all."""
        with self.reading() as database:
            database.execute("BEGIN IMMEDIATE")
            is_checked = _checked.get(self._path) == _stamp(self._path)
            yield database
            _seal(database)
            # Whatever raised before this line closes the connection, and that rolls back.
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
        with self.reading() as database:
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


def _stamp(path: Path) -> tuple[int, ...]:
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
