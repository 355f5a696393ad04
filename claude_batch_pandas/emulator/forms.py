"""Forms as they are uploaded: the parts of a multipart body, each as the bytes it was."""

from __future__ import annotations

from typing import NamedTuple

from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder

from claude_batch_pandas.emulator.errors import RefusedError

_FORM = "multipart/form-data"


class Part(NamedTuple):
    """One field of a form."""

    data: bytes
    filename: str | None
    media_type: str  # empty when it was not told


def read_form(content_type: str, body: bytes) -> dict[str, Part]:
    """Return the parts of a form by their names, or raise what the API would answer.

    Werkzeug's own form takes a part without a filename for text, and would spoil the bytes that
    the SDK sends in that way; its decoder does not.
    """
    kind, options = parse_options_header(content_type)
    if kind != _FORM or not options.get("boundary"):
        raise RefusedError(400, f"content-type: Input should be '{_FORM}' with a boundary")
    decoder = MultipartDecoder(options["boundary"].encode())
    decoder.receive_data(body)
    decoder.receive_data(None)
    try:
        return _parts(decoder)
    except ValueError as error:
        raise RefusedError(400, f"The request body is not a valid form: {error}") from None


def _parts(decoder: MultipartDecoder) -> dict[str, Part]:
    found: dict[str, Part] = {}
    name = ""
    while not isinstance(event := decoder.next_event(), Epilogue):
        if isinstance(event, Field | File):
            name = event.name or ""
            filename = event.filename if isinstance(event, File) else None
            media_type, _ = parse_options_header(event.headers.get("content-type"))
            found[name] = Part(b"", filename, media_type)
        elif isinstance(event, Data):
            # The body is there as a whole, and so is each part.
            found[name] = found[name]._replace(data=event.data)
    return found
