"""The HTTP face of the emulator: routes, pages, statuses and headers of the Message Batches API."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from threading import RLock
from typing import TYPE_CHECKING, Any

import orjson
from werkzeug.exceptions import HTTPException
from werkzeug.http import http_date
from werkzeug.routing import Map
from werkzeug.routing import Rule as Route
from werkzeug.wrappers import Request, Response

from claude_batch_pandas.emulator.batches import BLOCK, PREFIX, SimulatedBatch
from claude_batch_pandas.emulator.checks import MAX_BYTES, read_batch
from claude_batch_pandas.emulator.errors import RefusedError, envelope, type_of
from claude_batch_pandas.emulator.faults import Call, Fault, FaultScript
from claude_batch_pandas.emulator.rules import Rule, plan
from claude_batch_pandas.exceptions import InputError

if TYPE_CHECKING:
    import httpx2
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_BATCHES = "/v1/messages/batches"
_ROUTES = Map(
    [
        Route(_BATCHES, endpoint="create", methods=["POST"]),
        Route(_BATCHES, endpoint="list", methods=["GET"]),
        Route(f"{_BATCHES}/<batch_id>", endpoint="retrieve", methods=["GET"]),
        Route(f"{_BATCHES}/<batch_id>", endpoint="delete", methods=["DELETE"]),
        Route(f"{_BATCHES}/<batch_id>/cancel", endpoint="cancel", methods=["POST"]),
        Route(f"{_BATCHES}/<batch_id>/results", endpoint="results", methods=["GET"]),
    ],
    strict_slashes=False,
)
_BAD_KEY = "bad-key"
_MAX_LIMIT = 1_000
_DEFAULT_LIMIT = 20
_PIECE = 1 << 20
_BASE_SECONDS = 2.0
_REQUESTS_PER_SECOND = 25_000
_CANCEL_SECONDS = 1.0


class Emulator:
    """A Message Batches API in memory, as a WSGI application.

    Parameters
    ----------
    rules : sequence of Rule
        What becomes of requests; the first rule that matches wins.
    faults : sequence of Fault
        What goes wrong with HTTP calls.
    clock : callable
        Returns the time in seconds since 1970.
    speed : float
        How many times faster than a plausible service; at 1 a batch ends in a few seconds.
    seed : int
        Changes the order in which answers come.
    moving_counts : bool
        Let `request_counts` move while a batch runs. The API's do not.
    max_queue : int or None
        Requests that may be processing at once, over all batches; more is a 429.
    duration : float, optional
        Seconds until a batch ends, whatever its size; 0 ends it when it is first looked at.
    organization : str
        The organization the response headers name.
    workspaces : mapping of str to str, optional
        From API keys to workspaces; other keys share one.

    Attributes
    ----------
    rules : tuple of Rule
        May be changed; batches that exist keep theirs.
    batches : list of SimulatedBatch
        Every batch ever created, oldest first, deleted ones included.
    calls : list of Call
        Every HTTP call, in order.

    Notes
    -----
    Where the API's behaviour is not documented, this one answers 404 to results that are not there
    yet or not any more, and 400 to a list cursor that names no batch of the workspace, to both
    cursors at once, and to canceling a batch that has ended.

    Examples
    --------
    >>> import anthropic, httpx2
    >>> emulator = Emulator(rules=[Rule(outcome="refusal", contains="secret")], duration=0)
    >>> web = httpx2.Client(transport=emulator.transport())
    >>> client = anthropic.Anthropic(api_key="none", http_client=web)
    >>> client.messages.batches.list().data
    []
    """

    def __init__(  # noqa: PLR0913 - each is a keyword of its own
        self,
        *,
        rules: Sequence[Rule] = (),
        faults: Sequence[Fault] = (),
        clock: Callable[[], float] = time.time,
        speed: float = 1.0,
        seed: int = 0,
        moving_counts: bool = False,
        max_queue: int | None = 200_000,
        duration: float | None = None,
        organization: str = "org_simulated",
        workspaces: Mapping[str, str] | None = None,
    ) -> None:
        if not speed > 0 or math.isinf(speed):
            message = f"speed={speed} does not move. Pass a number above 0, such as 1000."
            raise InputError(message)
        if duration is not None and not duration >= 0:
            message = f"duration={duration} is in the past. Pass 0 or more seconds."
            raise InputError(message)
        self.batches: list[SimulatedBatch] = []
        self.calls: list[Call] = []
        self.rules = tuple(rules)
        self._faults = FaultScript(faults)
        self._clock = clock
        self._speed = speed
        self._seed = seed
        self._moving_counts = moving_counts
        self._max_queue = max_queue
        self._duration = duration
        self._organization = organization
        self._workspaces = dict(workspaces or {})
        self._requests = 0
        self._lock = RLock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one HTTP call."""
        request = Request(environ)
        # Read first, whatever comes of it: an unread body would break the connection.
        body = _read(request)
        with self._lock:
            self._requests += 1
            request_id = f"req_sim_{_digest(self._seed, self._requests)}"
            fault = self._faults.next(request.method, request.path)
        status = 0
        try:
            response = self._respond(request, body, fault, request_id)
            status = response.status_code
        finally:
            with self._lock:
                self.calls.append(Call(request.method, request.path, status))
        return response(environ, start_response)

    def transport(self) -> httpx2.WSGITransport:
        """Return a transport for `httpx2.Client` that reaches this emulator without a network."""
        import httpx2

        return httpx2.WSGITransport(app=self)

    def _respond(
        self, request: Request, body: bytes | None, fault: Fault | None, request_id: str
    ) -> Response:
        response = None
        if fault is None or fault.after or not fault.replaces:
            response = self._work(request, body, request_id)
        if fault is not None and fault.replaces:
            response = fault.answer(request_id)
        elif fault is not None and response is not None:
            response = fault.change(response)
        assert response is not None
        named = {
            "request-id": request_id,
            "anthropic-organization-id": self._organization,
            "anthropic-workspace-id": self._workspace(request),
            "date": http_date(self._clock()),
            "x-simulated": "claude_batch_pandas emulator",
        }
        for name, value in named.items():
            response.headers.setdefault(name, value)
        return response

    def _work(self, request: Request, body: bytes | None, request_id: str) -> Response:
        """Answer as the API would."""
        try:
            _check_key(request)
            endpoint, values = _ROUTES.bind_to_environ(request.environ).match()
            if endpoint == "create":
                return _json(self._create(request, body))
            with self._lock:
                if endpoint == "list":
                    return _json(self._list(request))
                batch = self._find(values["batch_id"], request)
                if endpoint == "results":
                    return self._results(batch)
                answer = {
                    "retrieve": self._retrieve,
                    "cancel": self._cancel,
                    "delete": self._delete,
                }[endpoint]
                return _json(answer(batch, request))
        except RefusedError as error:
            return _refusal(error.status, error.message, request_id)
        except HTTPException as error:
            return _refusal(error.code or 500, error.name, request_id)

    def _create(self, request: Request, body: bytes | None) -> dict[str, Any]:
        frames = read_batch(body)
        planned = plan(self.rules, frames)
        total = len(frames)
        duration = self._duration
        if duration is None:
            duration = (_BASE_SECONDS + total / _REQUESTS_PER_SECOND) / self._speed
        betas = request.headers.get("anthropic-beta", "")
        with self._lock:
            now = self._clock()
            self._check_queue(total, now)
            digest = _digest(self._seed, len(self.batches), now)
            batch = SimulatedBatch(
                id=f"{PREFIX}{digest}",
                frames=frames,
                planned=planned,
                created_at=now,
                duration=duration,
                workspace=self._workspace(request),
                betas=tuple(name.strip() for name in betas.split(",") if name.strip()),
                seed=self._seed,
                moving_counts=self._moving_counts,
            )
            self.batches.append(batch)
            return batch.describe(now, request.host_url, status="in_progress")

    def _check_queue(self, total: int, now: float) -> None:
        if self._max_queue is None:
            return
        queued = sum(batch.total for batch in self.batches if not batch.has_ended(now))
        if queued + total > self._max_queue:
            raise RefusedError(
                429,
                f"This batch of {total} requests would exceed your organization's limit of "
                f"{self._max_queue} requests in the processing queue, which holds {queued}.",
            )

    def _list(self, request: Request) -> dict[str, Any]:
        limit = _limit(request.args.get("limit"))
        visible = [batch for batch in reversed(self.batches) if self._sees(request, batch)]
        after, before = request.args.get("after_id"), request.args.get("before_id")
        if after and before:
            raise RefusedError(400, "after_id and before_id cannot be used together")
        if before:
            # The page next to the cursor, on its newer side, and still newest first.
            end = _position(visible, before, "before_id")
            page, more = visible[max(0, end - limit) : end], end > limit
        else:
            start = _position(visible, after, "after_id") + 1 if after else 0
            page, more = visible[start : start + limit], start + limit < len(visible)
        return {
            "data": [self._retrieve(batch, request) for batch in page],
            "has_more": more,
            "first_id": page[0].id if page else None,
            "last_id": page[-1].id if page else None,
        }

    def _retrieve(self, batch: SimulatedBatch, request: Request) -> dict[str, Any]:
        batch.look()
        return batch.describe(self._clock(), request.host_url)

    def _cancel(self, batch: SimulatedBatch, request: Request) -> dict[str, Any]:
        now = self._clock()
        settle = 0.0 if self._duration == 0 else _CANCEL_SECONDS / self._speed
        if not batch.cancel(now, settle):
            raise RefusedError(400, f"Batch {batch.id} has ended; it cannot be canceled any more.")
        return batch.describe(now, request.host_url, status="canceling")

    def _delete(
        self,
        batch: SimulatedBatch,
        request: Request,  # noqa: ARG002 - called as `_retrieve` and `_cancel` are
    ) -> dict[str, Any]:
        batch.look()
        if not batch.has_ended(self._clock()):
            raise RefusedError(
                400, f"Batch {batch.id} is still processing. Cancel it, or wait until it has ended."
            )
        batch.deleted = True
        return {"id": batch.id, "type": "message_batch_deleted"}

    def _results(self, batch: SimulatedBatch) -> Response:
        batch.look()
        now = self._clock()
        if not batch.has_ended(now):
            raise RefusedError(404, f"Batch {batch.id} has no results yet; it is still processing.")
        if batch.is_archived(now):
            raise RefusedError(404, f"The results of batch {batch.id} are archived.")
        blocks = batch.blocks()
        # A small file goes out whole, with its length; a large one is written as it is read.
        whole = batch.total <= BLOCK
        return Response(b"".join(blocks) if whole else blocks, content_type="application/x-jsonl")

    def _workspace(self, request: Request) -> str:
        return self._workspaces.get(_key(request), "wrkspc_simulated")

    def _sees(self, request: Request, batch: SimulatedBatch) -> bool:
        return not batch.deleted and batch.workspace == self._workspace(request)

    def _find(self, batch_id: str, request: Request) -> SimulatedBatch:
        for batch in self.batches:
            if batch.id == batch_id and self._sees(request, batch):
                return batch
        raise RefusedError(404, f"Batch {batch_id} not found.")


def _read(request: Request) -> bytes | None:
    """Return the body; None for one that is too large to be kept."""
    length = request.content_length
    if length is None:
        return request.get_data(cache=False)
    source = request.environ["wsgi.input"]
    if length <= MAX_BYTES:
        # At once: Werkzeug's own stream gathers a large body in small pieces.
        body: bytes = source.read(length)
        return body
    while length > 0 and (piece := source.read(min(_PIECE, length))):
        length -= len(piece)
    return None


def _key(request: Request) -> str:
    """Return the API key, however it was sent; a loopback emulator needs none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return request.headers.get("x-api-key", "")


def _check_key(request: Request) -> None:
    """Refuse the one key that is there to be refused."""
    if _key(request) == _BAD_KEY:
        raise RefusedError(401, "invalid x-api-key")


def _digest(*parts: object) -> str:
    return blake2b("/".join(map(str, parts)).encode(), digest_size=12).hexdigest()


def _json(value: dict[str, Any]) -> Response:
    return Response(orjson.dumps(value), content_type="application/json")


def _refusal(status: int, message: str, request_id: str) -> Response:
    body = envelope(type_of(status), message, request_id)
    return Response(body, status=status, content_type="application/json")


def _limit(text: str | None) -> int:
    if text is None:
        return _DEFAULT_LIMIT
    try:
        limit = int(text)
    except ValueError:
        raise RefusedError(400, f"limit: Input should be a valid integer, not {text!r}") from None
    if not 1 <= limit <= _MAX_LIMIT:
        raise RefusedError(400, f"limit: Input should be between 1 and {_MAX_LIMIT}, not {limit}")
    return limit


def _position(batches: list[SimulatedBatch], batch_id: str, name: str) -> int:
    for position, batch in enumerate(batches):
        if batch.id == batch_id:
            return position
    raise RefusedError(400, f"{name}: no batch {batch_id!r}")
