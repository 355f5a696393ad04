"""The emulator without a network: httpx2 calls it, and sees a dead connection as on a socket."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import httpx2

from claude_batch_pandas.emulator.connections import LostError, ResetError, StalledError
from claude_batch_pandas.emulator.faults import Fault

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    Answer = Callable[[Fault | None, WSGIEnvironment, StartResponse], Iterable[bytes]]


class EmulatorTransport(httpx2.WSGITransport):
    """Reaches an emulator in this process.

    Parameters
    ----------
    strike : callable
        Given a method and a path, returns the fault that strikes the call.
    answer : callable
        A WSGI application that is given the fault first.
    """

    def __init__(self, strike: Callable[[str, str], Fault | None], answer: Answer) -> None:
        super().__init__(app=partial(answer, None))
        self._strike = strike
        self._answer = answer

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request."""
        fault = self._strike(request.method, request.url.path)
        if fault is not None and fault.upload is not None:
            request = _cut(request, fault.upload)
        inner = httpx2.WSGITransport(app=partial(self._answer, fault))
        with _as_httpx2():
            response = inner.handle_request(request)
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.stream = _Stream(response.stream)
        return response


class _Stream(httpx2.SyncByteStream):
    """A body whose connection may die in its midst."""

    def __init__(self, inner: httpx2.SyncByteStream) -> None:
        self._inner = inner

    def __iter__(self) -> Iterator[bytes]:
        with _as_httpx2():
            yield from self._inner

    def close(self) -> None:
        self._inner.close()


def _cut(request: httpx2.Request, size: int) -> httpx2.Request:
    """Take no more of the body than a server that leaves after so many bytes."""
    assert isinstance(request.stream, httpx2.SyncByteStream)
    taken = bytearray()
    blocks = iter(request.stream)
    while len(taken) < size and (block := next(blocks, None)) is not None:
        taken += block
    return httpx2.Request(
        request.method, request.url, headers=request.headers, content=bytes(taken[:size])
    )


@contextmanager
def _as_httpx2() -> Iterator[None]:
    """Raise what httpx2 raises for a connection that died in this way."""
    try:
        yield
    except StalledError as error:
        raise httpx2.ReadTimeout(str(error)) from None
    except ResetError as error:
        raise httpx2.ReadError(str(error)) from None
    except LostError as error:
        raise httpx2.RemoteProtocolError(str(error)) from None
