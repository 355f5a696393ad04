"""The emulator as a WSGI application: what every call has in common, and which endpoint it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from threading import RLock
from typing import TYPE_CHECKING, Literal

from werkzeug.exceptions import HTTPException
from werkzeug.http import http_date
from werkzeug.routing import Map
from werkzeug.routing import Rule as Route
from werkzeug.wrappers import Request, Response

from claude_batch_pandas.emulator.batch_endpoints import BatchEndpoints
from claude_batch_pandas.emulator.batches import SimulatedBatch
from claude_batch_pandas.emulator.caches import PromptCache
from claude_batch_pandas.emulator.connections import CLOSE_DELIMITED
from claude_batch_pandas.emulator.errors import RefusedError
from claude_batch_pandas.emulator.faults import Call, Fault, FaultScript
from claude_batch_pandas.emulator.file_endpoints import FileEndpoints
from claude_batch_pandas.emulator.files import FileStore
from claude_batch_pandas.emulator.folder import StateFolder
from claude_batch_pandas.emulator.limits import NO_TIER, Queue, Throttle, tier_of
from claude_batch_pandas.emulator.message_endpoints import MessageEndpoints
from claude_batch_pandas.emulator.model_endpoints import list_models, retrieve_model
from claude_batch_pandas.emulator.options import Options
from claude_batch_pandas.emulator.rules import Rule
from claude_batch_pandas.emulator.wire import (
    REQUEST_PREFIX,
    Visit,
    check_key,
    digest,
    key_of,
    read_body,
    refusal,
)

if TYPE_CHECKING:
    import httpx2
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_BATCHES = "/v1/messages/batches"
_WORKSPACE = "wrkspc_simulated"
_ROUTES = Map(
    [
        Route(_BATCHES, endpoint="create", methods=["POST"]),
        Route(_BATCHES, endpoint="list", methods=["GET"]),
        Route(f"{_BATCHES}/<batch_id>", endpoint="retrieve", methods=["GET"]),
        Route(f"{_BATCHES}/<batch_id>", endpoint="delete", methods=["DELETE"]),
        Route(f"{_BATCHES}/<batch_id>/cancel", endpoint="cancel", methods=["POST"]),
        Route(f"{_BATCHES}/<batch_id>/results", endpoint="results", methods=["GET"]),
        Route("/v1/files", endpoint="upload", methods=["POST"]),
        Route("/v1/files", endpoint="files", methods=["GET"]),
        Route("/v1/files/<file_id>", endpoint="file", methods=["GET"]),
        Route("/v1/files/<file_id>", endpoint="delete_file", methods=["DELETE"]),
        Route("/v1/files/<file_id>/content", endpoint="file_content", methods=["GET"]),
        Route("/v1/messages", endpoint="message", methods=["POST"]),
        Route("/v1/messages/count_tokens", endpoint="count_tokens", methods=["POST"]),
        Route("/v1/models", endpoint="models", methods=["GET"]),
        Route("/v1/models/<model_id>", endpoint="model", methods=["GET"]),
    ],
    strict_slashes=False,
)


class Emulator:
    """A Message Batches API in memory, as a WSGI application.

    Beside the batches it answers `/v1/messages`, `/v1/messages/count_tokens`, `/v1/models` and
    `/v1/files`.

    Parameters
    ----------
    rules : sequence of Rule
        What becomes of requests; the first rule that matches wins.
    faults : sequence of Fault
        What goes wrong with HTTP calls; the first that matches acts.
    clock : callable
        Returns the time in seconds since 1970, such as a `SimulatedClock`.
    speed : float
        How many times faster than a plausible service; at 1 a batch ends in a few seconds.
    seed : int
        Changes ids, the order in which answers come, and which requests miss the cache. With the
        same clock and seed, the same calls get the same answers.
    moving_counts : bool
        Let `request_counts` move while a batch runs. The API's do not.
    max_queue : int, None or "tier"
        Requests that may be processing at once, over all batches; more is a 429. ``"tier"`` is the
        tier's number, 200,000 without a tier; None is no limit.
    list_lag : float
        Seconds until a created batch shows up in the list.
    duration : float, optional
        Seconds until a batch ends, whatever its size; 0 ends it when it is first looked at.
    organization : str
        The organization the response headers name.
    workspaces : mapping of str to str, optional
        From API keys to workspaces; other keys share one.
    tier : str, optional
        ``"start"``, ``"build"`` or ``"scale"``: its calls per minute over all batch endpoints, and
        its queue. Without one calls are not counted.
    permissive_ids : bool
        Answer for batches that were never created as if they had ended, for test suites that make
        ids up.
    state : path, optional
        A folder in which batches outlive the process; what was acknowledged is on the disk. Files
        stay in memory.
    prefix : str
        Answer below this path only, as a relay does, such as ``"/relay"``. A `results_url` then
        names the same host without the prefix, as a relay passes it on from the API.

    Attributes
    ----------
    rules : tuple of Rule
        May be changed; batches that exist keep theirs.
    faults : tuple of Fault
        May be changed; what the new ones have met is counted from then on.
    batches : list of SimulatedBatch
        Every batch ever created, oldest first, deleted ones included.
    files : list of StoredFile
        Every file ever uploaded, likewise.
    calls : list of Call
        Every HTTP call, in order.
    prefix : str
        As it was passed.

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
        max_queue: int | Literal["tier"] | None = "tier",
        list_lag: float = 0.0,
        duration: float | None = None,
        organization: str = "org_simulated",
        workspaces: Mapping[str, str] | None = None,
        tier: str | None = None,
        permissive_ids: bool = False,
        state: str | PathLike[str] | None = None,
        prefix: str = "",
    ) -> None:
        options = Options(
            clock=clock,
            speed=speed,
            seed=seed,
            moving_counts=moving_counts,
            list_lag=list_lag,
            duration=duration,
            permissive_ids=permissive_ids,
            prefix=prefix,
        )
        limits = NO_TIER if tier is None else tier_of(tier)
        queue = limits.queued_requests if max_queue == "tier" else max_queue
        cache = PromptCache()
        files = FileStore(clock)
        batches = BatchEndpoints(
            options,
            cache,
            Throttle(limits.requests_per_minute),
            Queue(queue),
            files,
            None if state is None else StateFolder(state),
        )
        self.batches = batches.batches
        self.files = files.files
        self.calls: list[Call] = []
        self.rules = tuple(rules)
        self.prefix = prefix
        self._batches = batches
        self._endpoints = _endpoints(
            batches, MessageEndpoints(clock, cache, files), FileEndpoints(options, files)
        )
        self._script = FaultScript(faults)
        self._options = options
        self._organization = organization
        self._workspaces = dict(workspaces or {})
        self._requests = 0
        self._started = clock()
        self._lock = RLock()

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What goes wrong with HTTP calls from now on."""
        return self._script.faults

    @faults.setter
    def faults(self, faults: Sequence[Fault]) -> None:
        with self._lock:
            self._script = FaultScript(faults)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one HTTP call."""
        fault = self._strike(environ["REQUEST_METHOD"], environ.get("PATH_INFO", ""))
        return self._answer(fault, environ, start_response)

    def transport(self) -> httpx2.WSGITransport:
        """Return a transport for `httpx2.Client` that reaches this emulator without a network."""
        from claude_batch_pandas.emulator.transports import EmulatorTransport

        return EmulatorTransport(self._strike, self._answer)

    def add_decoy(self, total: int, *, duration: float | None = None) -> SimulatedBatch:
        """Create a batch as somebody else in the workspace would; a `state` does not keep it.

        Parameters
        ----------
        total : int
            Its number of requests.
        duration : float, optional
            Seconds until it ends; 0 ends it when it is first looked at. Default: as for others.
        """
        return self._batches.add_decoy(total, _WORKSPACE, duration)

    def _strike(self, method: str, path: str) -> Fault | None:
        """Return the fault that strikes a call, and count it."""
        is_below = self.prefix and path.startswith(f"{self.prefix}/")
        with self._lock:
            return self._script.next(method, path.removeprefix(self.prefix) if is_below else path)

    def _answer(
        self, fault: Fault | None, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer one HTTP call that a fault may have struck."""
        request = Request(_below(self.prefix, environ))
        if fault is not None and fault.upload is not None:
            # More than was announced would be waited for.
            environ["wsgi.input"].read(min(fault.upload, request.content_length or 0))
            body = None
        else:
            # Read first, whatever comes of it: an unread body would break the connection.
            body = read_body(request)
        with self._lock:
            self._requests += 1
            name = digest(self._options.seed, self._started, self._requests)
            request_id = f"{REQUEST_PREFIX}{name}"
        status = 0
        try:
            response = self._respond(request, body, fault, request_id)
            status = response.status_code
        finally:
            with self._lock:
                self.calls.append(Call(request.method, request.path, status))
        if fault is not None and fault.framing == "close" and CLOSE_DELIMITED in environ:
            environ[CLOSE_DELIMITED]()
        return response(environ, start_response)

    def _respond(
        self, request: Request, body: bytes | None, fault: Fault | None, request_id: str
    ) -> Response:
        response = None
        if fault is None or fault.after or not fault.replaces:
            response = self._work(request, body, request_id)
        if fault is not None and fault.meanwhile is not None:
            fault.meanwhile(self)
        if fault is not None and fault.replaces:
            response = fault.answer(request_id)
        elif fault is not None and response is not None:
            response = fault.change(response)
        assert response is not None
        named = {
            "request-id": request_id,
            "anthropic-organization-id": self._organization,
            "anthropic-workspace-id": self._workspace(request),
            "date": http_date(self._options.clock()),
            "x-simulated": "claude_batch_pandas emulator",
        }
        for name, value in named.items():
            response.headers.setdefault(name, value)
        return response

    def _work(self, request: Request, body: bytes | None, request_id: str) -> Response:
        """Answer as the API would."""
        try:
            check_key(request)
            _check_place(request, self.prefix)
            endpoint, path = _ROUTES.bind_to_environ(request.environ).match()
            visit = Visit(request, body, request_id, self._workspace(request), self.rules, path)
            return self._endpoints[endpoint](visit)
        except RefusedError as error:
            return refusal(error, request_id)
        except HTTPException as error:
            return refusal(RefusedError(error.code or 500, error.name), request_id)
        except OSError as error:
            # Nothing was acknowledged, and what was written before is whole.
            problem = f"The emulator cannot write its state folder: {error.strerror or error}"
            return refusal(RefusedError(500, problem), request_id)

    def _workspace(self, request: Request) -> str:
        return self._workspaces.get(key_of(request), _WORKSPACE)


def _endpoints(
    batches: BatchEndpoints, messages: MessageEndpoints, files: FileEndpoints
) -> dict[str, Callable[[Visit], Response]]:
    """Return what answers each route."""
    return {
        "create": batches.create,
        "list": batches.list,
        "retrieve": batches.retrieve,
        "delete": batches.delete,
        "cancel": batches.cancel,
        "results": batches.results,
        "upload": files.upload,
        "files": files.list,
        "file": files.retrieve,
        "delete_file": files.delete,
        "file_content": files.content,
        "message": messages.create,
        "count_tokens": messages.count,
        "models": list_models,
        "model": retrieve_model,
    }


def _check_place(request: Request, prefix: str) -> None:
    """Refuse a call that went past the relay."""
    if not request.root_path.endswith(prefix):
        raise RefusedError(404, f"This emulator answers below {prefix} only.")


def _below(prefix: str, environ: WSGIEnvironment) -> WSGIEnvironment:
    """Return the environment as it is below a prefix; unchanged outside of it."""
    path = environ.get("PATH_INFO", "")
    if not prefix or not path.startswith(f"{prefix}/"):
        return environ
    return {
        **environ,
        "SCRIPT_NAME": environ.get("SCRIPT_NAME", "") + prefix,
        "PATH_INFO": path.removeprefix(prefix),
    }
