"""One SQLite file: its connections are few, never stale, never a child's, and its locks hold."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from claude_batch_pandas import database as module
from claude_batch_pandas.database import MOST_IDLE, Database, insert
from claude_batch_pandas.exceptions import LedgerError

FILE = "ledger.sqlite3"
BEGIN = """
import sqlite3, sys
try:
    sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None).execute("BEGIN IMMEDIATE")
except sqlite3.OperationalError as error:
    print(error)
"""


def names(database: Database) -> list[str]:
    """Return what was remembered."""
    with database.reading() as connection:
        return [
            row["name"] for row in connection.execute("SELECT name FROM secrets ORDER BY rowid")
        ]


def remember(database: Database, *names: str) -> None:
    """Remember names in one transaction."""
    with database.writing() as connection:
        for name in names:
            insert(connection, "secrets", {"name": name, "value": b""})


def files_of(folder: Path) -> int:
    """Return how many files below a folder this process has open."""
    return sum(path.resolve().is_relative_to(folder) for path in Path("/proc/self/fd").iterdir())


def test_a_ledger_that_was_put_in_its_place_is_read(tmp_path: Path) -> None:
    """Whoever restores a copy under a running process sees the copy."""
    path, copy = tmp_path / FILE, tmp_path / "copy"
    database = Database(path)
    remember(database, "first")
    shutil.copy(path, copy)
    remember(database, "second")
    copy.replace(path)

    assert names(database) == ["first"]
    remember(database, "third")
    assert names(Database(path)) == ["first", "third"]


def test_what_others_write_is_read(tmp_path: Path) -> None:
    """In another process, or behind another connection."""
    database = Database(tmp_path / FILE)
    remember(database, "ours")
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("INSERT INTO secrets (name, value) VALUES ('theirs', x'')")
    other.close()

    assert names(database) == ["ours", "theirs"]


def test_a_byte_that_is_changed_under_a_running_process_is_noticed(tmp_path: Path) -> None:
    """Not even what this process remembers of the file hides it."""
    path = tmp_path / FILE
    remember(Database(path), "a name of our own")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"a name of our own", b"a name of theirs!"))

    with pytest.raises(LedgerError, match="damaged: row 1 of its table secrets was changed"):
        Database(path)


def test_threads_take_turns(tmp_path: Path) -> None:
    database = Database(tmp_path / FILE)

    def write(start: int) -> None:
        for i in range(start, start + 25):
            remember(database, f"{i:03d}")
            names(database)

    threads = [threading.Thread(target=write, args=(start,)) for start in range(0, 100, 25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(names(database)) == [f"{i:03d}" for i in range(100)]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are not told here")
def test_few_files_stay_open(tmp_path: Path) -> None:
    """However many ledgers there are, and whoever still holds them."""
    databases = [Database(tmp_path / str(i)) for i in range(MOST_IDLE + 6)]

    assert [names(database) for database in databases] == [[]] * len(databases)
    assert files_of(tmp_path) == MOST_IDLE


def test_what_fails_gives_its_connection_up(tmp_path: Path) -> None:
    """What it did is undone, and its locks are nobody's trouble."""
    path = tmp_path / FILE
    database = Database(path)
    remember(database, "whole")
    with pytest.raises(LedgerError, match="UNIQUE"):
        remember(database, "half", "whole")
    done = subprocess.run(
        [sys.executable, "-c", BEGIN, str(path)], capture_output=True, text=True, check=True
    )

    assert done.stdout == ""
    assert names(database) == ["whole"]


def test_a_second_look_lets_go_of_no_lock(tmp_path: Path) -> None:
    """To open and close a file takes a process's locks from it, whoever asked for them."""
    path = tmp_path / FILE
    database = Database(path)
    with database.writing():
        Database(path)
        done = subprocess.run(
            [sys.executable, "-c", BEGIN, str(path)], capture_output=True, text=True, check=True
        )

    assert done.stdout == "database is locked\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_opens_its_own(tmp_path: Path) -> None:
    """SQLite forbids a child to use what its parent opened, and even to close it."""
    database = Database(tmp_path / FILE)
    remember(database, "parent")
    [kept] = [key for key in module._idle if key[1] == tmp_path / FILE]
    child = os.fork()
    if child == 0:
        remember(database, "child")
        own = [key for key in module._idle if key[1] == tmp_path / FILE]
        os._exit(0 if own == [kept, (os.getpid(), tmp_path / FILE)] else 1)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert names(database) == ["parent", "child"]
