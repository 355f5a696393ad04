"""What a server can cost: no more memory than an answer of the API, and no row but its own."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import anthropic
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import claude_batch_pandas as cbp
from claude_batch_pandas.client import Client
from claude_batch_pandas.emulator import Emulator, Fault
from claude_batch_pandas.exceptions import ENDLESS, APIError
from claude_batch_pandas.exchange import MAX_ERROR, MAX_JSON
from claude_batch_pandas.lines import MAX_LINE, cut_lines
from claude_batch_pandas.polling import Verdict, judge
from claude_batch_pandas.replies import MAX_WORDS, read_batch
from claude_batch_pandas.spool import Body
from tests.conftest import JumpingClock
from tests.hostile import Answer, answer_json, batch_json, hostile

KEY = "key-of-a-test"
MEGABYTE = b"a" * (1 << 20)

# Reads what a server sends in a process of its own, so that the memory it took can be told.
CHILD = """
import resource, sys
from pathlib import Path
import anthropic
from claude_batch_pandas import collecting
from claude_batch_pandas.client import Client
from claude_batch_pandas.exceptions import APIError
from claude_batch_pandas.outputs import output_of
from claude_batch_pandas.records import Shard, ShardState

client = Client(anthropic.Anthropic(api_key="k", base_url=sys.argv[1]))
batch = client.retrieve("msgbatch_1")
shard = Shard(
    run_id="r", number=0, attempt=1, total=2, size=0, sha256="", state=ShardState.ENDED,
    batch_id=batch.id,
)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    expected = {"a": 0, "b": 1}
    found = collecting.collect(
        client, batch, shard, expected, Path(sys.argv[2]), output_of("x")
    )
    print(found.problem)
except APIError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units")


def bomb(size: int, wbits: int = zlib.MAX_WBITS | 16) -> bytes:
    """Return a few bytes that become one line of `size`."""
    packer = zlib.compressobj(9, wbits=wbits)
    return b"".join([*(packer.compress(MEGABYTE) for _ in range(size >> 20)), packer.flush()])


def collected_by_child(answer: Answer, path: Path) -> tuple[str, int]:
    """Return what a fresh process says of these results, and the megabytes it grew by."""

    def behave(asked: Any) -> Answer:
        return answer if asked.path.endswith("/results") else answer_json(batch_json())

    with hostile(behave) as server:
        done = subprocess.run(
            [sys.executable, "-c", CHILD, server.url, str(path)],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
    said, grown = done.stdout.splitlines()
    return said, int(grown)


@on_linux
@pytest.mark.parametrize(("name", "wbits"), [("gzip", 31), ("deflate", 15)])
def test_a_bomb_is_refused_before_it_fills_the_memory(
    name: str, wbits: int, tmp_path: Path
) -> None:
    """0.3 MB that become a line of 300 MB cost a refusal, and a few blocks of memory."""
    packed = bomb(300 << 20, wbits)
    said, grown = collected_by_child(
        Answer(200, {"Content-Encoding": name}, packed), tmp_path / "results.jsonl"
    )

    assert len(packed) < 400_000
    assert "sent more than 72,000,000 bytes as the results of batch msgbatch_1" in said
    assert grown < 60
    assert list(tmp_path.iterdir()) == []


@on_linux
def test_a_line_without_end_costs_its_row(tmp_path: Path) -> None:
    """A line of 70 MB is cut; the other row is read, and the memory stays that of a line."""
    good = {"custom_id": "b", "result": {"type": "canceled"}}
    body = b'{"custom_id":"a","result":{"type":"' + MEGABYTE * 67 + b'"}}\n'
    said, grown = collected_by_child(
        Answer(200, {}, body + json.dumps(good).encode() + b"\n"), tmp_path / "results.jsonl"
    )

    assert said == "1 unreadable, 1 missing"
    assert len(body) > MAX_LINE
    assert grown < 350


def test_results_that_never_end_are_refused() -> None:
    """The run pauses for a person; it does not fill the disk again and again."""
    with hostile(lambda _: Answer(200, {}, repeat(MEGABYTE))) as server:
        client = Client(anthropic.Anthropic(api_key=KEY, base_url=server.url))
        with pytest.raises(APIError, match=r"more than 68,000,000 bytes as the results") as caught:
            sum(map(len, client.download("msgbatch_1", 1)))

    assert caught.value.code == ENDLESS
    assert judge(caught.value, 0.0) is Verdict.PAUSE


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "compress", "\x80"])
def test_other_compression_is_refused(coding: str) -> None:
    """Identity is what is asked for, of every call."""
    with hostile(lambda _: Answer(200, {"Content-Encoding": coding}, b"{}")) as server:
        client = Client(anthropic.Anthropic(api_key=KEY, base_url=server.url))
        for call in (client.list, lambda: list(client.download("msgbatch_1"))):
            with pytest.raises(APIError, match="compressed its answer"):
                call()

    assert {asked.headers["accept-encoding"] for asked in server.asked} == {"identity"}


def test_gzip_that_was_not_asked_for_is_read() -> None:
    """A proxy that compresses everything costs nothing."""
    lines = b'{"custom_id": "a"}\n' * 1000

    def behave(asked: Any) -> Answer:
        plain = lines if asked.path.endswith("results") else json.dumps(batch_json()).encode()
        return Answer(200, {"Content-Encoding": "gzip"}, gzip.compress(plain))

    with hostile(behave) as server:
        client = Client(anthropic.Anthropic(api_key=KEY, base_url=server.url))

        assert client.retrieve("msgbatch_1").id == "msgbatch_1"
        assert b"".join(client.download("msgbatch_1")) == lines


CALLS: dict[str, Callable[[Client, Body], Any]] = {
    "create": lambda client, body: client.create(body),
    "retrieve": lambda client, _: client.retrieve("msgbatch_1"),
    "list": lambda client, _: client.list(),
    "cancel": lambda client, _: client.cancel("msgbatch_1"),
    "delete": lambda client, _: client.delete("msgbatch_1"),
}


@pytest.fixture
def body(tmp_path: Path) -> Body:
    """Return a request body."""
    (tmp_path / "body").write_bytes(b"{}")
    return Body(tmp_path / "body")


def counted(blocks: Iterator[bytes], taken: list[int]) -> Iterator[bytes]:
    """Yield blocks, and count their bytes."""
    for block in blocks:
        taken[0] += len(block)
        yield block


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_answer_without_end_is_refused(call: Callable[[Client, Body], Any], body: Body) -> None:
    """JSON is read up to a limit, also where only the status was wanted."""
    taken = [0]
    endless = counted(chain([b'{"id": "'], repeat(MEGABYTE)), taken)
    with hostile(lambda _: Answer(200, {}, endless)) as server:
        client = Client(anthropic.Anthropic(api_key=KEY, base_url=server.url))
        with pytest.raises(APIError, match=r"with more than 32,000,000 bytes, which is not the"):
            call(client, body)

    assert taken[0] < 2 * MAX_JSON


@pytest.mark.parametrize("coding", ["", "gzip"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_error_without_end_is_cut(
    call: Callable[[Client, Body], Any], coding: str, body: Body
) -> None:
    """The status is what counts; the page of a proxy is not read to its end."""
    taken = [0]
    head = b'{"type": "error", "error": {"type": "overloaded_error", "message": "'
    endless: Any = counted(chain([head], repeat(MEGABYTE)), taken)
    if coding:
        endless = bomb(50 << 20)
    with hostile(lambda _: Answer(529, {"Content-Encoding": coding}, endless)) as server:
        client = Client(anthropic.Anthropic(api_key=KEY, base_url=server.url))
        with pytest.raises(APIError, match="The API answered 529: no explanation") as caught:
            call(client, body)

    assert caught.value.type is None
    assert taken[0] < 100 * MAX_ERROR


@pytest.mark.parametrize(
    "value",
    [b"[" * 100_000, b'{"a":' * 100_000, b'{"id": ' + b"9" * 5000 + b"}", b'{"id": "\\ud800"}'],
    ids=["arrays", "objects", "integer", "surrogate"],
)
@pytest.mark.parametrize("status", [200, 400])
def test_odd_json_is_an_error_of_ours(value: bytes, status: int) -> None:
    """Depth, long numbers and lone surrogates end no call in another way."""
    with hostile(lambda _: Answer(status, {}, value)) as server:
        client = Client(anthropic.Anthropic(api_key=KEY, base_url=server.url))
        with pytest.raises(APIError, match=r"is not the API's JSON|not a message|answered 400"):
            client.retrieve("msgbatch_1")


@pytest.mark.parametrize("count", [-1, 10**300, 1e300, 2**63], ids=str)
def test_a_count_that_is_none_is_refused(count: float) -> None:
    """The ledger could not hold it."""
    counts = {**batch_json()["request_counts"], "succeeded": count}
    with pytest.raises(APIError, match="not a message batch"):
        read_batch(batch_json(request_counts=counts))


DEEP = "[" * 100_000 + "]" * 100_000
ODD = {
    "deep": lambda line: line.replace('"usage"', f'"x": {DEEP}, "usage"', 1),
    "deep content": lambda line: line.replace('"content":[', f'"content":[{DEEP},', 1),
    "deep and cut": lambda line: line[:9] + "[" * 100_000,
    "integer": lambda line: line.replace(
        '"usage":{', '"usage":{"input_tokens":' + "9" * 5000 + ",", 1
    ),
    "count": lambda line: line.replace('"output_tokens":', '"output_tokens":' + "9" * 30, 1),
    "negative": lambda line: line.replace('"output_tokens":', '"output_tokens":-', 1),
    "number": lambda line: line.replace('"usage":{', '"usage":{"x":1e999999999,', 1),
    "surrogate": lambda line: line.replace("[simulated]", "\\ud800", 1),
    "long line": lambda line: line.replace("[simulated]", "a" * (MAX_LINE + 1), 1),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_odd_line_costs_at_most_its_row(
    odd: Callable[[str], str], clock: JumpingClock, connect: Callable[..., Any]
) -> None:
    """The rows beside it are answered, and everything about the run can be shown."""

    def edit(results: bytes) -> bytes:
        lines = results.decode().splitlines(keepends=True)
        at = next(i for i, line in enumerate(lines) if "row 1" in line)
        changed = odd(lines[at].rstrip("\n"))
        assert changed != lines[at].rstrip("\n")
        lines[at] = f"{changed}\n"
        return "".join(lines).encode()

    fault = Fault(method="GET", path=r".*/results", edit=edit, times=None)
    emulator = Emulator(clock=clock.now, duration=0.0, faults=[fault])
    df = pd.DataFrame({"text": ["row 0", "row 1", "row 2"]})
    run = df.claude.submit("{text}", client=connect(emulator))
    out = run.result(df)

    assert out["answer_status"].iloc[[0, 2]].tolist() == ["succeeded"] * 2
    assert out["answer"].iloc[[0, 2]].tolist() == ["[simulated] row 0", "[simulated] row 2"]
    assert len(run.details()) == 3
    assert run.id in str(run.report())
    assert len(cbp.runs()) == 1


@given(st.lists(st.binary(max_size=30) | st.just(b"\n"), max_size=20), st.integers(1, 12))
def test_lines_are_cut_wherever_blocks_end(blocks: list[bytes], limit: int) -> None:
    """Every line keeps its beginning, and lines stay apart."""
    whole = b"".join(blocks).split(b"\n")

    assert b"".join(cut_lines(blocks, limit)).split(b"\n") == [line[:limit] for line in whole]


def test_words_of_an_error_are_few() -> None:
    """However long the message of an error is."""
    told = {"type": "error", "error": {"type": "api_error", "message": "word " * 10_000}}
    with hostile(lambda _: answer_json(told, 500)) as server:
        client = Client(anthropic.Anthropic(api_key=KEY, base_url=server.url))
        with pytest.raises(APIError, match="The API answered 500 api_error: word word") as caught:
            client.list()

    assert len(str(caught.value)) < MAX_WORDS + 60
