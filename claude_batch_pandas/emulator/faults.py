"""What goes wrong between a client and the API, by script: lost answers, errors, cut bodies."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from werkzeug.wrappers import Response

from claude_batch_pandas.emulator.errors import envelope, type_of

_FIRST_ERROR = 400


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

    With a `status`, a `body` or `drop` the call is not worked on at all, unless `after` is set;
    without them the correct answer goes out, changed by `edit`, `truncate` and `headers`.

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

    @property
    def replaces(self) -> bool:
        """Whether its own answer, or none, goes out instead of the correct one."""
        return self.drop or self.status is not None or self.body is not None

    def answer(self, request_id: str) -> Response:
        """Return the answer that goes out instead; a dropped connection has none."""
        if self.drop:
            message = "A fault of the emulator dropped the connection."
            raise ConnectionError(message)
        status = 200 if self.status is None else self.status
        body = self.body
        if body is None and status >= _FIRST_ERROR:
            error_type = self.error_type or type_of(status)
            body = envelope(error_type, "[simulated] A fault of the emulator", request_id)
        response = Response(body or b"", status=status, content_type="application/json")
        return self.change(response)

    def change(self, response: Response) -> Response:
        """Apply `edit`, `truncate` and `headers` to an answer."""
        if self.edit is not None:
            response.set_data(self.edit(response.get_data()))
        if self.truncate is not None:
            response.set_data(response.get_data()[: self.truncate])
        for name, value in self.headers.items():
            response.headers[name] = value
        return response


class FaultScript:
    """Which fault strikes when; counts for each how often it was met."""

    def __init__(self, faults: Sequence[Fault]) -> None:
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
