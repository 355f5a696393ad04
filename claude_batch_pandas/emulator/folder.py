"""A folder in which batches outlive the server: what was acknowledged is on the disk.

A batch is two files. `<id>.batch` is written once, before the batch's creation is acknowledged: a
line of JSON about it, then the body as it was sent. `<id>.state` is a little JSON, written anew
whenever a cancel, a deletion or a first look changes it. Answers follow from both.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from claude_batch_pandas.exceptions import InputError

_VERSION = 1
_TEMPORARY = ".tmp"
_OWNER_ONLY = 0o600


class SavedBatch(NamedTuple):
    """A batch as it was found in the folder."""

    path: Path
    about: dict[str, Any]
    body: bytes
    state: dict[str, Any] | None  # None while nothing has changed


class StateFolder:
    """Writes batches down and finds them again; one server at a time may use it.

    Parameters
    ----------
    path : str or path
        The folder; made when it is not there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left_over in self.path.glob(f"*{_TEMPORARY}"):
                left_over.unlink()
        except OSError as error:
            message = (
                f"The state folder {self.path} cannot be used: {error.strerror or error}. "
                "Pass a folder that can be written."
            )
            raise InputError(message) from error

    def keep(self, batch_id: str, about: Mapping[str, Any], body: bytes) -> None:
        """Write a new batch down; when this returns, it is on the disk."""
        head = orjson.dumps({"version": _VERSION, **about}, option=orjson.OPT_APPEND_NEWLINE)
        self._write(f"{batch_id}.batch", (head, body))

    def note(self, batch_id: str, state: Mapping[str, Any]) -> None:
        """Write down how far a batch has come."""
        self._write(f"{batch_id}.state", (orjson.dumps(state),))

    def batches(self) -> Iterator[SavedBatch]:
        """Yield what was kept, oldest first."""
        found = [self._read(path) for path in self.path.glob("*.batch")]
        yield from sorted(found, key=lambda batch: batch.about["sequence"])

    def _read(self, path: Path) -> SavedBatch:
        head, _, body = path.read_bytes().partition(b"\n")
        state = path.with_suffix(".state")
        try:
            about = orjson.loads(head)
            _check_version(about)
            saved = orjson.loads(state.read_bytes()) if state.exists() else None
        except (ValueError, KeyError, TypeError) as error:
            raise unreadable(path, error) from error
        return SavedBatch(path, about, body, saved)

    def _write(self, name: str, parts: Sequence[bytes]) -> None:
        """Replace a file by a whole new one, or leave it as it was."""
        temporary = self.path / f"{name}{_TEMPORARY}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _OWNER_ONLY)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path / name)
        self._sync()

    def _sync(self) -> None:
        """Put the new name on the disk, too, where a folder can be synced (not on Windows)."""
        if os.name == "posix":  # pragma: no branch - the other way is Windows
            descriptor = os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _check_version(about: Mapping[str, Any]) -> None:
    if about["version"] != _VERSION:
        message = f"its version is {about['version']}, not {_VERSION}"
        raise ValueError(message)


def unreadable(path: Path, error: Exception) -> InputError:
    """Return the error for a file that this emulator did not write, or that was damaged."""
    return InputError(
        f"{path} is not a batch that this version can read ({error}). "
        "Remove the file, or pass another folder."
    )
