"""Collecting: a results file is believed when every row is there once, and only then."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import anthropic
import httpx2
import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_batch_pandas.client import Client
from claude_batch_pandas.collecting import Check, collect, read, verify
from claude_batch_pandas.exceptions import APIError
from claude_batch_pandas.ids import Ids
from claude_batch_pandas.outputs import output_of
from claude_batch_pandas.records import Batch, Counts, Shard
from tests.strategies import line, succeeded

EXPECTED = Ids("0" * 16, 1, range(6), np.full((6, 16), ord("a"), np.uint8))
NAMES = [*EXPECTED]
OUTPUT = output_of("answer")
TYPES = ["succeeded", "errored", "canceled", "expired", "succeeded", "succeeded"]
COUNTS = Counts(succeeded=3, errored=1, canceled=1, expired=1)
SHARD = Shard(run_id="r", number=0, attempt=1, total=6, size=1, sha256="", batch_id="msgbatch_1")
OUTCOMES: dict[str, dict[str, Any]] = {
    "succeeded": succeeded("yes"),
    "errored": {"type": "errored", "error": {"type": "api_error", "message": "no"}},
    "canceled": {"type": "canceled"},
    "expired": {"type": "expired"},
}
WHOLE = [line(name, OUTCOMES[kind]) + b"\n" for name, kind in zip(NAMES, TYPES, strict=True)]
FOREIGN = line("theirs", OUTCOMES["succeeded"]) + b"\n"
OTHERWISE = [line(name, {"type": "other"}) + b"\n" for name in NAMES]
BROKEN = f'{{"custom_id": "{NAMES[0]}", "resu\n'.encode()


def batch_of(counts: Counts = COUNTS, *, archived: bool = False) -> Batch:
    """Return an ended batch."""
    return Batch(
        id="msgbatch_1",
        processing_status="ended",
        counts=counts,
        created_at=0.0,
        expires_at=86_400.0,
        archived=archived,
    )


def check(path: Path, data: bytes, counts: Counts = COUNTS) -> Check:
    """Write a results file and verify it."""
    path.write_bytes(data)
    return verify(path, read(path, OUTPUT), EXPECTED, batch_of(counts))


@given(
    st.lists(st.integers(0, 5), max_size=9),
    st.sets(st.integers(0, 5), max_size=2),
    st.integers(0, 2),
    st.integers(0, 2),
    st.booleans(),
    st.randoms(use_true_random=False),
)
@settings(deadline=None, max_examples=150)
def test_any_selection_of_lines_is_judged_right(
    chosen: list[int], again: set[int], foreign: int, broken: int, ends: bool, dice: Any
) -> None:
    """Missing, repeated, foreign and unreadable lines are counted, in whatever order they come.

    A line that stands twice as it is, is one line; of two that differ, none can be believed.
    """
    again &= set(chosen)
    lines = [WHOLE[i] for i in chosen] + [FOREIGN] * foreign + [BROKEN] * broken
    lines += [OTHERWISE[i] for i in again]
    dice.shuffle(lines)
    data = b"".join(lines)
    names = set(chosen)
    told = {
        "unreadable": broken,
        "foreign": foreign,
        "repeated": len(again),
        "missing": 6 - len(names),
    }
    with TemporaryDirectory() as folder:
        found = check(Path(folder, "file"), data if ends else data.removesuffix(b"\n"))

    assert found.readable == len(names - again)
    expected = ", ".join(f"{count} {what}" for what, count in told.items() if count)
    if not expected and not ends:
        expected = "no newline at the end"
    assert found.problem == expected


@given(st.permutations(WHOLE))
@settings(deadline=None, max_examples=20)
def test_a_whole_file_is_whole_in_any_order(lines: Sequence[bytes]) -> None:
    """The API promises no order."""
    with TemporaryDirectory() as folder:
        found = check(Path(folder, "file"), b"".join(lines))

    assert found == Check(6, "")


@pytest.mark.parametrize(
    "counts",
    [
        Counts(succeeded=4, errored=1, expired=1),
        Counts(succeeded=3, errored=1, canceled=1),
        Counts(succeeded=3, errored=0, canceled=1, expired=2),
        Counts(),
    ],
    ids=str,
)
def test_counts_of_the_api_must_agree(counts: Counts, tmp_path: Path) -> None:
    """A file of which every line reads well may still be of another moment or batch."""
    found = check(tmp_path / "file", b"".join(WHOLE), counts)

    assert found == Check(6, "counts that differ from request_counts")


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    """Wherever a file ends too early, it is not whole."""
    data = b"".join(WHOLE)
    whole = [end for end in range(len(data) + 1) if not check(tmp_path / "f", data[:end]).problem]

    assert whole == [len(data)]


def test_an_empty_file_misses_everything(tmp_path: Path) -> None:
    """Nothing came, and nothing is readable."""
    assert check(tmp_path / "file", b"") == Check(0, "6 missing")


def test_a_long_line_counts_as_one(tmp_path: Path) -> None:
    """A line longer than a block of reading is one result."""
    long = line(NAMES[0], succeeded("x" * 1_000_000)) + b"\n"

    assert check(tmp_path / "file", b"".join([*WHOLE[1:], long])) == Check(6, "")


# Downloads


class Downloads(httpx2.BaseTransport):
    """A server that gives one file after the other, the last for ever; an error is raised."""

    def __init__(self, files: Sequence[bytes | Exception]) -> None:
        self.files = list(files)
        self.asked = 0

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:  # noqa: ARG002
        self.asked += 1
        file = self.files.pop(0) if len(self.files) > 1 else self.files[0]
        if isinstance(file, Exception):
            return httpx2.Response(200, stream=Broken(file))
        return httpx2.Response(200, content=file)


class Broken(httpx2.SyncByteStream):
    """Some lines, and then an error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __iter__(self) -> Any:
        yield b"".join(WHOLE[:3])
        raise self.error


def serve(*files: bytes | Exception) -> tuple[Client, Downloads]:
    """Return a client whose server gives these files, and the server."""
    server = Downloads(files)
    web = httpx2.Client(transport=server)
    return Client(anthropic.Anthropic(api_key="none", http_client=web)), server


def test_a_whole_file_is_kept_as_it_came(tmp_path: Path) -> None:
    """The raw bytes, their hash, and no temporary file."""
    data = b"".join(reversed(WHOLE))
    client, server = serve(data)
    path = tmp_path / "results"
    found = collect(client, batch_of(), SHARD, EXPECTED, path, OUTPUT)

    assert found[:3] == (hashlib.sha256(data).hexdigest(), True, "")
    assert found.part is not None
    assert found.part.ordinals.tolist() == [*range(6)]
    assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]
    assert server.asked == 1


def test_a_file_that_is_short_is_downloaded_again(tmp_path: Path) -> None:
    """The second download is whole, and it alone is kept."""
    whole = b"".join(WHOLE)
    client, server = serve(b"".join(WHOLE[:4]), whole)
    path = tmp_path / "results"
    found = collect(client, batch_of(), SHARD, EXPECTED, path, OUTPUT)

    assert found[:3] == (hashlib.sha256(whole).hexdigest(), True, "")
    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]
    assert server.asked == 2


@pytest.mark.parametrize("order", [(2, 4, 3), (4, 2, 3), (2, 3, 4), (4, 4, 4)])
def test_the_best_of_three_is_kept(order: tuple[int, ...], tmp_path: Path) -> None:
    """What is still missing then costs those rows, and the words say how many."""
    best = b"".join(WHOLE[:4])
    client, server = serve(*(b"".join(WHOLE[:count]) for count in order))
    path = tmp_path / "results"
    found = collect(client, batch_of(), SHARD, EXPECTED, path, OUTPUT)

    assert found == (hashlib.sha256(best).hexdigest(), False, "2 missing", None)
    assert path.read_bytes() == best
    assert list(tmp_path.iterdir()) == [path]
    assert server.asked == 3


def test_results_that_are_archived_are_not_asked_for(tmp_path: Path) -> None:
    """After 29 days they are gone: an empty file, and the reason."""
    client, server = serve(b"")
    path = tmp_path / "results"
    found = collect(client, batch_of(archived=True), SHARD, EXPECTED, path, OUTPUT)

    assert (found.sha256, found.complete) == (hashlib.sha256(b"").hexdigest(), False)
    assert found.problem.startswith("its results are gone from the server")
    assert path.read_bytes() == b""
    assert server.asked == 0


def test_a_broken_download_keeps_nothing(tmp_path: Path) -> None:
    """The error is told, and no file stays, whole or temporary."""
    client, server = serve(httpx2.ReadError("cut"))
    with pytest.raises(APIError, match=r"broke \(ReadError\)"):
        collect(client, batch_of(), SHARD, EXPECTED, tmp_path / "results", OUTPUT)

    assert list(tmp_path.iterdir()) == []
    assert server.asked == 1


def test_a_download_that_breaks_after_a_short_one_keeps_nothing(tmp_path: Path) -> None:
    """A file that failed the check is not left behind as if it were the results."""
    client, server = serve(b"".join(WHOLE[:4]), httpx2.ReadError("cut"))
    with pytest.raises(APIError, match=r"broke \(ReadError\)"):
        collect(client, batch_of(), SHARD, EXPECTED, tmp_path / "results", OUTPUT)

    assert list(tmp_path.iterdir()) == []
    assert server.asked == 2


def test_results_of_another_shape_are_not_believed(tmp_path: Path) -> None:
    """A portal's page and an error object are files without a readable result."""
    for body in (b"<html>Log in</html>", json.dumps({"type": "error"}).encode() + b"\n"):
        client, _ = serve(body)
        found = collect(client, batch_of(), SHARD, EXPECTED, tmp_path / "results", OUTPUT)

        assert not found.complete
        assert found.problem == "1 unreadable, 6 missing"


def test_answers_that_break_their_types_are_kept_all_the_same(tmp_path: Path) -> None:
    """What a user's own code raises costs no download: the bytes were paid."""

    class Odd:
        """What a validator makes of a text."""

        def __str__(self) -> str:
            raise ValueError

    output = output_of("answer", {"a": Annotated[str, pydantic.AfterValidator(lambda _: Odd())]})
    lines = [line(name, succeeded('{"a": "b"}')) + b"\n" for name in NAMES]
    client, _ = serve(b"".join(lines))
    path = tmp_path / "results"
    counts = Counts(succeeded=len(NAMES))
    found = collect(client, batch_of(counts), SHARD, EXPECTED, path, output)

    assert found.complete
    assert path.read_bytes() == b"".join(lines)
    assert found.part is not None
    assert found.part.output != output
