"""What goes wrong between a client and the API, by script: lost answers, errors, cut bodies."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from werkzeug.wrappers import Response

from claude_batch_pandas.emulator.connections import LostError, ResetError, StalledError, dying
from claude_batch_pandas.emulator.errors import envelope, type_of
from claude_batch_pandas.exceptions import InputError

_FIRST_ERROR = 400

Framing = Literal["length", "chunked", "close"]


@dataclass(frozen=True)
class Call:
    """One HTTP call, as the emulator answered it.

    Attributes
    ----------
    method : str
        Such as ``"POST"``.
    path : str
        Without the query.
    status : int
        Of the answer that went out; 0 when the connection was dropped.
    """

    method: str
    path: str
    status: int


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that goes wrong with an HTTP call; the first fault that matches a call acts.

    With a `status`, a `body` or a connection that dies without an answer (`drop`, `reset`, `stall`)
    the call is not worked on at all, unless `after` is set; without them the correct answer goes
    out, changed by `edit`, `truncate`, `cut` and `headers`.

    Parameters
    ----------
    method : str
        The HTTP method, such as ``"POST"``.
    path : str
        A regular expression for the whole path.
    after : bool
        Do the work first, then spoil the answer: the batch exists, but nobody is told.
    status : int, optional
        Answer with this status.
    headers : mapping of str to str
        Headers to add to the answer.
    body : bytes, optional
        The body to answer with; without one, an error has the API's own shape.
    error_type : str, optional
        The error type in that shape; without one, the API's for the status.
    drop : bool
        The connection dies without an answer.
    truncate : int, optional
        Cut the body to that many bytes, with a Content-Length that agrees.
    skip : int
        Let that many matching calls through first.
    times : int or None
        How often it happens; None is for ever.
    edit : callable, optional
        Rewrites the body of a correct answer.
    reset : bool
        The connection is reset (RST), without an answer or after `cut` bytes of it.
    stall : bool
        Nothing comes any more, at once or after `cut` bytes: the connection stays open until the
        client gives up or the server ends. In process, the client's time is over at once.
    cut : int, optional
        The connection dies after that many bytes of the answer's body, whatever was announced.
    framing : {"length", "chunked", "close"}, optional
        What tells the client where the body ends: a Content-Length, the last chunk, or the end of
        the connection, with which a `cut` is silent.
    upload : int, optional
        The connection is reset after that many bytes of the request's body; with a `status` or a
        `body`, it is answered then, before the rest has come.
    meanwhile : callable, optional
        Called with the emulator when the work, if any, is done, and before the answer goes out:
        what others do at that moment.

    Examples
    --------
    >>> Fault(method="POST", path="/v1/messages/batches", after=True, drop=True).times
    1
    """

    method: str
    path: str
    after: bool = False
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    error_type: str | None = None
    drop: bool = False
    truncate: int | None = None
    skip: int = 0
    times: int | None = 1
    edit: Callable[[bytes], bytes] | None = None
    reset: bool = False
    stall: bool = False
    cut: int | None = None
    framing: Framing | None = None
    upload: int | None = None
    meanwhile: Callable[[Any], object] | None = None  # the emulator stands above this file

    def __post_init__(self) -> None:
        """Refuse what nobody could act out."""
        if self.framing is not None and self.framing not in get_args(Framing):
            names = ", ".join(get_args(Framing))
            message = f"framing={self.framing!r} is not known. Pass one of: {names}."
            raise InputError(message)
        for name in ("cut", "upload", "truncate"):
            number = getattr(self, name)
            if number is not None and number < 0:
                message = f"{name}={number} is no number of bytes. Pass 0 or more."
                raise InputError(message)
        if self.upload is not None and self.after:
            message = "A request that is cut in mid-upload is never worked on: drop after=True."
            raise InputError(message)

    @property
    def replaces(self) -> bool:
        """Whether its own answer, or none, goes out instead of the correct one."""
        return self.is_mute or self.status is not None or self.body is not None

    @property
    def is_mute(self) -> bool:
        """Whether no answer goes out at all."""
        if self.upload is not None:
            return self.status is None and self.body is None
        return self.drop or (self.cut is None and (self.reset or self.stall))

    def answer(self, request_id: str) -> Response:
        """Return the answer that goes out instead; a connection that died has none."""
        if self.is_mute:
            raise self._death()
        status = 200 if self.status is None else self.status
        body = self.body
        if body is None and status >= _FIRST_ERROR:
            error_type = self.error_type or type_of(status)
            body = envelope(error_type, "[simulated] A fault of the emulator", request_id)
        response = Response(body or b"", status=status, content_type="application/json")
        return self.change(response)

    def change(self, response: Response) -> Response:
        """Apply what spoils an answer that does go out."""
        if self.edit is not None:
            response.set_data(self.edit(response.get_data()))
        if self.truncate is not None:
            response.set_data(response.get_data()[: self.truncate])
        if self.cut is not None or self.framing is not None:
            self._frame(response)
        for name, value in self.headers.items():
            response.headers[name] = value
        return response

    def _frame(self, response: Response) -> None:
        """Announce the end of the body as it was asked for, and let it come too early."""
        data = response.get_data()
        if self.framing not in {"chunked", "close"}:
            response.headers["Content-Length"] = str(len(data))
        else:
            response.headers.pop("Content-Length", None)
        error: LostError | None = None if self.cut is None else self._death()
        # Without a length, the end of the connection is the end of the body, and nobody can tell.
        is_silent = self.framing == "close" and not (self.reset or self.stall)
        # Only a generator goes out as it is: of a list, Werkzeug would announce the length.
        response.response = dying(data[: self.cut], None if is_silent else error)

    def _death(self) -> LostError:
        if self.stall:
            return StalledError()
        return ResetError() if self.reset or self.upload is not None else LostError()


class FaultScript:
    """Which fault strikes when; counts for each how often it was met."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        self._faults = [(fault, re.compile(fault.path)) for fault in faults]
        self._met = [0] * len(faults)

    def next(self, method: str, path: str) -> Fault | None:
        """Return the fault that strikes this call, and count it."""
        for position, (fault, pattern) in enumerate(self._faults):
            if fault.method != method or not pattern.fullmatch(path):
                continue
            struck = self._met[position] - fault.skip
            if fault.times is not None and struck >= fault.times:
                continue
            self._met[position] += 1
            if struck >= 0:
                return fault
        return None
