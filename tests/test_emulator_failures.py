"""The faults that have a name: each can be made, and does what its words say."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import httpx2
import orjson
import pytest

from claude_batch_pandas.emulator import FAILURES, Emulator, edits, failure
from claude_batch_pandas.emulator.failures import STATUSES
from claude_batch_pandas.exceptions import InputError
from tests.test_emulator_faults import PATH, requests

BODY = b'{"custom_id":"a","result":{"type":"canceled"}}\n{"custom_id":"b"}\n'


@pytest.fixture
def web() -> Iterator[tuple[httpx2.Client, Emulator]]:
    """Return an emulator and a way to it."""
    emulator = Emulator(duration=0)
    with httpx2.Client(transport=emulator.transport(), base_url="http://sim") as client:
        yield client, emulator


def test_every_fault_can_be_made_with_other_values() -> None:
    """Each time anew, so that two emulators share no memory."""
    for name, (words, make) in FAILURES.items():
        assert failure(name, times=7).times == 7
        assert words
        assert make() is not make()


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match=r"No fault is named 'oops'.*emulate --fault help"):
        failure("oops")


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_comes_in_two_shapes(status: int, web: tuple[httpx2.Client, Emulator]) -> None:
    client, emulator = web
    emulator.faults = [failure(f"status-{status}"), failure(f"html-{status}-after")]
    own, page = (client.post(PATH, json={"requests": requests()}) for _ in range(2))

    assert own.status_code == page.status_code == status
    assert own.json()["type"] == "error"
    assert page.text.startswith("<!DOCTYPE html>")
    assert page.headers["content-type"] == "text/html"
    assert len(emulator.batches) == 1


def test_others_come_in_between(web: tuple[httpx2.Client, Emulator]) -> None:
    """A decoy is as large as ours and newer; the fence is the batch before ours."""
    client, emulator = web
    emulator.faults = [failure("decoy-after"), failure("fence-after")]
    for _ in emulator.faults:
        with pytest.raises(httpx2.RemoteProtocolError, match="ended the connection"):
            client.post(PATH, json={"requests": requests(5)})

    assert [batch.total for batch in emulator.batches] == [5, 5, 5]
    assert emulator.batches[1].custom_ids[0] == "theirs-0"
    assert [batch.deleted for batch in emulator.batches] == [False, True, False]


def test_a_fence_that_is_not_there_is_not_deleted(web: tuple[httpx2.Client, Emulator]) -> None:
    client, emulator = web
    emulator.faults = [failure("fence-after", drop=False, status=500)]
    client.post(PATH, json={"requests": requests()})

    assert [batch.deleted for batch in emulator.batches] == [False]


def test_a_list_turns_no_pages(web: tuple[httpx2.Client, Emulator]) -> None:
    client, emulator = web
    emulator.add_decoy(1)
    emulator.faults = [failure("list-again", skip=0, times=2), failure("list-short", skip=0)]
    first = client.get(PATH).json()
    emulator.add_decoy(2)

    assert client.get(PATH).json() == first
    assert client.get(PATH).json()["data"] == first["data"]
    assert len(first["data"]) == 1


def test_results_are_elsewhere_when_there_are_any(web: tuple[httpx2.Client, Emulator]) -> None:
    client, emulator = web
    emulator.faults = [failure("elsewhere")]
    ended, running = emulator.add_decoy(1, duration=0), emulator.add_decoy(1, duration=60)
    urls = [client.get(f"{PATH}/{b.id}").json()["results_url"] for b in (ended, running)]

    assert urls == [f"{edits.ELSEWHERE}{PATH}/{ended.id}/results", None]


def test_lines_are_spoiled_one_at_a_time() -> None:
    """The first is; the others stay as they are, whatever happens to it."""
    first, rest = BODY[: BODY.index(b"\n") + 1], BODY[BODY.index(b"\n") + 1 :]

    assert edits.missing_line(BODY) == rest
    assert edits.malformed_line(BODY) == first[: len(first) // 2] + b"\n" + rest
    assert edits.repeated_line(BODY) == BODY + first
    assert edits.contradicting_line(BODY).endswith(b'{"type":"expired"}}\n')
    assert edits.exchanged_line(BODY).splitlines()[0] == rest.rstrip()
    assert b'"theirs-0"' in edits.foreign_line(BODY)
    assert edits.reversed_lines(BODY) == rest + first
    assert len(edits.long_line(BODY, 1_000)) > len(BODY) + 1_000
    assert orjson.loads(edits.deep_line(BODY, 3).splitlines()[0])["padding"] == [[[]]]
    assert edits.invalid_utf8(BODY).startswith(b'{"custom_id":"\xffa"')
    assert edits.nul_tail(BODY).endswith(b"\n" + b"\0" * 512)
    assert edits.crlf(BODY).count(b"\r\n") == 2
    assert edits.bom(BODY).decode("utf-8-sig") == BODY.decode()


def test_compressed_bodies_unpack_to_what_they_were() -> None:
    bomb = edits.gzip_bomb(BODY, 3_000_000)

    assert gzip.decompress(edits.gzipped(BODY)) == BODY
    assert edits.gzipped_without_trailer(BODY) == edits.gzipped(BODY)[:-8]
    assert gzip.decompress(bomb) == BODY + b" " * 3_000_000
    assert len(bomb) < 10_000
