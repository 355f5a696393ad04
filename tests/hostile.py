"""A small server on this machine that answers as it is told, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Asked(NamedTuple):
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    """What the server says; a body of several blocks has no length and ends with the connection."""

    status: int = 200
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed
    body: bytes | Iterable[bytes] = b""


Behaviour = Callable[[Asked], Answer]


class Hostile(ThreadingHTTPServer):
    """The server.

    Attributes
    ----------
    asked : list of Asked
    url : str
    """

    daemon_threads = True

    def __init__(self, behave: Behaviour) -> None:
        self.behave = behave
        self.asked: list[Asked] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing about clients that have heard enough."""


class _Handler(BaseHTTPRequestHandler):
    server: Hostile

    def _answer(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, self.path, headers, self.rfile.read(length))
        self.server.asked.append(asked)
        answer = self.server.behave(asked)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        is_whole = isinstance(answer.body, bytes)
        if isinstance(answer.body, bytes):
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        for block in [answer.body] if is_whole else answer.body:
            self.wfile.write(block)  # type: ignore[arg-type]
        self.close_connection = True

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - the names it is called by

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its own name
        """Say nothing."""


@contextlib.contextmanager
def hostile(behave: Behaviour) -> Iterator[Hostile]:
    """Serve until the block ends."""
    with Hostile(behave) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


def answer_json(value: Any, status: int = 200, **headers: str) -> Answer:
    """Return an answer as the API gives it."""
    told = {"Content-Type": "application/json", **headers}
    return Answer(status, told, json.dumps(value).encode())


def error_json(status: int, kind: str, message: str) -> Answer:
    """Return an error as the API gives it."""
    return answer_json({"type": "error", "error": {"type": kind, "message": message}}, status)


def batch_json(**values: Any) -> dict[str, Any]:
    """Return a batch of two requests that has ended."""
    counts = {"processing": 0, "succeeded": 2, "errored": 0, "canceled": 0, "expired": 0}
    return {
        "id": "msgbatch_1",
        "type": "message_batch",
        "processing_status": "ended",
        "request_counts": counts,
        "created_at": "2026-11-20T10:00:00Z",
        "expires_at": "2026-11-21T10:00:00Z",
        "ended_at": "2026-11-20T11:00:00Z",
        "archived_at": None,
        "cancel_initiated_at": None,
        "results_url": None,
        **values,
    }
