"""The files of every workspace, in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from claude_batch_pandas.emulator.clock import rfc3339
from claude_batch_pandas.emulator.errors import RefusedError
from claude_batch_pandas.emulator.media import Medium
from claude_batch_pandas.emulator.pages import Cursor, Shelf
from claude_batch_pandas.emulator.sources import Find


@dataclass(kw_only=True)
class StoredFile:
    """A file that was uploaded.

    Attributes
    ----------
    id, filename, mime_type : str
        As the API tells them.
    workspace : str
        The workspace that sees it.
    data : bytes
        What was uploaded; empty once it is deleted.
    medium : Medium
        What that is.
    created_at : float
        Seconds since 1970, by the emulator's clock.
    expires_at : float or None
        When it is not there any more for requests.
    deleted : bool
        Whether it was deleted through the API.
    """

    id: str
    filename: str
    mime_type: str
    workspace: str
    data: bytes
    medium: Medium
    created_at: float
    expires_at: float | None = None
    deleted: bool = False

    def __repr__(self) -> str:
        return f"<StoredFile {self.id} of {self.medium.size} bytes, {self.mime_type}>"

    def has_expired(self, now: float) -> bool:
        """Whether requests cannot use it any more."""
        return self.expires_at is not None and now >= self.expires_at

    def describe(self) -> dict[str, Any]:
        """Return the FileMetadata object."""
        return {
            "id": self.id,
            "type": "file",
            "filename": self.filename,
            "mime_type": self.mime_type,
            "size_bytes": self.medium.size,
            "created_at": rfc3339(self.created_at),
            "expires_at": rfc3339(self.expires_at),
            "downloadable": False,
        }


class FileStore:
    """What was uploaded, by workspace.

    Parameters
    ----------
    clock : callable
        Returns the seconds since 1970.

    Attributes
    ----------
    files : list of StoredFile
        All of them, oldest first, deleted ones included.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.files: list[StoredFile] = []
        self._clock = clock
        self._shelves: defaultdict[str, Shelf[StoredFile]] = defaultdict(lambda: Shelf("file"))

    def add(self, file: StoredFile) -> None:
        """Keep the newest file."""
        self.files.append(file)
        self._shelves[file.workspace].add(file)

    def get(self, workspace: str, file_id: str) -> StoredFile | None:
        """Return a file, expired or not; None when the workspace has none of that id."""
        file = self._shelves[workspace].get(file_id)
        return None if file is None or file.deleted else file

    def page(self, workspace: str, cursor: Cursor) -> tuple[list[StoredFile], bool]:
        """Return a page, newest first, and whether there is more; 400 for a foreign cursor."""
        shelf = self._shelves[workspace]
        if cursor.after is not None and shelf.get(cursor.after) is None:
            raise RefusedError(400, "page: Input should be the next_page of a list")
        # A list goes on where it was, even when the file it had come to has been deleted.
        return shelf.page(cursor, lambda file: not file.deleted or file.id == cursor.after)

    def finder(self, workspace: str) -> Find:
        """Return a function that finds what requests of a workspace can use now."""

        def find(file_id: str) -> Medium | None:
            file = self.get(workspace, file_id)
            return None if file is None or file.has_expired(self._clock()) else file.medium

        return find
