"""The Files API: what is uploaded once, to be named by id in any number of requests."""

from __future__ import annotations

import mimetypes
import re
from threading import RLock
from typing import Any

from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response

from claude_batch_pandas.emulator.checks import MAX_BYTES
from claude_batch_pandas.emulator.errors import RefusedError
from claude_batch_pandas.emulator.files import FileStore, StoredFile
from claude_batch_pandas.emulator.forms import Part, read_form
from claude_batch_pandas.emulator.media import examine, sniff
from claude_batch_pandas.emulator.options import Options
from claude_batch_pandas.emulator.pages import Cursor, read_cursor
from claude_batch_pandas.emulator.wire import Visit, answer, digest

PREFIX = "file_011sim"

_PAGE = "page_"
_MAX_IDS = 100
_MAX_NAME = 500
_LEAST_SECONDS, _MOST_SECONDS = 3_600, 7_776_000
_UNTYPED = "application/octet-stream"
_SEPARATOR = re.compile(r"[/\\]")
_NUMBER = re.compile(r"-?[0-9]{1,18}")


class FileEndpoints:
    """Answers /v1/files and what is below it.

    Parameters
    ----------
    options : Options
        Its clock and its seed.
    store : FileStore
        Shared with what reads files.
    """

    def __init__(self, options: Options, store: FileStore) -> None:
        self._options = options
        self._store = store
        self._lock = RLock()

    def upload(self, visit: Visit) -> Response:
        """Answer POST /v1/files."""
        if visit.body is None:
            raise RefusedError(413, f"Request exceeds the maximum size of {MAX_BYTES} bytes")
        form = read_form(visit.request.headers.get("content-type", ""), visit.body)
        if "file" not in form:
            raise RefusedError(400, "file: Field required")
        seconds = _seconds(form.get("expires_in_seconds"))
        part = form["file"]
        mime_type = _type_of(part)
        filename = _name_of(part, mime_type)
        medium = examine(part.data, mime_type)
        with self._lock:
            now = self._options.clock()
            file = StoredFile(
                id=f"{PREFIX}{digest(self._options.seed, 'file', len(self._store.files), now)}",
                filename=filename,
                mime_type=mime_type,
                workspace=visit.workspace,
                data=part.data,
                medium=medium,
                created_at=now,
                expires_at=None if seconds is None else now + seconds,
            )
            self._store.add(file)
        return answer(file.describe())

    def list(self, visit: Visit) -> Response:
        """Answer GET /v1/files."""
        query = visit.request.args
        with self._lock:
            if asked := _ids(query):
                named = (self._store.get(visit.workspace, file_id) for file_id in asked)
                return answer(_listing([file for file in named if file is not None], more=False))
            page, more = self._store.page(visit.workspace, _cursor(query))
            return answer(_listing(page, more=more))

    def retrieve(self, visit: Visit) -> Response:
        """Answer GET /v1/files/{id}."""
        with self._lock:
            return answer(self._find(visit).describe())

    def content(self, visit: Visit) -> Response:
        """Answer GET /v1/files/{id}/content: only what a tool has made can be downloaded."""
        with self._lock:
            file = self._find(visit)
        raise RefusedError(
            400, f"File {file.id} is not downloadable.", code="file_not_downloadable"
        )

    def delete(self, visit: Visit) -> Response:
        """Answer DELETE /v1/files/{id}."""
        with self._lock:
            file = self._find(visit)
            file.deleted = True
            file.data = b""
            return answer({"id": file.id, "type": "file_deleted"})

    def _find(self, visit: Visit) -> StoredFile:
        file = self._store.get(visit.workspace, visit.path["file_id"])
        if file is None:
            raise RefusedError(404, f"File not found: {visit.path['file_id']}")
        return file


def _seconds(part: Part | None) -> int | None:
    """Return in how many seconds a file shall expire; None for never."""
    if part is None:
        return None
    text = part.data.decode(errors="replace").strip()
    if not _NUMBER.fullmatch(text):
        raise RefusedError(400, "expires_in_seconds: Input should be a valid integer")
    seconds = int(text)
    if seconds < _LEAST_SECONDS:
        problem = f"Input should be greater than or equal to {_LEAST_SECONDS}"
        raise RefusedError(400, f"expires_in_seconds: {problem}")
    if seconds > _MOST_SECONDS:
        problem = f"Input should be less than or equal to {_MOST_SECONDS}"
        raise RefusedError(400, f"expires_in_seconds: {problem}")
    return seconds


def _type_of(part: Part) -> str:
    """Return the type that was told or, when none was, the one that the bytes tell."""
    told = part.media_type.lower()
    return told if told and told != _UNTYPED else sniff(part.data) or _UNTYPED


def _name_of(part: Part, mime_type: str) -> str:
    """Return the last component of the filename; one that is missing is made up by the type."""
    name = _SEPARATOR.split(part.filename or "")[-1]
    if len(name) > _MAX_NAME:
        raise RefusedError(400, f"file: the filename should have at most {_MAX_NAME} characters")
    known = None if mime_type == _UNTYPED else mimetypes.guess_extension(mime_type)
    return name or f"unnamed{known or ''}"


def _ids(query: MultiDict[str, str]) -> list[str]:
    """Return the ids that a list is restricted to, each once; none for a whole list."""
    # The SDK writes lists with brackets, people without.
    asked = list(dict.fromkeys([*query.getlist("ids"), *query.getlist("ids[]")]))
    if asked and ("page" in query or "limit" in query):
        raise RefusedError(400, "ids: cannot be used together with page or limit")
    if len(asked) > _MAX_IDS:
        raise RefusedError(
            400,
            f"ids: List should have at most {_MAX_IDS} items after validation, not {len(asked)}",
        )
    return asked


def _cursor(query: MultiDict[str, str]) -> Cursor:
    """Read a list's query; a page is named after the file it follows."""
    cursor = read_cursor({name: query[name] for name in ("limit",) if name in query})
    page = query.get("page")
    return cursor._replace(after=f"{PREFIX}{page.removeprefix(_PAGE)}") if page else cursor


def _listing(files: list[StoredFile], *, more: bool) -> dict[str, Any]:
    last = files[-1].id.removeprefix(PREFIX) if more else None
    return {
        "data": [file.describe() for file in files],
        "next_page": None if last is None else f"{_PAGE}{last}",
    }
