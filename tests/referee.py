"""Writes real traffic for a judge: ``python tests/referee.py FOLDER``.

A frame with every kind of outcome goes through ``df.claude.batch`` and an emulator. Written are the
bodies as our encoder wrote them (``body-*.json``), the requests as the emulator decoded them
(``received-*.json``), batch objects in every state (``batches.jsonl``) and result lines
(``results.jsonl``).
"""

from __future__ import annotations

import base64
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pandas as pd

import claude_batch_pandas as cbp
from claude_batch_pandas.emulator import Emulator, Rule

# "unknown_type" and flat errors are left out: they imitate answers that the API does not document.
OUTCOMES = (
    "succeeded",
    "errored",
    "expired",
    "canceled",
    "refusal",
    "max_tokens",
    "pause_turn",
    "tool_use",
    "context_window",
    "empty",
)
ERRORS = ("invalid_request_error", "overloaded_error", "api_error", "billing_error")
BATCHES = "/v1/messages/batches"
RULES = "These are the rules. " * 400
PDF = b"%PDF-1.4\n1 0 obj<</Type /Page>>endobj\ntrailer<<>>\n%%EOF"
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
)
DAY = 86_400.0

# The judge's schema is older than this stop reason, and what it says of a line that has it does not
# tell it from any other fault. With the nearest known name in its place, the rest is judged.
NEWER = (b'"stop_reason":"model_context_window_exceeded"', b'"stop_reason":"max_tokens"')


class Clock:
    """The emulator's time, moved by hand so that a batch can be seen in every state."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        """Return the seconds since 1970."""
        return self.now


def rules() -> list[Rule]:
    """Return a rule for each outcome and each error type."""
    return [
        *(Rule(outcome="errored", error_type=name, contains=f"<{name}>") for name in ERRORS),
        *(Rule(outcome=name, contains=f"<{name}>") for name in OUTCOMES),
    ]


def frame() -> pd.DataFrame:
    """Return texts that meet those rules, and some that are hard to encode."""
    texts = [f"row of kind <{name}>" for name in (*OUTCOMES, *ERRORS)]
    hard = [
        "Zürich, 東京, 🙂",
        'quotes " and \\ and {braces}',
        "tab\tnew\nline\r\u2028",
        "x" * 20_000,
    ]
    cycle = ["claude-haiku-5-5", "claude-opus-5-5"]
    rows = len(texts + hard)
    return pd.DataFrame(
        {
            "text": texts + hard,
            "tone": "kind",
            "photo": [PIXEL] * rows,
            "page": [PDF, b"A page of text.", "https://example.com/a.pdf"] * (rows // 3)
            + [PDF] * (rows % 3),
            "model": (cycle * rows)[:rows],
            "limit": range(100, 100 + rows),
            "said": [[{"role": "user", "content": text}] for text in texts + hard],
        }
    )


def calls() -> Iterator[dict[str, Any]]:
    """Yield calls that use every shape of request."""
    schema = {
        "type": "object",
        "properties": {"tone": {"type": "string", "enum": ["kind", "rude"]}},
        "required": ["tone"],
        "additionalProperties": False,
    }
    tool = {"name": "note", "description": "Take a note.", "input_schema": schema}
    cached = {"type": "text", "text": "Be {tone}.", "cache_control": {"type": "ephemeral"}}
    turns = [
        {"role": "user", "content": "Be {tone}."},
        {"role": "assistant", "content": "I will."},
        {"role": "user", "content": [{"type": "text", "text": "{text}"}]},
    ]
    shots = pd.DataFrame({"text": ["a", "b"], "tone": "rude", "shown": ["A", "B"]})
    yield {"template": ["{text}", cbp.image("photo"), "What is it?"], "output": "seen"}
    yield {"template": [cbp.document("page"), "{text}"], "output": "read"}
    yield {"template": [cbp.document("page"), "{text}"], "output": "sent", "upload": True}
    yield {"template": "{text} {tone}", "output": "shown", "examples": shots}
    yield {"template": cbp.col("said"), "output": "column", "system": "Be brief."}
    by_row = {"model": cbp.col("model"), "max_tokens": cbp.col("limit")}
    yield {"template": "{text}", "output": "by_row", "effort": "low", **by_row}
    yield {"template": "{text}", "output": "voted", "votes": 2, "schema": list[str]}
    yield {"template": "{text}", "output": "warmed", "system": RULES, "cache": True, "warm": True}
    yield {"template": "{text}", "output": "called", "tools": [tool]}
    yield {"template": "{text}", "output": "plain"}
    yield {"template": "{text}", "output": "labelled", "system": "Choose.\nlabels: a, b"}
    yield {"template": turns, "output": "turns", "system": [cached], "shard_size": 5}
    for output, params in {
        "thought": {"thinking": {"type": "adaptive"}},
        "typed": {"output_config": {"format": {"type": "json_schema", "schema": schema}}},
        "tool": {"tools": [tool], "tool_choice": {"type": "tool", "name": "note"}},
        "stopped": {"stop_sequences": ["kind"], "metadata": {"user_id": "u-1"}},
    }.items():
        yield {"template": "{text}", "output": output, "params": params}


def send(emulator: Emulator, home: Path) -> None:
    """Send every call; the ledger keeps the bodies."""
    os.environ["CLAUDE_BATCH_HOME"] = str(home)
    transport = emulator.transport()
    with httpx2.Client(transport=transport) as http:
        client = anthropic.Anthropic(api_key="none", base_url="http://127.0.0.1", http_client=http)
        for call in calls():
            frame().claude.batch(**call, client=client, progress="none")


def watch(emulator: Emulator, clock: Clock) -> list[Any]:
    """Return batch objects in every state; one batch expires half way, one is canceled."""
    with httpx2.Client(transport=emulator.transport(), base_url="http://127.0.0.1") as http:
        expiring, canceled = (create(http, prefix) for prefix in ("expiring", "canceled"))
        paths = [f"{BATCHES}/{batch['id']}" for batch in (expiring, canceled)]
        seen = [expiring, *(http.get(path).json() for path in paths)]  # in_progress
        clock.now += DAY / 2
        seen += [http.post(f"{paths[1]}/cancel").json(), http.get(paths[1]).json()]  # canceling
        clock.now += DAY / 2
        seen += [http.get(path).json() for path in paths]  # ended
        return seen


def list_archived(emulator: Emulator, clock: Clock) -> list[Any]:
    """Return the same batches a month later."""
    clock.now += 30 * DAY
    with httpx2.Client(transport=emulator.transport(), base_url="http://127.0.0.1") as http:
        found: list[Any] = http.get(BATCHES).raise_for_status().json()["data"]
        return found


def create(http: httpx2.Client, prefix: str) -> Any:
    """Create a batch of four requests and return it."""
    params = {
        "model": "claude-haiku-5-5",
        "max_tokens": 99,
        "messages": [{"role": "user", "content": "x"}],
    }
    requests = [{"custom_id": f"{prefix}-{i}", "params": params} for i in range(4)]
    return http.post(BATCHES, json={"requests": requests}).raise_for_status().json()


def download(emulator: Emulator) -> bytes:
    """Return the result lines of every batch so far."""
    with httpx2.Client(transport=emulator.transport(), base_url="http://127.0.0.1") as http:
        return b"".join(
            http.get(f"{BATCHES}/{batch.id}/results").raise_for_status().content
            for batch in emulator.batches
        )


def main(folder: Path) -> None:
    """Write the files."""
    emulator = Emulator(rules=rules(), duration=0)
    cbp.options.poll_seconds = (0.01, 0.1)
    with tempfile.TemporaryDirectory() as home:
        send(emulator, Path(home))
        for i, body in enumerate(sorted(Path(home).rglob("*.requests.json"))):
            (folder / f"body-{i}.json").write_bytes(body.read_bytes())
    for i, batch in enumerate(emulator.batches):
        (folder / f"received-{i}.json").write_text(json.dumps({"requests": batch.requests}))
    clock = Clock()
    slow = Emulator(clock=clock, duration=2 * DAY)
    seen = watch(slow, clock)
    results = download(emulator) + download(slow)
    seen += list_archived(slow, clock)
    (folder / "batches.jsonl").write_text("\n".join(map(json.dumps, seen)))
    (folder / "results.jsonl").write_bytes(results.replace(*NEWER))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
