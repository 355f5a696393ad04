"""Files -> a frame of documents: their texts where they are texts, their paths for the rest."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claude_batch_pandas.blocks import is_pdf
from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.frames import table
from claude_batch_pandas.tracebacks import warn

if TYPE_CHECKING:
    import pandas as pd

TEXTS = frozenset({".txt", ".md", ".markdown", ".html", ".htm"})
SUFFIXES = (*sorted(TEXTS), ".pdf")
HEAD = 1024  # bytes that tell a PDF
COLUMNS = {"path": "text", "text": "text", "bytes": "count", "modified": "time"}


def documents(where: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> pd.DataFrame:
    """Make a frame of text, Markdown, HTML and PDF files, one row each.

    Parameters
    ----------
    where : str, path, or iterable of them
        Files, folders (with all that is below them), or patterns such as ``"data/*.txt"`` (``**``
        for any folders between).

    Returns
    -------
    pandas.DataFrame
        In the order of the paths: ``path`` (string), ``text`` (string; as it is in the file, and
        missing for PDFs, which `document` sends whole), ``bytes`` (int64) and ``modified``
        (datetime64, UTC). A file that is neither a PDF nor UTF-8 has no text, and is warned of.

    Raises
    ------
    InputError
        When there is no such file.

    Examples
    --------
    >>> import claude_batch_pandas as cbp
    >>> df = cbp.documents("data/*.txt")  # doctest: +SKIP
    >>> df.claude.summarize("text")  # doctest: +SKIP
    """
    given: list[Any] = [where] if isinstance(where, str | os.PathLike) else list(where)
    paths = sorted({path for part in given for path in _paths(part)})
    if not paths:
        msg = f"No {', '.join(SUFFIXES)} file was found in {[str(part) for part in given]}."
        raise InputError(msg)
    return table([_row(path) for path in paths], COLUMNS)


def _paths(part: Any) -> list[Path]:
    if not isinstance(part, str | os.PathLike):
        msg = f"documents() takes paths and patterns, not a {type(part).__name__}."
        raise InputError(msg)
    path = Path(part).expanduser()
    if path.is_dir():
        found = (Path(folder) / name for folder, _, names in os.walk(path) for name in names)
        return [each for each in found if each.suffix.lower() in SUFFIXES]
    if path.exists():
        return [path]
    matches = [Path(each) for each in glob.glob(str(path), recursive=True)]  # noqa: PTH207 - Path.glob takes no absolute one
    if not matches:
        msg = f"There is no file {str(path)!r}, and nothing of that pattern."
        raise InputError(msg)
    return [each for each in matches if each.is_file()]


def _row(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data, about = file.read(HEAD), os.fstat(file.fileno())
            if not is_pdf(data):
                data += file.read()
    except OSError as error:
        msg = f"The file {str(path)!r} cannot be read: {error.strerror or error}."
        raise InputError(msg) from None
    text = None
    if not is_pdf(data):
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            warn(f"The file {str(path)!r} is neither a PDF nor UTF-8 text: its text is missing.")
    return {"path": str(path), "text": text, "bytes": about.st_size, "modified": about.st_mtime}
