"""Images and documents: a cell -> a content block.

A cell is a path, an address, bytes, or pixels. What it is, its bytes tell and never its name.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from claude_batch_pandas import pictures
from claude_batch_pandas.abilities import Abilities, Sight
from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.slots import UnfitError

IMAGE, DOCUMENT = "image", "document"
PDF, TEXT = "application/pdf", "text/plain"
LARGEST_FILE = 500_000_000  # bytes, of the Files API
LARGEST_INLINE = 180_000_000  # bytes of a file that stands in a request, a third larger there
LONGEST_PATH = 260  # characters of a path that an error shows
MOST_BLANKS = 6
PATH = re.compile(r"[/\\]|\.[A-Za-z0-9]{1,5}$")
NO_PATH = "its text is no path of a file; name the column that holds paths."
ADDRESS = re.compile(r"https?://", re.IGNORECASE)
FILE_ID = re.compile(r"file_[A-Za-z0-9]{8,}")
KINDS = {IMAGE: "PNG, JPEG, GIF or WebP", DOCUMENT: "PDF or UTF-8 text"}
NOT_UPLOADED = "file_to-be-uploaded"  # stands for a file in a preview


@dataclass(frozen=True, slots=True)
class Media:
    """An image or document of a prompt.

    Attributes
    ----------
    kind : {"image", "document"}
    column : str or None
        Where each row's stands; None for one that all rows share.
    shared : object
        That one.
    upload : bool or None
        Whether it goes through the Files API; None leaves that to the call.
    """

    kind: str
    column: str | None
    shared: Any = None
    upload: bool | None = None

    def __repr__(self) -> str:
        return f"{self.kind}({self.column!r})" if self.column else f"{self.kind}(...)"


@dataclass(frozen=True, slots=True)
class Upload:
    """A file as the Files API is given it."""

    data: bytes
    name: str
    media_type: str

    @property
    def sha256(self) -> str:
        """What tells it from another: its bytes and their type."""
        return hashlib.sha256(self.media_type.encode() + b"\n" + self.data).hexdigest()


Uploader = Callable[[Upload], str]


def image(what: Any, *, upload: bool | None = None) -> Media:
    """Put an image into a prompt: ``template=["What is this?", cbp.image("photo")]``.

    Parameters
    ----------
    what : str, pathlib.Path, bytes, PIL.Image.Image or numpy.ndarray
        The name of a column, whose cells are paths, addresses (https), bytes, Pillow images or
        arrays of pixels. Anything but a name is one image for all rows.
    upload : bool, optional
        Send each distinct image once, through the Files API, and refer to it. Default: as the call
        says.

    Returns
    -------
    Media

    Raises
    ------
    InputError
    """
    return _media(IMAGE, what, upload)


def document(what: Any, *, upload: bool | None = None) -> Media:
    """Put a PDF or a text file into a prompt: ``template=[cbp.document("path"), "Who signed?"]``.

    Parameters
    ----------
    what : str, pathlib.Path or bytes
        The name of a column, whose cells are paths, addresses of PDFs (https), or bytes. Anything
        but a name is one document for all rows.
    upload : bool, optional
        As for `image`; with it, many rows that share a PDF stay small.

    Returns
    -------
    Media

    Raises
    ------
    InputError
    """
    return _media(DOCUMENT, what, upload)


def _media(kind: str, what: Any, upload: bool | None) -> Media:
    if upload is not None and not isinstance(upload, bool):
        msg = f"upload must be True or False, not {upload!r}."
        raise InputError(msg)
    if isinstance(what, str):
        if not what:
            msg = f"{kind}() takes the name of a column, or a Path; this name is empty."
            raise InputError(msg)
        return Media(kind, what, upload=upload)
    if what is None:
        msg = f"{kind}() takes the name of a column, a Path or bytes, not None."
        raise InputError(msg)
    return Media(kind, None, what, upload)


@dataclass(slots=True)
class Loader:
    """Makes blocks of cells.

    Parameters
    ----------
    sight : Sight
        What the model reads without scaling it down.
    send : callable, optional
        Gives a file to the Files API once, and returns its id; None for a preview.

    Attributes
    ----------
    scaled : int
        Images that were made smaller.
    """

    sight: Sight
    send: Uploader | None = None
    scaled: int = 0
    _last: tuple[Any, bytes] | None = None  # rows that share a file often stand together
    _sent: dict[Any, bytes] = field(default_factory=dict)  # blocks of uploaded files are short

    @classmethod
    def of(cls, model: Abilities, send: Uploader | None = None) -> Loader:
        """Return the loader for a model."""
        return cls(model.sight, send)

    def block(self, media: Media, cell: Any) -> bytes:
        """Return the JSON of the block of a cell.

        Raises
        ------
        UnfitError
            When there is no such file, or it is not what it should be; never with its content.
        """
        key = _key(media, cell)
        if key is None:
            return _json(self._block(media, cell))
        if key in self._sent:
            return self._sent[key]
        if self._last is not None and self._last[0] == key:
            return self._last[1]
        found = _json(self._block(media, cell))
        if media.upload:
            self._sent[key] = found
        else:
            self._last = key, found
        return found

    def _block(self, media: Media, cell: Any) -> dict[str, Any]:
        if isinstance(cell, str) and ADDRESS.match(cell):
            return {"type": media.kind, "source": {"type": "url", "url": cell}}
        if isinstance(cell, str) and FILE_ID.fullmatch(cell):
            return {"type": media.kind, "source": {"type": "file", "file_id": cell}}
        data, name = _read(media, cell)
        file = self._picture(data, name) if media.kind == IMAGE else _document(data, name)
        if media.upload:
            source = {"type": "file", "file_id": self.send(file) if self.send else NOT_UPLOADED}
        elif file.media_type == TEXT:
            source = {"type": "text", "media_type": TEXT, "data": file.data.decode()}
        else:
            encoded = base64.b64encode(file.data).decode()
            source = {"type": "base64", "media_type": file.media_type, "data": encoded}
        return {"type": media.kind, "source": source}

    def _picture(self, data: bytes, name: str) -> Upload:
        media_type = image_type(data)
        if media_type is None:
            msg = f"{name!r} is no image; the API reads {KINDS[IMAGE]}."
            raise UnfitError(msg)
        picture = pictures.fitted(data, media_type, self.sight)
        self.scaled += picture.was_scaled
        return Upload(picture.data, name, picture.media_type)


def image_type(data: bytes) -> str | None:
    """Return the media type of an image by its first bytes; None for what the API does not read."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def is_pdf(data: bytes) -> bool:
    """Tell whether bytes are a PDF; some begin with a little dirt."""
    return b"%PDF-" in data[:1024]


def placed(part: Any, loader: Loader, *, upload: bool) -> Any:
    """Return a template in which what all rows share is a block, and the rest knows its upload.

    Parameters
    ----------
    part : object
        A template, or a part of one.
    loader : Loader
    upload : bool
        For those that do not say themselves.

    Raises
    ------
    InputError
        When a shared file is not there, or not what it should be.
    """
    if isinstance(part, Media):
        media = replace(part, upload=upload) if part.upload is None else part
        if media.column is not None:
            return media
        try:
            return json.loads(loader.block(media, media.shared))
        except UnfitError as error:
            msg = f"The {media.kind} that all rows share cannot be sent: {error}"
            raise InputError(msg) from None
    if isinstance(part, Mapping):
        return {name: placed(value, loader, upload=upload) for name, value in part.items()}
    if isinstance(part, list | tuple):
        return [placed(value, loader, upload=upload) for value in part]
    return part


def _document(data: bytes, name: str) -> Upload:
    if is_pdf(data):
        return Upload(data, name, PDF)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        msg = f"{name!r} is neither a PDF nor UTF-8 text."
        raise UnfitError(msg) from None
    if not text.strip() or "\0" in text:
        msg = f"{name!r} is {'empty' if not text.strip() else 'neither a PDF nor text'}."
        raise UnfitError(msg)
    return Upload(text.encode(), name, TEXT)


def _read(media: Media, cell: Any) -> tuple[bytes, str]:
    """Return the bytes of a cell, and what to call it."""
    if isinstance(cell, bytes | bytearray | memoryview):
        if not len(cell):
            msg = "it holds no bytes."
            raise UnfitError(msg)
        return bytes(cell), media.kind
    if isinstance(cell, str | os.PathLike):
        return _file(Path(cell).expanduser(), LARGEST_FILE if media.upload else LARGEST_INLINE)
    found = pictures.from_pixels(cell) if media.kind == IMAGE else None
    if found is None:
        msg = f"a {type(cell).__name__} is no {media.kind}; use a path, an address or bytes."
        raise UnfitError(msg)
    return found, media.kind


def _file(path: Path, most: int) -> tuple[bytes, str]:
    shown = repr(str(path)) if _looks_like_a_path(str(path)) else "its text"
    try:
        is_folder, size = path.is_dir(), path.stat().st_size
        if not is_folder and size <= most:
            return path.read_bytes(), path.name
        wrong = "is a folder, not a file"
        if not is_folder:
            wrong = f"has {size:,} bytes; at most {most:,} can be sent"
            wrong += "" if most == LARGEST_FILE else ", and upload=True sends more"
        msg = f"{shown} {wrong}."
    except FileNotFoundError:
        msg = f"there is no file {shown}." if shown != "its text" else NO_PATH
    except (OSError, ValueError) as error:
        msg = f"the file {shown} cannot be read ({type(error).__name__})."
        if shown == "its text":
            msg = NO_PATH
    raise UnfitError(msg)


def _looks_like_a_path(text: str) -> bool:
    """Tell whether an error may show a cell: a path, and not the text of another column."""
    is_line = len(text) <= LONGEST_PATH and text.isprintable() and text.count(" ") <= MOST_BLANKS
    return is_line and bool(PATH.search(text))


def _key(media: Media, cell: Any) -> Any:
    """Return what tells one cell from another; None for what cannot be compared cheaply."""
    if isinstance(cell, str | os.PathLike):
        return media.kind, media.upload, os.fspath(cell)
    return None


def _json(block: dict[str, Any]) -> bytes:
    try:
        return json.dumps(block, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        msg = "its name or address holds a lone surrogate, which UTF-8 cannot encode."
        raise UnfitError(msg) from None
