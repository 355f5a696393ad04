"""A server that costs nearly nothing, in a process of its own: sockets, threads, ready bytes.

It knows four calls (create, look, list, fetch) and parses of a request no more than its custom_ids.
``python -m tests.benchmarks.server`` prints its address and serves until its input ends.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import socket
import sys
import threading
from collections.abc import Sequence
from typing import Any

IDS = re.compile(rb'"custom_id":\s*"([^"]+)"')
BLOCK = 1 << 20
SPARE = 15 / 1000  # of the requests are refused: nobody asks those again
SENTENCE = "the customer asks about a card that was declined abroad and wants it sent again "
TEXT = (4 * SENTENCE)[:260]  # about 60 tokens
HEAD = b'{"custom_id":"'
ANSWER = (
    b'","result":{"type":"succeeded","message":{"id":"msg_01%020d","type":"message","role":'
    b'"assistant","model":"claude-haiku-5-5","content":[{"type":"text","text":"%d '
    + TEXT.encode()
    + b'"}],"stop_reason":"end_turn","stop_sequence":null,"stop_details":null,"usage":{'
    b'"input_tokens":187,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,'
    b'"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},'
    b'"output_tokens":62,"output_tokens_details":{"thinking_tokens":0},"server_tool_use":null,'
    b'"service_tier":"batch","inference_geo":"global","speed":"standard"}}}}\n'
)
ERRORED = (
    b'","result":{"type":"errored","error":{"type":"error","error":{"type":'
    b'"invalid_request_error","message":"prompt is too long"},"request_id":null}}}\n'
)


class Batch:
    """One batch, and its results as bytes."""

    def __init__(self, number: int, ids: Sequence[bytes], answer: bytes) -> None:
        self.id = f"msgbatch_{number:024d}"
        dice = random.Random(number)  # noqa: S311 - an order, no secret
        lines = []
        self.counts = {"processing": 0, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
        for i, name in enumerate(ids):
            is_good = dice.random() >= SPARE
            lines.append(HEAD + name + (answer % (i, i) if is_good else ERRORED))
            self.counts["succeeded" if is_good else "errored"] += 1
        dice.shuffle(lines)
        self.results = b"".join(lines)

    def told(self, address: str) -> dict[str, Any]:
        """Return what the API tells of it."""
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": "ended",
            "request_counts": self.counts,
            "created_at": "2026-11-20T10:00:00Z",
            "ended_at": "2026-11-20T10:01:00Z",
            "expires_at": "2026-11-21T10:00:00Z",
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": f"{address}/v1/messages/batches/{self.id}/results",
        }


class Server:
    """Serves one port of this machine."""

    def __init__(self, answer: bytes = ANSWER) -> None:
        self._answer = answer
        self._batches: dict[str, Batch] = {}
        self._numbers = itertools.count(1)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def run(self) -> None:
        """Answer every connection in a thread of its own."""
        while True:
            connection, _ = self._socket.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb", BLOCK) as file:
            while line := file.readline():
                method, path, _ = line.decode().split()
                length = 0
                while (header := file.readline()) not in {b"\r\n", b""}:
                    name, _, value = header.partition(b":")
                    if name.lower() == b"content-length":
                        length = int(value)
                body = file.read(length)
                connection.sendall(self._reply(method, path.partition("?")[0], body))

    def _reply(self, method: str, path: str, body: bytes) -> bytes:
        batch = self._batches.get(path.removesuffix("/results").rpartition("/")[2])
        if method == "POST":
            batch = Batch(next(self._numbers), IDS.findall(body), self._answer)
            self._batches[batch.id] = batch
        elif batch is not None and path.endswith("/results"):
            # Whoever fetched it fetches it no more; a million answers are a gigabyte.
            content, batch.results = batch.results, b""
            return _head(len(content), b"200 OK", b"application/binary") + content
        elif path.endswith("/batches"):
            newest = [one.told(self.address) for one in reversed(self._batches.values())][:1]
            first = newest[0]["id"] if newest else None
            page = {"data": newest, "has_more": False, "first_id": first, "last_id": first}
            return _json(page)
        if batch is None:
            error = {"type": "not_found_error", "message": f"There is nothing at {path}."}
            return _json({"type": "error", "error": error}, b"404 Not Found")
        return _json(batch.told(self.address))


def _json(value: Any, status: bytes = b"200 OK") -> bytes:
    data = json.dumps(value).encode()
    return _head(len(data), status, b"application/json") + data


def _head(length: int, status: bytes, kind: bytes) -> bytes:
    return (
        b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n"
        b"anthropic-organization-id: 00000000-0000-0000-0000-000000000001\r\n"
        b"request-id: req_011CSHoEeqs5C35K2UUqR7Fy\r\nDate: Fri, 20 Nov 2026 10:00:00 GMT\r\n\r\n"
    ) % (status, kind, length)


def main() -> None:
    """Serve until standard input ends."""
    server = Server()
    threading.Thread(target=server.run, daemon=True).start()
    print(server.address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
