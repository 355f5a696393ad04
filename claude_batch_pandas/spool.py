"""The spool: the private files of the runs, beside the ledger's database.

The one place that writes files. Every file is made with mode 0600 in a folder of mode 0700, and
is either whole and synced under its final name, or not there: write, fsync, rename, fsync the
folder. Prompts and answers live here and nowhere else.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from claude_batch_pandas.exceptions import InputError, LedgerError
from claude_batch_pandas.folders import check_private, make_folder, make_home
from claude_batch_pandas.lines import cut_lines

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

FULL_SYNC = getattr(fcntl, "F_FULLFSYNC", None)
BLOCK = 1 << 18  # bytes per read when a body is sent or a file is hashed
DRAFT = ".draft-"
PART = ".part"


class Spool:
    """The folder ``runs`` of a ledger, one folder per run.

    Parameters
    ----------
    home : Path
        The ledger's folder; made when missing, owner-only.

    Raises
    ------
    LedgerError
        When the folder cannot be made or written, or is not private.
    """

    def __init__(self, home: Path) -> None:
        self.root = home / "runs"
        make_home(home)
        make_folder(self.root)
        check_private(self.root)

    def folder(self, run_id: str) -> Path:
        """Return the folder of a run."""
        return self.root / run_id

    def draft(self, run_id: str) -> Path:
        """Make the folder in which a run is written before the ledger knows it."""
        path = self.root / f"{DRAFT}{run_id}"
        make_folder(path)
        return path

    def publish(self, run_id: str) -> Path:
        """Give a draft its final name, durably."""
        with _as_ledger_error(f"keep run {run_id}"):
            final = self.folder(run_id)
            (self.root / f"{DRAFT}{run_id}").rename(final)
            sync_folder(self.root)
        return final

    def discard(self, run_id: str) -> None:
        """Delete a draft that is not needed."""
        shutil.rmtree(self.root / f"{DRAFT}{run_id}", ignore_errors=True)

    def sweep(self, known: Collection[str]) -> None:
        """Delete what planners left that died; call it only while no other one can plan.

        Parameters
        ----------
        known : collection of str
            The runs of the ledger. A folder of no run that holds results is left alone: somebody
            paid for them.
        """
        for path in self.root.iterdir():
            is_draft = path.name.startswith(DRAFT)
            if is_draft or (path.name not in known and not any(path.glob("*.results.jsonl"))):
                shutil.rmtree(path, ignore_errors=True)

    def clear_parts(self, run_id: str) -> None:
        """Delete what killed writers left of a run's files; call it only as its driver."""
        with _as_ledger_error(f"tidy the folder of run {run_id}"):
            for path in self.folder(run_id).glob(f"*{PART}"):
                path.unlink(missing_ok=True)

    def body(self, run_id: str, shard: int) -> Path:
        """Return the path of the request body of a shard."""
        return self.folder(run_id) / f"shard-{shard:04d}.requests.json"

    def drop_body(self, run_id: str, shard: int) -> None:
        """Delete the request body of a shard, if it is there."""
        with _as_ledger_error(f"delete the requests of run {run_id}"):
            self.body(run_id, shard).unlink(missing_ok=True)

    def results(self, run_id: str, shard: int) -> Path:
        """Return the path of the verified results of a shard."""
        return self.folder(run_id) / f"shard-{shard:04d}.results.jsonl"

    def copy(self, run_id: str, shard: int) -> Path:
        """Return the path of the copy of those results as columns, which can be done without."""
        return self.folder(run_id) / f"shard-{shard:04d}.columns"


class Writing:
    """A file on its way: written under a temporary name, renamed when it is whole.

    Use as a context manager; leaving it without `keep` deletes the temporary file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0  # bytes so far
        self._sha256 = hashlib.sha256()
        self.temporary = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}{PART}")
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        with _as_ledger_error(f"write {self.path}"):
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
            descriptor = os.open(self.temporary, flags, 0o600)
            self._file = os.fdopen(descriptor, "wb", buffering=0)
        return self

    def write(self, data: bytes) -> None:
        """Append bytes."""
        assert self._file is not None, "enter the context first"
        with _as_ledger_error(f"write {self.path}"):
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
        self._sha256.update(data)
        self.size += len(data)

    @property
    def sha256(self) -> str:
        """The SHA-256 of what was written so far."""
        return self._sha256.hexdigest()

    def keep(self, path: Path | None = None) -> str:
        """Sync the file, give it its final name (or another), and return its SHA-256."""
        final = self.path if path is None else path
        assert self._file is not None, "enter the context first"
        with _as_ledger_error(f"keep {self.path}"):
            _sync(self._file.fileno())
            self._file.close()
            self.temporary.replace(final)
            sync_folder(final.parent)
        self._file = None
        return self._sha256.hexdigest()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # what is wrong with the disk was told already
                self._file.close()
                self.temporary.unlink(missing_ok=True)


def writable(place: Path) -> Path:
    """Return where a file is written that is named so: the end of a link, and never a device.

    Raises
    ------
    InputError
    """
    place = place.resolve() if place.is_symlink() else place
    if place.exists() and not place.is_file():
        msg = f"{place} is no file, so nothing can be put in its place. Name another."
        raise InputError(msg)
    return place


def move(source: Path, path: Path) -> None:
    """Give a whole file its final name, durably."""
    with _as_ledger_error(f"keep {path}"):
        source.replace(path)
        sync_folder(path.parent)


def write(path: Path, data: bytes) -> str:
    """Write a small file durably and return its SHA-256."""
    with Writing(path) as file:
        file.write(data)
        return file.keep()


def write_sealed(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a file durably, all at once or in parts, with its own SHA-256 as its last line."""
    with Writing(path) as file:
        for part in [data] if isinstance(data, bytes) else data:
            file.write(part)
        file.write(b"\n" + file.sha256.encode())
        file.keep()


def read_sealed(path: Path) -> bytes:
    """Return what `write_sealed` wrote.

    Raises
    ------
    LedgerError
        When the file is missing, or a byte of it changed.
    """
    try:
        data, _, seal = path.read_bytes().rpartition(b"\n")
        why = "its hash differs"
    except OSError as error:
        data, seal, why = b"", b"", str(error.strerror)
    if hashlib.sha256(data).hexdigest().encode() != seal:
        msg = (
            f"{path} cannot be read ({why}). Restore the file, or purge its run to ask anew what "
            "it asked."
        )
        raise LedgerError(msg)
    return data


class Body:
    """A file as a request body: iterated from the start each time, so that it is never sent empty.

    The last byte is handed out by itself, after all others were taken: as long as it was not asked
    for, no server can hold the whole of what the Content-Length announced.

    Attributes
    ----------
    size : int
        Bytes, for the Content-Length.
    was_sent : bool
        Whether all of it was handed out at least once.
    may_end : callable
        Asked before the last byte; when it says no, that byte is never handed out.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.was_sent = False
        self.may_end: Callable[[], bool] = lambda: True
        try:
            self.size = path.stat().st_size
        except OSError as error:
            msg = (
                f"The request body {path} cannot be read: {error.strerror}. Restore the file, or "
                "run the cell again with reuse=False."
            )
            raise LedgerError(msg) from error

    def __iter__(self) -> Iterator[bytes]:
        held = b""
        for block in read_blocks(self._path):
            if held:
                yield held
            held = block
        if head := held[:-1]:
            yield head
        if not self.may_end():
            msg = "The upload took too long."
            raise TimeoutError(msg)
        self.was_sent = True
        if held:
            yield held[-1:]


def read_blocks(path: Path) -> Iterator[bytes]:
    """Yield the blocks of a file."""
    with _as_ledger_error(f"read {path}"), path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            yield block


def read_lines(path: Path) -> Iterator[bytes]:
    r"""Yield the lines of a file without their ``\n``; no other character ends a line."""
    with path.open("rb") as file:
        for line in file:
            yield line.removesuffix(b"\n")


def read_line_blocks(path: Path) -> Iterator[bytes]:
    r"""Yield a file in blocks of whole lines; only the last may lack its ``\n``.

    A line longer than a block is collected in pieces and joined once; one beyond all reason is cut.
    """
    pieces: list[bytes] = []
    for block in cut_lines(read_blocks(path)):
        end = block.rfind(b"\n") + 1
        if end:
            yield b"".join([*pieces, block[:end]])
            pieces = [block[end:]] if end < len(block) else []
        else:
            pieces.append(block)
    if pieces:
        yield b"".join(pieces)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with _as_ledger_error(f"read {path}"), path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(path: Path) -> None:
    """Make a rename in the folder durable; Windows has no such call and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    """Put a file on the disk; on macOS, fsync alone leaves it in the drive's cache."""
    if FULL_SYNC is None:
        os.fsync(descriptor)
    else:
        fcntl.fcntl(descriptor, FULL_SYNC)


@contextlib.contextmanager
def _as_ledger_error(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        msg = (
            f"Could not {doing}: {error.strerror or error}. Check the disk and the permissions, "
            "then call again."
        )
        raise LedgerError(msg) from error
