"""Folders that only their owner can enter, and where a ledger had better not be.

What is in a ledger is private: prompts, answers. So its folder is ours, a real one, and closed to
everyone else, or it is not used.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from claude_batch_pandas.exceptions import LedgerError

IGNORE = ".gitignore"
MOUNTS = Path("/proc/self/mountinfo")
NETWORK = frozenset(
    [
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "davfs",
        "fuse.ceph",
        "fuse.davfs",
        "fuse.gcsfuse",
        "fuse.glusterfs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
    ]
)
SYNCED = (
    *("box sync", "cloudstorage", "dropbox", "google drive", "googledrive", "icloud"),
    *("mobile documents", "nextcloud", "onedrive", "owncloud", "pcloud"),
)


def make_folder(path: Path) -> None:
    """Make a folder that only its owner can enter; one that is there stays as it is.

    Raises
    ------
    LedgerError
    """
    try:
        # mkdir's own parents=True would make them with the mode of the umask.
        for folder in [*reversed(path.parents), path]:
            if not folder.exists():
                folder.mkdir(mode=0o700, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        msg = (
            f"Could not make the folder {path}; set CLAUDE_BATCH_HOME to one you can write: "
            f"{error.strerror or error}. Check the disk and the permissions, then call again."
        )
        raise LedgerError(msg) from error


def make_home(path: Path) -> None:
    """Make a ledger's folder, or check the one that is there, and keep it out of repositories.

    Raises
    ------
    LedgerError
        Also when it is a link, another user's, or open to others.
    """
    make_folder(path)
    check_private(path)
    with contextlib.suppress(OSError):  # a full disk is told of where it matters
        if not any(path.iterdir()):  # never in a folder that is somebody's for another reason
            descriptor = os.open(path / IGNORE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(b"*\n")


def check_private(path: Path) -> None:
    """Refuse a folder that others can read or swap.

    Raises
    ------
    LedgerError
    """
    if os.name == "nt":  # pragma: no cover - its folders have no such mode
        return
    try:
        found = path.lstat()
    except OSError as error:
        msg = f"The folder {path} cannot be looked at: {error.strerror}. Check its permissions."
        raise LedgerError(msg) from error
    if stat.S_ISLNK(found.st_mode):
        msg = (
            f"The ledger's folder {path} is a link, which could lead elsewhere tomorrow. Set "
            f"CLAUDE_BATCH_HOME to where it leads: {path.resolve()}"
        )
        raise LedgerError(msg)
    if found.st_uid != os.geteuid():
        msg = (
            f"The ledger's folder {path} belongs to another user (uid {found.st_uid}), who could "
            "read prompts and answers. Set CLAUDE_BATCH_HOME to a folder of your own."
        )
        raise LedgerError(msg)
    if found.st_mode & 0o077:
        msg = (
            f"The ledger's folder {path} is open to other users (mode "
            f"{stat.S_IMODE(found.st_mode):04o}). Close it: chmod 700 '{path}'. If its file system "
            "has no modes, set CLAUDE_BATCH_HOME to one that has."
        )
        raise LedgerError(msg)


def place_warning(path: Path, mounts: Path = MOUNTS) -> str:
    """Say why a folder is a bad place for a ledger; nothing when it is a good one.

    Parameters
    ----------
    path : Path
    mounts : Path
        What is mounted, as Linux tells it; elsewhere, network file systems are not noticed.
    """
    system = _file_system(path, mounts)
    if system in NETWORK:
        return (
            f"The ledger {path} is on a network file system ({system}), where locks may not hold: "
            "use it from one machine at a time, or set CLAUDE_BATCH_HOME to a local disk."
        )
    synced = [part for part in path.parts if part.lower().startswith(SYNCED)]
    if synced:
        return (
            f"The ledger {path} is in {synced[0]!r}, which looks like a folder that is copied "
            "elsewhere, prompts and answers with it, and could be overwritten by another machine. "
            "Set CLAUDE_BATCH_HOME to a folder that is not."
        )
    return ""


def _file_system(path: Path, mounts: Path) -> str:
    """Return the type of the file system that holds a path; "" where that is not told."""
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    real = path.resolve()
    best, system = -1, ""
    for line in lines:
        fields, _, rest = line.partition(" - ")
        place = Path(_unescaped(fields.split(" ")[4])) if fields.count(" ") > 4 else None  # noqa: PLR2004
        if place is not None and real.is_relative_to(place) and len(place.parts) >= best:
            best, system = len(place.parts), rest.split(" ")[0]
    return system


def _unescaped(place: str) -> str:
    """Undo how blanks are written in the list of mounts."""
    for code, character in (("040", " "), ("011", "\t"), ("012", "\n"), ("134", "\\")):
        place = place.replace(f"\\{code}", character)
    return place
