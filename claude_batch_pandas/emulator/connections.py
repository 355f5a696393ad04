"""The ways in which a connection dies; in process and on a port each looks as it would outside.

They are ConnectionErrors, so that a WSGI server drops the call, and our own server and transport
know how: ended, reset, or silent for ever.
"""

from __future__ import annotations

from collections.abc import Iterator

CLOSE_DELIMITED = "claude_batch_pandas.close_delimited"
"""In the WSGI environment of our server: call it, and the body ends where the connection does."""


class LostError(ConnectionError):
    """The connection ends before the answer does."""

    def __init__(self, message: str = "A fault of the emulator ended the connection.") -> None:
        super().__init__(message)


class ResetError(LostError):
    """The connection is reset: whatever was on its way is lost."""


class StalledError(LostError):
    """The connection stays open, and nothing comes any more."""


def dying(data: bytes, error: LostError | None) -> Iterator[bytes]:
    """Yield what still goes out of a body before the connection dies."""
    if data:
        yield data
    if error is not None:
        raise error
