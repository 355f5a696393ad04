"""The emulator on a port of this machine, for people and for other processes."""

from __future__ import annotations

import atexit
import selectors
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from werkzeug.serving import WSGIRequestHandler, make_server

from claude_batch_pandas.emulator.app import Emulator
from claude_batch_pandas.emulator.connections import CLOSE_DELIMITED, ResetError, StalledError
from claude_batch_pandas.emulator.faults import Fault
from claude_batch_pandas.emulator.rules import Rule
from claude_batch_pandas.exceptions import InputError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_GLANCE = 0.02  # seconds between two looks at whether the server goes on


class EmulatorOptions(TypedDict, total=False):
    """The options of `Emulator` but `speed`, which `serve` names itself."""

    rules: Sequence[Rule]
    faults: Sequence[Fault]
    clock: Callable[[], float]
    seed: int
    moving_counts: bool
    max_queue: int | Literal["tier"] | None
    list_lag: float
    duration: float | None
    organization: str
    workspaces: Mapping[str, str] | None
    tier: str | None
    permissive_ids: bool
    state: str | PathLike[str] | None
    prefix: str


class _Handler(WSGIRequestHandler):
    """Answers in silence, and lets a dropped connection be dropped."""

    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - Werkzeug's name
        """Log nothing: a notebook's output is not for access logs."""

    def send_response(self, code: int, message: str | None = None) -> None:
        """Leave `Date` and `Server` to the emulator, whose clock may not be this machine's."""
        self.send_response_only(code, message)

    def connection_dropped(
        self,
        error: BaseException,
        environ: WSGIEnvironment | None = None,  # noqa: ARG002 - Werkzeug's signature
    ) -> None:
        """End the connection as the fault says; HTTP/1.1 would wait for the next request."""
        self.close_connection = True
        if isinstance(error, StalledError):
            self._stall()
        elif isinstance(error, ResetError):
            self._reset()

    def make_environ(self) -> WSGIEnvironment:
        """Let the emulator choose that a body ends where the connection does."""
        return {**super().make_environ(), CLOSE_DELIMITED: self._delimit_by_closing}

    def _delimit_by_closing(self) -> None:
        self.protocol_version = "HTTP/1.0"  # which has no chunks

    def _stall(self) -> None:
        """Hold the connection until the client gives up or the server has closed."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ)
            # All of the request was read, so what can be read now is the end.
            while self.server.socket.fileno() >= 0 and not selector.select(_GLANCE):
                pass

    def _reset(self) -> None:
        """Close at once with a lingering of no time, which sends RST instead of FIN."""
        now = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
        socket.close(self.connection.detach())


@contextmanager
def serve(
    *,
    port: int = 0,
    host: str = "127.0.0.1",
    speed: float = 1.0,
    emulator: Emulator | None = None,
    **options: Unpack[EmulatorOptions],
) -> Iterator[str]:
    """Serve an emulator on this machine while the block runs.

    Parameters
    ----------
    port : int
        The port; 0 takes a free one.
    host : str
        The address to listen at.
    speed : float
        How many times faster than a plausible service.
    emulator : Emulator, optional
        The emulator to serve; without one, a new one with the options given.
    **options
        What `Emulator` takes.

    Yields
    ------
    str
        The base URL for the SDK, with the emulator's prefix.

    Examples
    --------
    >>> with serve(speed=1000) as url:
    ...     print(url.startswith("http://127.0.0.1:"))
    True
    """
    if emulator is not None and (options or speed != 1.0):
        given = sorted({*options, *(["speed"] if speed != 1.0 else [])})
        message = (
            f"An emulator was passed, and options for a new one: {given}. Pass one or the other."
        )
        raise InputError(message)
    app = emulator or Emulator(speed=speed, **options)
    with _listen(host, port) as listener:
        server = make_server(
            host, port, app, threaded=True, request_handler=_Handler, fd=listener.fileno()
        )
    # Short polls, so that leaving the block does not take half a second.
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    # A block that is never left would end with the interpreter, when the thread can no longer
    # be waited for; this comes before.
    atexit.register(server.shutdown)
    try:
        name = f"[{host}]" if ":" in host else host
        yield f"http://{name}:{server.port}{app.prefix}"
    finally:
        atexit.unregister(server.shutdown)
        server.shutdown()
        thread.join()


def _listen(host: str, port: int) -> socket.socket:
    """Open the port ourselves: Werkzeug ends the process when it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        message = (
            f"Cannot listen at {host}:{port}: {error.strerror or error}. "
            "Pass another port, or 0 for a free one."
        )
        raise InputError(message) from error
