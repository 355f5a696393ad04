"""The network between the SDK and the server: it loses, delays, cuts and garbles.

Every fault is decided before the call and says two things: whether the server gets the request
(no, yes, or only after the sender gave up), and what the sender is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from random import Random
from typing import NamedTuple

import httpx2
import orjson
from httpx2 import Request, Response

from tests.simulator.turns import Kernel, Turns
from tests.simulator.world import World

READ_TIMEOUT_SECONDS = 600.0  # the SDK's
Teller = Callable[[Request, Response | None], Response]

NO, YES, LATE = "before it arrived", "after it arrived", "and it arrives later"
HTML = b"<html><body>Please sign in to the hotel's network</body></html>"
TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
# In the API's own words these prove that nothing was created, so they never come after it was.
PROOFS = [400, 401, 402, 403, 404, 413, 422]
BUSY = [429, 529]
VAGUE = [408, 409, 425, 499, 500, 502, 503, 504, 520, 522, 524]


class Fault(NamedTuple):
    """What goes wrong with one call."""

    name: str
    arrives: str
    tell: Teller
    seconds: float = 0.0  # until the sender is told
    is_listed_at_once: bool = False
    is_whole: bool = True  # whether the last byte of the request leaves the sender


def broken(
    error: type[httpx2.TransportError], arrives: str, seconds: float = 0.0, *, is_whole: bool = True
) -> Fault:
    """Return a fault of the connection."""

    def tell(request: Request, _: Response | None) -> Response:
        message = "simulated"
        raise error(message, request=request)

    name = f"{error.__name__} {arrives if is_whole else 'before the last byte left'}"
    return Fault(name, arrives, tell, seconds, is_whole=is_whole)


def told(status: int, arrives: str, *, is_genuine: bool, wait: str | None = None) -> Fault:
    """Return a fault that is an error status, by the API itself or by something in between."""

    def tell(request: Request, _: Response | None) -> Response:
        headers = {} if wait is None else {"retry-after": wait}
        if not is_genuine:
            return Response(status, headers=headers, html=HTML.decode(), request=request)
        error = {"type": TYPES.get(status, "api_error"), "message": "[simulated]"}
        body = {"type": "error", "error": error, "request_id": "req_simulated"}
        return Response(status, headers=headers, json=body, request=request)

    words = "API" if is_genuine else "proxy"
    name = f"{status} by the {words} {arrives}"
    return Fault(name, arrives, tell, is_listed_at_once=is_genuine and status in BUSY)


def garbled(name: str, arrives: str, content: bytes, status: int = 200) -> Fault:
    """Return a fault in which a success is none."""

    def tell(request: Request, _: Response | None) -> Response:
        headers = {"location": "/v1/messages/batches"} if status == 307 else {}
        return Response(status, headers=headers, content=content, request=request)

    return Fault(f"{name} {arrives}", arrives, tell)


def cut(request: Request, response: Response | None) -> Response:
    """Tell half of the answer, as if it were all."""
    assert response is not None, "it arrived"
    half = response.content[: len(response.content) // 2]
    return Response(response.status_code, content=half, request=request)


def any_fault(dice: Random) -> Fault:
    """Return a fault that any call can have."""
    arrives = dice.choice([NO, YES])
    seconds = dice.choice([0.0, 5.0, READ_TIMEOUT_SECONDS])
    return dice.choice(
        [
            broken(httpx2.ConnectError, NO, is_whole=False),
            broken(httpx2.ConnectTimeout, NO, 5.0, is_whole=False),
            broken(dice.choice([httpx2.ReadError, httpx2.RemoteProtocolError]), arrives, seconds),
            broken(httpx2.WriteError, NO, seconds),
            broken(httpx2.ReadTimeout, arrives, READ_TIMEOUT_SECONDS),
            told(dice.choice(PROOFS), NO, is_genuine=True),
            told(dice.choice(BUSY), arrives, is_genuine=True, wait=dice.choice([None, "30"])),
            told(dice.choice(VAGUE), arrives, is_genuine=dice.random() < 0.5),
            told(dice.choice([401, 403, 404, *BUSY]), arrives, is_genuine=False),
            garbled("a page of a portal", arrives, HTML),
            garbled("JSON without an id", arrives, b'{"ok":true}'),
            garbled("a redirect", arrives, b"", 307),
            Fault("half an answer", YES, cut),
        ]
    )


def fault_of_create(dice: Random) -> Fault:
    """Return a fault of a submission, which may arrive after its sender gave up."""
    error = dice.choice([httpx2.ReadError, httpx2.ReadTimeout, httpx2.RemoteProtocolError])
    seconds = dice.uniform(0.0, READ_TIMEOUT_SECONDS)
    chance = dice.random()
    if chance < 0.25:
        return broken(error, LATE, seconds)
    if chance < 0.35:
        return broken(dice.choice([error, httpx2.WriteError]), NO, seconds, is_whole=False)
    return any_fault(dice)


def fault_of_results(dice: Random) -> Fault:
    """Return a fault of a download: most are silent."""
    if dice.random() < 0.3:
        return any_fault(dice)
    return dice.choice([Fault(name, YES, tell) for name, tell in DAMAGES.items()])


def _damage(change: Callable[[list[bytes]], bytes]) -> Teller:
    def tell(request: Request, response: Response | None) -> Response:
        assert response is not None, "it arrived"
        if response.status_code != 200:
            return response
        content = change(response.content.splitlines(keepends=True))
        return Response(200, content=content, request=request)

    return tell


def _break_off(request: Request, response: Response | None) -> Response:
    """Send half of the results, and then nothing more."""
    assert response is not None, "it arrived"
    half = response.content[: len(response.content) // 2]

    def stream() -> Iterator[bytes]:
        yield half
        message = "simulated"
        raise httpx2.RemoteProtocolError(message, request=request)

    return Response(response.status_code, content=stream(), request=request)


def _stranger(line: bytes) -> bytes:
    value = orjson.loads(line)
    value["custom_id"] = f"{'0' * 16}{value['custom_id'][16:]}"
    return orjson.dumps(value) + b"\n"


def _contradiction(line: bytes) -> bytes:
    value = orjson.loads(line)
    value["result"] = {"type": "expired"}
    return orjson.dumps(value) + b"\n"


DAMAGES: dict[str, Teller] = {
    "results without the last line": _damage(lambda lines: b"".join(lines[:-1])),
    "results without the first line": _damage(lambda lines: b"".join(lines[1:])),
    "results cut in the last line": _damage(lambda lines: b"".join(lines)[:-9]),
    "results without the last newline": _damage(lambda lines: b"".join(lines)[:-1]),
    "a line twice": _damage(lambda lines: b"".join([*lines, lines[0]])),
    "a line instead of another": _damage(lambda lines: b"".join([*lines[:-1], lines[0]])),
    "a foreign line more": _damage(lambda lines: b"".join([*lines, _stranger(lines[0])])),
    "two answers to one": _damage(lambda lines: b"".join([*lines, _contradiction(lines[0])])),
    "empty results": _damage(lambda _: b""),
    "results that break off": _break_off,
}


class Network(httpx2.BaseTransport):
    """What carries the SDK's requests in whichever schedule runs now.

    One for all schedules, since an SDK client is dear to build.
    """

    turns: Turns
    world: World
    dice: Random
    faults: int

    def enter(self, turns: Turns, world: World, dice: Random) -> None:
        """Carry the requests of another schedule from now on."""
        self.turns, self.world, self.dice, self.faults = turns, world, dice, 0

    def handle_request(self, request: Request) -> Response:
        """Carry one request, or fail to."""
        kernel, turns = self.turns.kernel, self.turns
        assert kernel is not None, "only simulated processes call"
        kernel.check()
        name = f"{request.method} {request.url.path.removeprefix('/v1/messages/')}"
        fault = self._fault(kernel, request)
        what = f"{name} {request.url.params}".strip()
        turns.note("call", f"{what}: {fault.name}" if fault else what)
        whole = self._upload(kernel, request, fault, name)
        answer = None
        if fault is None or fault.arrives == YES:
            quick = fault is not None and fault.is_listed_at_once
            answer = self.world.deliver(whole, kernel.name, at_once=quick)
        elif fault.arrives == LATE:
            self._arrive_later(kernel, whole)
        kind = "create" if _is_create(request) else "call"
        kernel.reach(kind, f"{name} was answered")
        turns.sleep(self.dice.uniform(0.01, 1.0) + (fault.seconds if fault else 0.0))
        kernel.reach(kind, f"{name} is told the answer")
        if fault is None:
            assert answer is not None, "it arrived"
            turns.note("answer", f"{answer.status_code}")
            return answer
        if request.url.path.endswith("/results"):
            self.world.damaged[request.url.path.split("/")[-2]] += 1
        return fault.tell(request, answer)

    def _upload(self, kernel: Kernel, request: Request, fault: Fault | None, name: str) -> Request:
        """Take the request from the sender; of who dies then, it may still be sent."""
        kind = "create" if _is_create(request) else "call"
        kernel.reach(kind, f"{name} begins")
        pieces: list[bytes] = []
        assert isinstance(request.stream, httpx2.SyncByteStream), "the package is synchronous"
        stream = iter(request.stream)
        if fault is None or fault.is_whole:
            pieces.extend(stream)
        else:
            pieces.extend(islice(stream, 1))
        headers, content = request.headers, b"".join(pieces)
        whole = request
        if content:  # a copy, which can be sent more than once
            whole = Request(request.method, request.url, headers=headers, content=content)
        self.turns.sleep(self.dice.uniform(0.01, 1.0))
        try:
            kernel.reach(kind, f"{name} is on its way", awake=True)
        except BaseException:
            is_whole = len(content) == int(headers.get("content-length", "0"))
            if kind == "create" and is_whole and self.dice.random() < 0.3:
                self._arrive_later(kernel, whole)
            raise
        return whole

    def _arrive_later(self, kernel: Kernel, request: Request) -> None:
        later = self.dice.choice([1.0, self.dice.uniform(0.0, self.world.settings.delay)])
        self.turns.at(self.turns.now + later, lambda: self.world.deliver(request, kernel.name))

    def _fault(self, kernel: Kernel, request: Request) -> Fault | None:
        if self.dice.random() >= kernel.fault_rate:
            return None
        self.faults += 1
        kernel.fault_rate *= 0.95  # even the worst network lets somebody through in the end
        if request.url.path.endswith("/results"):
            return fault_of_results(self.dice)
        if _is_create(request):
            return fault_of_create(self.dice)
        return any_fault(self.dice)


def _is_create(request: Request) -> bool:
    return request.method == "POST" and request.url.path.endswith("/batches")
