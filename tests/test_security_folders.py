"""Who can read the ledger: its owner, whatever the umask; and a folder that others reach is refused."""

from __future__ import annotations

import os
import sqlite3
import stat
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas import session
from claude_batch_pandas.exceptions import LedgerError
from claude_batch_pandas.folders import NETWORK, check_private, make_home, place_warning
from claude_batch_pandas.spool import Spool
from claude_batch_pandas.store import FILE, Store
from tests.conftest import JumpingClock

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs chown")


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Set the umask of this process."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def open_to_others(folder: Path) -> list[Path]:
    """Return what others could read, in a folder and with it."""
    return [path for path in (folder, *folder.rglob("*")) if path.stat().st_mode & 0o077]


@pytest.fixture
def frame() -> pd.DataFrame:
    """Return rows that are nobody's business."""
    return pd.DataFrame({"text": ["private 1", "private 2"]})


def test_everything_of_a_run_is_private_all_the_time(
    umask: int, frame: pd.DataFrame, client: Any, home: Path, clock: JumpingClock
) -> None:
    """While it is planned, sent, waited for and collected, and when it is over."""
    seen: set[str] = set()

    def look() -> None:
        assert open_to_others(home) == []
        seen.update(path.name for path in home.rglob("*"))

    clock.on_wait = look
    run = frame.claude.submit("{text}", client=client, shard_size=1)
    run.result(frame)
    run.retry(missing=True)
    look()

    assert {FILE, "lock", "shard-0000.requests.json", "shard-0001.results.jsonl"} <= seen
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / FILE).stat().st_mode) == 0o600


def test_the_journal_is_private(umask: int, home: Path) -> None:
    """SQLite gives it the mode of the database."""
    Store(home)
    database = sqlite3.connect(home / FILE, isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    database.execute("CREATE TABLE more (x)")
    database.execute("PRAGMA cache_spill = 1")
    names = {path.name for path in home.iterdir()}
    modes = open_to_others(home)
    database.close()

    assert f"{FILE}-journal" in names
    assert modes == []


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o720, 0o740, 0o755, 0o750, 0o777, 0o704, 0o702])
def test_a_folder_that_is_open_is_refused(
    mode: int, frame: pd.DataFrame, client: Any, home: Path
) -> None:
    """Nothing is written there; the error is the command that mends it."""
    home.mkdir()
    home.chmod(mode)
    words = rf"ledger is open to other users \(mode {mode:04o}\)\. Close it: chmod 700 '{home}'"
    for use in (lambda: frame.claude.batch("{text}", client=client), cbp.runs, lambda: Spool(home)):
        with pytest.raises(LedgerError, match=words):
            use()
    left = list(home.iterdir())
    home.chmod(0o700)

    assert left == []
    assert (
        frame.claude.batch("{text}", client=client)["answer_status"].tolist() == ["succeeded"] * 2
    )


def test_the_folder_of_runs_is_looked_at_too(home: Path) -> None:
    """A ledger whose inner folder was opened is not used."""
    Spool(home)
    (home / "runs").chmod(0o755)

    with pytest.raises(LedgerError, match=r"/runs is open to other users \(mode 0755\)"):
        Spool(home)


@pytest.mark.parametrize("inner", ["", "runs"])
def test_a_link_is_refused(inner: str, home: Path, tmp_path: Path) -> None:
    """Whoever owns the link could send the next run elsewhere; the error names where it leads."""
    (tmp_path / "real").mkdir(mode=0o700)
    if inner:
        home.mkdir(mode=0o700)
    (home / inner).symlink_to(tmp_path / "real")

    with pytest.raises(LedgerError, match=f"is a link.* to where it leads: {tmp_path / 'real'}"):
        Spool(home)


def test_a_link_that_leads_nowhere_is_refused(home: Path, tmp_path: Path) -> None:
    """It is not followed to make a folder either."""
    home.symlink_to(tmp_path / "real")

    with pytest.raises(LedgerError, match=r"Could not make the folder .*ledger"):
        Store(home)
    assert not (tmp_path / "real").exists()


@as_root
def test_a_folder_of_another_user_is_refused(home: Path) -> None:
    """Even one that only its owner and root could read."""
    home.mkdir(mode=0o700)
    os.chown(home, 12345, 12345)

    with pytest.raises(LedgerError, match=r"belongs to another user \(uid 12345\).* of your own"):
        Store(home)


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    """As an error of the ledger."""
    with pytest.raises(LedgerError, match="cannot be looked at: No such file"):
        check_private(tmp_path / "nowhere")


def test_a_ledger_stays_out_of_repositories(home: Path, tmp_path: Path) -> None:
    """A folder of ours ignores itself; one that holds something else is left as it is."""
    make_home(home)
    (tmp_path / "project").mkdir(mode=0o700)
    (tmp_path / "project" / "notes.txt").touch()
    make_home(tmp_path / "project")

    assert (home / ".gitignore").read_bytes() == b"*\n"
    assert [path.name for path in (tmp_path / "project").iterdir()] == ["notes.txt"]


def mountinfo(path: Path, *mounts: tuple[Path | str, str]) -> Path:
    """Write what Linux tells of mounts, and return the file."""
    told = [
        f"{i} 1 0:{i} / {str(place).replace(' ', chr(92) + '040')} rw,relatime shared:1 - {kind} dev rw"
        for i, (place, kind) in enumerate(mounts)
    ]
    path.write_text("\n".join([*told, "nonsense", ""]))
    return path


@pytest.mark.parametrize("kind", sorted(NETWORK))
def test_a_network_file_system_is_warned_of(kind: str, tmp_path: Path) -> None:
    """The innermost mount counts, and of two at a place the later one."""
    share = tmp_path / "a share"
    mounts = mountinfo(
        tmp_path / "mounts", ("/", "ext4"), (share, "ext4"), (share, kind), (share / "local", "xfs")
    )

    assert f"is on a network file system ({kind})" in place_warning(share / "ledger", mounts)
    assert place_warning(share / "local" / "ledger", mounts) == ""
    assert place_warning(tmp_path / "a share too", mounts) == ""


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("Dropbox/ledger", "Dropbox"),
        ("OneDrive - Company/x/ledger", "OneDrive - Company"),
        ("Library/Mobile Documents/com~apple~CloudDocs", "Mobile Documents"),
        ("Library/CloudStorage/GoogleDrive-me", "CloudStorage"),
        ("iCloudDrive/l", "iCloudDrive"),
    ],
)
def test_a_folder_that_is_copied_elsewhere_is_warned_of(place: str, name: str) -> None:
    """Prompts and answers would go along."""
    words = place_warning(Path("/home/me") / place, Path("/nowhere"))

    assert f"is in {name!r}, which looks like a folder that is copied" in words
    assert place_warning(Path("/home/me/work"), Path("/nowhere")) == ""


def test_a_bad_place_is_warned_of_once(
    frame: pd.DataFrame,
    client: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    connect: Callable[..., Any],
) -> None:
    """The run goes on, and the next one says nothing."""
    monkeypatch.setenv("CLAUDE_BATCH_HOME", str(tmp_path / "Dropbox" / "ledger"))
    with pytest.warns(UserWarning, match=r"is in 'Dropbox'") as caught:
        frame.claude.batch("{text}", client=client)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frame.claude.batch("{text}", client=client)

    assert len(caught) == 1
    assert session.ledger_home() in session._warned_of
