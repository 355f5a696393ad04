"""Connections that die, in process and on a port: the client sees the same."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from claude_batch_pandas.emulator import Emulator, Fault, SimulatedClock, serve
from claude_batch_pandas.exceptions import InputError
from tests.test_emulator_faults import PATH, client_of, create, requests

Reach = Callable[[Emulator], Any]
RESULTS = rf"{PATH}/.*/results"


@contextmanager
def in_process(emulator: Emulator) -> Iterator[httpx2.Client]:
    """Reach an emulator without a network."""
    with httpx2.Client(transport=emulator.transport(), base_url="http://sim") as web:
        yield web


@contextmanager
def on_a_port(emulator: Emulator) -> Iterator[httpx2.Client]:
    """Reach an emulator over a socket; the client gives up soon."""
    timeout = httpx2.Timeout(30.0, read=0.5)
    with serve(emulator=emulator) as url, httpx2.Client(base_url=url, timeout=timeout) as web:
        yield web


both = pytest.mark.parametrize("reach", [in_process, on_a_port])


@both
@pytest.mark.parametrize(("after", "kept"), [(False, 0), (True, 1)])
@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"drop": True}, httpx2.RemoteProtocolError),
        ({"reset": True}, httpx2.ReadError),
        ({"stall": True}, httpx2.ReadTimeout),
    ],
    ids=["drop", "reset", "stall"],
)
def test_no_answer_comes(
    how: dict[str, Any], error: type[Exception], after: bool, kept: int, reach: Reach
) -> None:
    """Each death looks like itself, whether the batch exists or not, and the server goes on."""
    emulator = Emulator(faults=[Fault(method="POST", path=PATH, after=after, **how)])
    with reach(emulator) as web:
        with pytest.raises(error, match=r".*"):
            web.post(PATH, json={"requests": requests()})
        listed = web.get(PATH).json()["data"]

    assert len(listed) == len(emulator.batches) == kept
    assert [call.status for call in emulator.calls] == [0, 200]


@both
@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({}, httpx2.RemoteProtocolError),
        ({"framing": "length"}, httpx2.RemoteProtocolError),
        ({"framing": "chunked"}, httpx2.RemoteProtocolError),
        ({"framing": "close"}, None),
        ({"framing": "close", "reset": True}, httpx2.ReadError),
        ({"reset": True}, httpx2.ReadError),
        ({"stall": True}, httpx2.ReadTimeout),
    ],
    ids=str,
)
@pytest.mark.parametrize("cut", [0, 1, 100])
def test_an_answer_is_cut(
    cut: int, how: dict[str, Any], error: type[Exception] | None, reach: Reach
) -> None:
    """Some bytes come, then the connection dies; only a body that it delimits ends in silence."""
    emulator = Emulator(duration=0)
    batch_id = create(client_of(emulator))
    client_of(emulator).messages.batches.retrieve(batch_id)
    emulator.faults = [Fault(method="GET", path=RESULTS, cut=cut, **how)]
    seen = bytearray()

    def read(web: Any) -> None:
        with web.stream("GET", f"{PATH}/{batch_id}/results") as response:
            for piece in response.iter_bytes():
                seen.extend(piece)

    with reach(emulator) as web:
        if error is None:
            read(web)
        else:
            with pytest.raises(error, match=r".*"):
                read(web)
        whole = web.get(f"{PATH}/{batch_id}/results").content

    assert whole.startswith(bytes(seen))
    assert len(seen) == cut
    assert emulator.calls[-1].status == 200


@both
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_whole_body_can_be_framed_otherwise(framing: Any, reach: Reach) -> None:
    emulator = Emulator(faults=[Fault(method="GET", path=PATH, framing=framing)])
    with reach(emulator) as web:
        response = web.get(PATH)

    assert response.json()["data"] == []
    assert ("content-length" in response.headers) == (framing == "length")


@both
def test_a_body_can_be_compressed(reach: Reach) -> None:
    """Also without its last eight bytes, which nobody misses."""
    faults = [
        Fault(method="GET", path=PATH, edit=squeeze, headers={"content-encoding": "gzip"})
        for squeeze in (gzip.compress, lambda body: gzip.compress(body)[:-8])
    ]
    with reach(Emulator(faults=faults)) as web:
        found = [web.get(PATH).json()["data"] for _ in faults]

    assert found == [[], []]


@both
def test_an_upload_is_cut(reach: Reach) -> None:
    """The server leaves in its midst, and nothing was created."""
    emulator = Emulator(faults=[Fault(method="POST", path=PATH, upload=1_000)])
    taken: list[int] = []

    def blocks() -> Iterator[bytes]:
        for _ in range(1_000):
            taken.append(100_000)
            yield b" " * 100_000

    with reach(emulator) as web:
        headers = {"content-length": "100000000"}
        # On a socket, the failed write takes the reset's error, and the reading finds an end.
        with pytest.raises((httpx2.ReadError, httpx2.RemoteProtocolError), match=r".*"):
            web.post(PATH, content=blocks(), headers=headers)

    assert emulator.batches == []
    assert len(taken) < 1_000


@both
@pytest.mark.parametrize("upload", [0, 10, 10_000_000])
def test_an_upload_is_answered_in_its_midst(upload: int, reach: Reach) -> None:
    fault = Fault(method="POST", path=PATH, upload=upload, status=413)
    with reach(Emulator(faults=[fault])) as web:
        response = web.post(PATH, content=b"x" * 100_000)

    assert response.json()["error"]["type"] == "request_too_large"


def test_an_upload_without_a_body_is_cut() -> None:
    emulator = Emulator(faults=[Fault(method="POST", path=".*/cancel", upload=5)])
    with (
        in_process(emulator) as web,
        pytest.raises(httpx2.ReadError, match="ended the connection"),
    ):
        web.post(f"{PATH}/x/cancel")


def test_a_stalled_connection_ends_with_the_server() -> None:
    """A client that would wait for ever is let go when the server closes."""
    emulator = Emulator(faults=[Fault(method="GET", path=PATH, stall=True)])
    failures: list[Exception] = []

    def ask(url: str) -> None:
        with httpx2.Client(timeout=60.0) as web:
            try:
                web.get(f"{url}{PATH}")
            except httpx2.HTTPError as error:
                failures.append(error)

    with serve(emulator=emulator) as url:
        thread = threading.Thread(target=ask, args=(url,))
        thread.start()
        while not emulator.calls:
            thread.join(0.01)
    thread.join()

    assert [type(error) for error in failures] == [httpx2.RemoteProtocolError]


def test_the_script_of_a_living_emulator_can_be_changed() -> None:
    """What was met before does not count for the new script."""
    fault = Fault(method="GET", path=PATH, status=500)
    emulator = Emulator(faults=[fault])
    with in_process(emulator) as web:
        seen = [web.get(PATH).status_code for _ in range(2)]
        emulator.faults = [fault, Fault(method="GET", path=PATH, status=503)]
        seen += [web.get(PATH).status_code for _ in range(3)]

    assert seen == [500, 200, 500, 503, 200]
    assert emulator.faults[0] is fault


def test_others_do_something_meanwhile() -> None:
    """After the work and before the answer: here a batch as large as ours."""
    emulator = Emulator(
        faults=[
            Fault(
                method="POST",
                path=PATH,
                after=True,
                drop=True,
                meanwhile=lambda emulator: emulator.add_decoy(3, duration=0),
            )
        ],
    )
    with in_process(emulator) as web:
        with pytest.raises(httpx2.RemoteProtocolError, match="ended the connection"):
            web.post(PATH, json={"requests": requests(3)})
        listed = web.get(PATH).json()["data"]

    assert [batch["request_counts"]["processing"] for batch in listed] == [0, 3]
    assert emulator.batches[1].custom_ids == ["theirs-0", "theirs-1", "theirs-2"]


def test_a_decoy_lasts_as_long_as_others_unless_told() -> None:
    clock = SimulatedClock()
    emulator = Emulator(clock=clock, duration=60)
    ends = [emulator.add_decoy(1).ended_at, emulator.add_decoy(1, duration=5).ended_at]

    assert [end - clock() for end in ends] == [60, 5]
    assert len({batch.id for batch in emulator.batches}) == 2


def test_a_batch_shows_up_late_in_the_list() -> None:
    """It exists at once, and whoever knows its id can look at it."""
    clock = SimulatedClock()
    emulator = Emulator(clock=clock, list_lag=30)
    client = client_of(emulator)
    batch_id = create(client)
    before = client.messages.batches.list().data
    clock.advance(30)

    assert before == []
    assert client.messages.batches.retrieve(batch_id).id == batch_id
    assert [batch.id for batch in client.messages.batches.list().data] == [batch_id]


def test_a_negative_lag_is_refused() -> None:
    with pytest.raises(InputError, match=r"list_lag=-1 is in the past\. Pass 0 or more"):
        Emulator(list_lag=-1)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"framing": "guess"}, "framing='guess' is not known. Pass one of: length, chunked, close"),
        ({"cut": -1}, "cut=-1 is no number of bytes"),
        ({"upload": -1}, "upload=-1 is no number of bytes"),
        ({"truncate": -5}, "truncate=-5 is no number of bytes"),
        ({"upload": 1, "after": True}, "never worked on: drop after=True"),
    ],
)
def test_a_fault_that_cannot_be_is_refused(how: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Fault(method="POST", path=PATH, **how)
