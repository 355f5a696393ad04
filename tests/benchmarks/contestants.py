"""Three ways to ask about a frame: the plain loop over the SDK, ours, and the least there is.

``python -m tests.benchmarks.contestants WAY SHAPE FRAME URL`` runs one of them in this fresh process
and prints what each phase took as JSON. Imports, reading the frame, and whatever the first row of a
process costs are not counted; with ``cold`` at the end, what is imported on the way is.
"""

from __future__ import annotations

import ctypes
import gc
import http.client
import json
import os
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import pyarrow as pa

from tests.benchmarks.reviews import MAX_TOKENS, MODEL, SYSTEMS, TEMPLATE

CHUNK = {"S": 100_000, "L": 50_000}  # rows of a batch of the plain loop: more would be refused
BLOCK = 512  # rows that are spliced at once
READ = 1 << 20
LONG_CHUNK = 90_000  # rows of a batch of long requests, below 256 MB


class Meter:
    """What phases take: CPU seconds, seconds, and the most memory beyond what there was (MB)."""

    def __init__(self) -> None:
        _give_back()
        self.phases: dict[str, dict[str, float]] = {}
        self._start = _memory("VmRSS")
        _forget_peak()
        self._began = _now()

    def lap(self, name: str) -> None:
        """End a phase; the next one begins."""
        cpu, wall = _now()
        before = self._began
        peak = _memory("VmHWM") - self._start
        self.phases[name] = {"cpu": cpu - before[0], "wall": wall - before[1], "peak": peak}
        _forget_peak()
        self._began = _now()


def _now() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def _memory(name: str) -> float:
    """Return megabytes, as Linux tells them; elsewhere the most there ever was."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    [line] = [line for line in status.splitlines() if line.startswith(name)]
    return int(line.split()[1]) / 1024


def _give_back() -> None:
    """Return what reading the frame took to the system, so that nobody gets it for nothing."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def _forget_peak() -> None:
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")


# (a) What people write today


def plain_loop(df: pd.DataFrame, shape: str, url: str) -> dict[str, Any]:
    """Ask with iterrows, dicts, the SDK's create and results, and a merge."""
    import anthropic

    meter = Meter()
    client = anthropic.Anthropic(api_key="none", base_url=url)  # as ours makes its own
    batches = []
    requests = []
    for i, row in df.iterrows():
        message = {"role": "user", "content": TEMPLATE.format(**row)}
        requests.append(
            {
                "custom_id": f"row-{i}",
                "params": {
                    "model": MODEL,
                    "max_tokens": MAX_TOKENS,
                    "system": _system(shape),
                    "messages": [message],
                },
            }
        )
    meter.lap("render")
    for start in range(0, len(requests), CHUNK[shape]):
        part: Any = requests[start : start + CHUNK[shape]]
        batches.append(client.messages.batches.create(requests=part))
    meter.lap("create")
    rows: dict[str, tuple[Any, ...]] = {}
    for batch in batches:
        while client.messages.batches.retrieve(batch.id).processing_status != "ended":
            time.sleep(0.1)
        for line in client.messages.batches.results(batch.id):
            result = line.result
            if result.type == "succeeded":
                text = "".join(
                    block.text for block in result.message.content if block.type == "text"
                )
                usage = result.message.usage
                rows[line.custom_id] = (result.type, text, usage.input_tokens, usage.output_tokens)
            else:
                rows[line.custom_id] = (result.type, None, 0, 0)
    meter.lap("results")
    names = ["status", "answer", "input_tokens", "output_tokens"]
    answers = pd.DataFrame.from_dict(rows, orient="index", columns=names)
    df["custom_id"] = [f"row-{i}" for i in df.index]
    out = df.merge(answers, left_on="custom_id", right_index=True, how="left")
    meter.lap("join")
    return _told(meter, out, names)


def _system(shape: str) -> Any:
    """Return a system prompt; the long one is marked for the prompt cache."""
    if shape == "S":
        return SYSTEMS[shape]
    return [{"type": "text", "text": SYSTEMS[shape], "cache_control": {"type": "ephemeral"}}]


# (b) Ours, with everything on


def ours(df: pd.DataFrame, shape: str, url: str) -> dict[str, Any]:
    """Ask with this package: a ledger, hashes, verified results."""
    os.environ |= {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "none"}
    with tempfile.TemporaryDirectory() as home:
        os.environ["CLAUDE_BATCH_HOME"] = home
        return _ours(df, shape)


def _ours(df: pd.DataFrame, shape: str) -> dict[str, Any]:
    import claude_batch_pandas as cbp

    cbp.options.poll_seconds, cbp.options.canary = (0.01, 0.05), False
    cbp.options.max_in_flight = 10_000_000
    meter = Meter()
    cached = {} if shape == "S" else {"cache": True}
    run = df.claude.submit(
        TEMPLATE,
        system=SYSTEMS[shape],
        model=MODEL,
        max_tokens=MAX_TOKENS,
        progress="none",
        **cached,
    )
    meter.lap("render and create")
    run.wait()
    meter.lap("results")
    out = run.columns(df)
    meter.lap("join")
    return _told(meter, out, ["answer", "answer_status", "answer_error"])


class Unsynced(sqlite3.Connection):
    """A database that is on the disk whenever the system likes."""

    def execute(self, statement: str, *args: Any) -> sqlite3.Cursor:
        """Do a statement; the one that asks for durability asks for none."""
        return super().execute(statement.replace("synchronous = FULL", "synchronous = OFF"), *args)


def unsynced(df: pd.DataFrame, shape: str, url: str) -> dict[str, Any]:
    """Ask with this package, and let the power never fail."""
    connect = sqlite3.connect
    with (
        patch("os.fsync", lambda _: None),
        patch("sqlite3.connect", lambda *args, **how: connect(*args, **how, factory=Unsynced)),
    ):
        return ours(df, shape, url)


# (c) The least there is


def bare(df: pd.DataFrame, shape: str, url: str) -> dict[str, Any]:
    """Ask with spliced bytes, a file, a socket and a typed decoder; nothing is kept or checked."""
    import orjson

    from tests.benchmarks.lines import decode

    host = url.removeprefix("http://")
    meter = Meter()
    with tempfile.TemporaryDirectory() as folder:
        paths = list(_bodies(df, shape, Path(folder), orjson.dumps))
        meter.lap("render")
        batches = []
        for path in paths:
            connection = http.client.HTTPConnection(host, blocksize=READ)
            size = path.stat().st_size
            with path.open("rb") as file:
                headers = {"content-length": str(size), "content-type": "application/json"}
                connection.request("POST", "/v1/messages/batches", file, headers)
            batches.append(orjson.loads(connection.getresponse().read())["id"])
        meter.lap("create")
        rows = _answers(host, batches, len(df), Path(folder), decode)
    meter.lap("results")
    texts, statuses, inputs, outputs = rows
    out = df.copy(deep=False)
    out["answer"] = pd.array(texts, dtype=pd.StringDtype("pyarrow"))
    out["status"] = pd.Categorical(statuses)
    out["input_tokens"], out["output_tokens"] = inputs, outputs
    meter.lap("join")
    return _told(meter, out, ["answer", "status", "input_tokens", "output_tokens"])


def _bodies(
    df: pd.DataFrame, shape: str, folder: Path, quote: Callable[[Any], bytes]
) -> Iterator[Path]:
    rest: Any = {"model": MODEL, "max_tokens": MAX_TOKENS, "system": _system(shape)}
    head = quote(rest)[:-1] + b',"messages":[{"role":"user","content":'
    chunk = CHUNK["S"] if shape == "S" else LONG_CHUNK
    columns = [df[name].tolist() for name in ("product", "stars", "review")]
    render = eval("lambda product, stars, review: f" + repr(TEMPLATE))  # noqa: S307 - ours
    for start in range(0, len(df), chunk):
        path = folder / f"{start}.json"
        with path.open("wb") as file:
            file.write(b'{"requests":[')
            for i in range(start, min(start + chunk, len(df)), BLOCK):
                end = min(i + BLOCK, start + chunk)
                rows = zip(*(column[i:end] for column in columns), strict=True)
                lines = [
                    b'{"custom_id":"%d","params":%b%b}]}}' % (i + k, head, quote(render(*row)))
                    for k, row in enumerate(rows)
                ]
                file.write((b"," if i > start else b"") + b",".join(lines))
            file.write(b"]}")
        yield path


def _answers(host: str, batches: list[str], count: int, folder: Path, decode: Any) -> Any:
    texts: list[str | None] = [None] * count
    statuses: list[str | None] = [None] * count
    inputs, outputs = [0] * count, [0] * count
    for batch in batches:
        connection = http.client.HTTPConnection(host)
        connection.request("GET", f"/v1/messages/batches/{batch}/results")
        response = connection.getresponse()
        path = folder / batch
        with path.open("wb") as file:
            while block := response.read(READ):
                file.write(block)
        with path.open("rb") as file:
            while lines := file.readlines(READ):
                for one in decode(b"".join(lines)):
                    i, result = int(one.custom_id), one.result
                    statuses[i] = result.type
                    if result.message is not None:
                        texts[i] = result.message.content[0].text
                        inputs[i] = result.message.usage.input_tokens
                        outputs[i] = result.message.usage.output_tokens
    return texts, statuses, inputs, outputs


WAYS: dict[str, Callable[[pd.DataFrame, str, str], dict[str, Any]]] = {
    "plain": plain_loop,
    "ours": ours,
    "bare": bare,
}


def _told(meter: Meter, out: pd.DataFrame, names: list[str]) -> dict[str, Any]:
    """Return the phases, and megabytes of the columns that were added."""
    size = out[names].memory_usage(deep=True, index=False).sum() / 1e6
    answered = int(out["answer"].notna().sum())
    return {"phases": meter.phases, "columns": size, "rows": len(out), "answered": answered}


def main() -> None:
    """Run one way."""
    way, shape, path, url, *how = sys.argv[1:]
    df = pd.read_parquet(path)
    ask = unsynced if way == "unsynced" else WAYS[way]
    if "cold" not in how:
        ask(df.head(1), shape, url)  # what is imported or connected once is not counted
    print(json.dumps(ask(df, shape, url)))


if __name__ == "__main__":
    main()
