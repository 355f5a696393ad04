from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types import FileMetadata

from claude_batch_pandas.emulator import Emulator, SimulatedClock

PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + bytes([0, 0, 0, 56, 0, 0, 0, 28])
PDF = b"%PDF-1.7\n<</Type /Pages>> <</Type /Page>> <</Type/Page/Parent 1 0 R>>"
MODEL = "claude-haiku-5-5"


def client_of(emulator: Emulator, key: str = "k") -> anthropic.Anthropic:
    web = httpx2.Client(transport=emulator.transport())
    return anthropic.Anthropic(
        api_key=key, http_client=web, max_retries=0, _strict_response_validation=True
    )


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
def emulator(clock: SimulatedClock) -> Emulator:
    return Emulator(clock=clock, duration=0, workspaces={"theirs": "wrkspc_theirs"})


@pytest.fixture
def client(emulator: Emulator) -> anthropic.Anthropic:
    return client_of(emulator)


def upload(client: anthropic.Anthropic, data: bytes = PNG, name: str = "a.png") -> FileMetadata:
    return client.files.upload(file=(name, data))


def block(file_id: str, kind: str = "image") -> dict[str, Any]:
    return {"type": kind, "source": {"type": "file", "file_id": file_id}}


def params(*blocks: Any) -> Any:
    content = [*blocks, {"type": "text", "text": "What is it?"}]
    messages = [{"role": "user", "content": content}]
    return {"model": MODEL, "max_tokens": 500, "messages": messages}


def batched(client: anthropic.Anthropic, *rows: Any) -> dict[str, Any]:
    """Return the results of a batch by custom_id."""
    sent: Any = [{"custom_id": f"r{i}", "params": row} for i, row in enumerate(rows)]
    batch = client.messages.batches.create(requests=sent)
    return {line.custom_id: line.result for line in client.messages.batches.results(batch.id)}


def test_an_uploaded_file_says_everything_the_sdk_knows(
    client: anthropic.Anthropic, clock: SimulatedClock
) -> None:
    file = client.files.upload(file=("chart.png", PNG), expires_in_seconds=3_600)

    assert file.model_fields_set == set(FileMetadata.model_fields)
    assert file.id.startswith("file_011")
    assert file.id.removeprefix("file_").isalnum()
    assert len(file.id.removeprefix("file_")) >= 24
    assert (file.filename, file.mime_type, file.size_bytes) == ("chart.png", "image/png", len(PNG))
    assert file.downloadable is False
    assert file.created_at.timestamp() == clock()
    assert file.expires_at is not None
    assert file.expires_at.timestamp() == clock() + 3_600
    assert client.files.retrieve_metadata(file.id) == file


def test_the_beta_namespace_reaches_the_same_files(client: anthropic.Anthropic) -> None:
    file = client.beta.files.upload(file=("a.png", PNG))

    assert [one.id for one in client.beta.files.list()] == [file.id]
    assert client.files.retrieve_metadata(file.id).filename == "a.png"


def test_bytes_arrive_as_they_were_sent(client: anthropic.Anthropic, emulator: Emulator) -> None:
    """Line ends, boundaries' beginnings and bytes that are no text survive, named or not."""
    dice = random.Random(1)  # noqa: S311 - no secret
    bodies = [b"", b"\r\n--", b"\xff\xfe\r\n\r\n--x\r\n", dice.randbytes(1_000_000)]
    for body in bodies:
        client.files.upload(file=("x.bin", body))
        client.files.upload(file=body)

    assert [file.data for file in emulator.files] == [body for body in bodies for _ in range(2)]
    assert repr(emulator.files[0]).endswith("of 0 bytes, application/octet-stream>")


@pytest.mark.parametrize(
    ("file", "filename", "mime_type"),
    [
        (PNG, "unnamed.png", "image/png"),
        (PDF, "unnamed.pdf", "application/pdf"),
        (b"plain", "unnamed", "application/octet-stream"),
        (("notes/2026\\a.txt", b"x", "text/plain; charset=utf-8"), "a.txt", "text/plain"),
        (("Zürich 東京.pdf", PDF), "Zürich 東京.pdf", "application/pdf"),
        (("x.csv", b"a,b", "text/csv"), "x.csv", "text/csv"),
    ],
)
def test_names_and_types_are_kept_or_made_up(
    client: anthropic.Anthropic, file: Any, filename: str, mime_type: str
) -> None:
    """Of a path the last component stays; what is missing follows from the bytes."""
    stored = client.files.upload(file=file)

    assert (stored.filename, stored.mime_type) == (filename, mime_type)


def test_a_path_is_uploaded(client: anthropic.Anthropic, tmp_path: Path) -> None:
    path = tmp_path / "report.pdf"
    path.write_bytes(PDF)

    assert client.files.upload(file=path).filename == "report.pdf"


@pytest.mark.parametrize(
    ("seconds", "problem"),
    [
        (3_599, "expires_in_seconds: Input should be greater than or equal to 3600"),
        (-1, "expires_in_seconds: Input should be greater than or equal to 3600"),
        (7_776_001, "expires_in_seconds: Input should be less than or equal to 7776000"),
        ("soon", "expires_in_seconds: Input should be a valid integer"),
    ],
)
def test_a_bad_expiry_is_refused(
    client: anthropic.Anthropic, emulator: Emulator, seconds: Any, problem: str
) -> None:
    with pytest.raises(anthropic.BadRequestError, match=problem):
        client.files.upload(file=PNG, expires_in_seconds=seconds)

    assert emulator.files == []


def test_a_long_name_is_refused(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match="at most 500 characters"):
        upload(client, name="x" * 501)


@pytest.mark.parametrize(
    ("kind", "body", "problem"),
    [
        ("application/json", b"{}", "content-type: Input should be 'multipart/form-data'"),
        ("multipart/form-data", b"", "content-type: Input should be .* with a boundary"),
        ("multipart/form-data; boundary=x", b"--x--\r\n", "file: Field required"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n\r\n--x--", "not a valid form: Missing"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc',
            "The request body is not a valid form",
        ),
    ],
)
def test_a_bad_form_is_refused(emulator: Emulator, kind: str, body: bytes, problem: str) -> None:
    with httpx2.Client(transport=emulator.transport(), base_url="http://sim") as web:
        response = web.post("/v1/files", content=body, headers={"content-type": kind})

    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert re.search(problem, response.json()["error"]["message"])


def test_files_are_listed_newest_first_page_by_page(client: anthropic.Anthropic) -> None:
    ids = [upload(client, name=f"{i}.png").id for i in range(5)][::-1]
    first = client.files.list(limit=2)

    assert [file.id for file in client.files.list()] == ids
    assert [file.id for file in first.data] == ids[:2]
    assert first.next_page is not None
    assert first.next_page.startswith("page_")
    assert [file.id for file in first] == ids
    assert client.files.list(limit=5).next_page is None


def test_a_list_goes_on_where_a_file_was_deleted(client: anthropic.Anthropic) -> None:
    ids = [upload(client).id for _ in range(3)][::-1]
    first = client.files.list(limit=1)
    client.files.delete(ids[0])

    assert [file.id for file in first.get_next_page().data] == [ids[1]]


def test_files_are_listed_by_ids(client: anthropic.Anthropic) -> None:
    """Ids that are not there are left out, and repeated ones are there once."""
    ids = [upload(client).id for _ in range(3)]
    client.files.delete(ids[1])
    page = client.files.list(ids=[ids[0], ids[1], "file_of_nobody", ids[0]])

    assert [file.id for file in page.data] == [ids[0]]
    assert page.next_page is None


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ({"limit": 0}, "limit: Input should be between 1 and 1000, not 0"),
        ({"page": "page_x"}, "page: Input should be the next_page of a list"),
        ({"ids": ["a"], "limit": 3}, "ids: cannot be used together with page or limit"),
        ({"ids": list(map(str, range(101)))}, "ids: List should have at most 100 items .*not 101"),
    ],
)
def test_bad_lists_are_refused(
    client: anthropic.Anthropic, query: dict[str, Any], problem: str
) -> None:
    with pytest.raises(anthropic.BadRequestError, match=problem):
        client.files.list(**query)


def test_a_deleted_file_is_gone(client: anthropic.Anthropic, emulator: Emulator) -> None:
    file = upload(client)
    deleted = client.files.delete(file.id)

    assert (deleted.id, deleted.type) == (file.id, "file_deleted")
    assert client.files.list().data == []
    assert (emulator.files[0].deleted, emulator.files[0].data) == (True, b"")
    for call in (client.files.retrieve_metadata, client.files.delete, client.files.download):
        with pytest.raises(anthropic.NotFoundError, match=f"File not found: {file.id}") as caught:
            call(file.id)
        assert caught.value.type == "not_found_error"


def test_uploaded_files_cannot_be_downloaded(client: anthropic.Anthropic) -> None:
    """The SDK has an exception of its own for that."""
    file = upload(client)
    with pytest.raises(anthropic.BadRequestError, match="is not downloadable") as caught:
        client.files.download(file.id)

    assert type(caught.value).__name__ == "FileNotDownloadableError"


def test_workspaces_do_not_share_files(client: anthropic.Anthropic, emulator: Emulator) -> None:
    """Neither lists, nor calls, nor requests of another workspace find a file."""
    file = upload(client)
    other = client_of(emulator, "theirs")
    client.files.list(limit=1)

    assert other.files.list().data == []
    with pytest.raises(anthropic.NotFoundError, match="File not found"):
        other.files.retrieve_metadata(file.id)
    with pytest.raises(anthropic.BadRequestError, match=f"file_id: File not found: {file.id}"):
        other.messages.create(**params(block(file.id)))
    assert batched(other, params(block(file.id)))["r0"].type == "errored"
    assert client.messages.create(**params(block(file.id))).stop_reason == "end_turn"


def test_a_file_is_used_in_messages_and_in_batches(client: anthropic.Anthropic) -> None:
    """It costs what it costs inline, in all of them, and its bytes are sent once."""
    image, paper = upload(client), upload(client, PDF, "a.pdf")
    bare = client.messages.create(**params()).usage.input_tokens
    row = params(block(image.id), block(paper.id, "document"))
    counted = {name: value for name, value in row.items() if name != "max_tokens"}

    assert client.messages.create(**row).usage.input_tokens == bare + 2 + 4_000
    assert client.messages.count_tokens(**counted).input_tokens == bare + 2 + 4_000
    assert batched(client, row)["r0"].message.usage.input_tokens == bare + 2 + 4_000


def test_a_row_that_names_no_file_fails_alone(client: anthropic.Anthropic) -> None:
    file = upload(client)
    results = batched(client, params(block(file.id)), params(block("file_011nobody")), params())

    assert [results[name].type for name in ("r0", "r1", "r2")] == [
        "succeeded",
        "errored",
        "succeeded",
    ]
    assert results["r1"].error.error.type == "invalid_request_error"
    assert (
        results["r1"].error.error.message
        == "messages.0.content.0.image.source.file.file_id: File not found: file_011nobody"
    )


def test_a_file_expires_by_the_emulators_clock(
    client: anthropic.Anthropic, clock: SimulatedClock
) -> None:
    """Requests cannot use it any more, but it still says when it expired."""
    file = client.files.upload(file=("a.png", PNG), expires_in_seconds=3_600)
    clock.advance(3_599)
    before = batched(client, params(block(file.id)))["r0"].type
    clock.advance(1)

    assert before == "succeeded"
    assert batched(client, params(block(file.id)))["r0"].type == "errored"
    with pytest.raises(anthropic.BadRequestError, match=f"File not found: {file.id}"):
        client.messages.create(**params(block(file.id)))
    assert client.files.retrieve_metadata(file.id).expires_at == file.expires_at


def test_a_batch_keeps_the_files_it_began_with(client: anthropic.Anthropic) -> None:
    """Answers are made when they are read; a file that has gone by then was there in time."""
    file = upload(client)
    sent: Any = [{"custom_id": "a", "params": params(block(file.id))}]
    batch = client.messages.batches.create(requests=sent)
    client.files.delete(file.id)
    (line,) = client.messages.batches.results(batch.id)

    assert line.result.type == "succeeded"
    assert (
        line.result.message.usage.input_tokens
        == client.messages.create(**params()).usage.input_tokens + 2
    )


def test_a_restored_batch_answers_as_before(tmp_path: Path, clock: SimulatedClock) -> None:
    """A state folder keeps no files, but what a batch found of them."""

    def start() -> anthropic.Anthropic:
        return client_of(Emulator(clock=clock, state=tmp_path / "state"))

    client = start()
    file = upload(client, PDF, "a.pdf")
    rows = (params(block(file.id, "document")), params(block("file_011nobody")))
    sent: Any = [{"custom_id": f"r{i}", "params": row} for i, row in enumerate(rows)]
    batch = client.messages.batches.create(requests=sent)
    clock.advance(60)
    before = list(client.messages.batches.results(batch.id))

    assert {line.result.type for line in before} == {"succeeded", "errored"}
    assert list(start().messages.batches.results(batch.id)) == before
    assert start().files.list().data == []


@pytest.mark.parametrize(
    ("name", "data", "kind", "problem"),
    [
        ("a.pdf", PDF, "image", r"is of type 'application/pdf'; in a block of type 'image'"),
        ("a.png", PNG, "document", "it should be 'application/pdf' or 'text/plain'"),
        ("a.csv", b"a,b", "document", "is of type 'text/csv'"),
        ("a.jpg", PNG, "image", "the image/jpeg media type, .* appears to be a image/png image"),
        ("a.png", b"junk", "image", "file_id: Could not process image"),
        ("a.pdf", b"junk", "document", r"file_id: The PDF specified was not valid\."),
        ("a.txt", b"\xff", "document", r"file_id: The text specified was not valid\."),
    ],
)
def test_a_file_has_to_fit_its_block(
    client: anthropic.Anthropic, name: str, data: bytes, kind: str, problem: str
) -> None:
    file = upload(client, data, name)
    with pytest.raises(anthropic.BadRequestError, match=problem):
        client.messages.create(**params(block(file.id, kind)))


def test_ids_repeat_with_the_seed(clock: SimulatedClock) -> None:
    make: Callable[[int], str] = lambda seed: (  # noqa: E731 - one expression, twice
        upload(client_of(Emulator(clock=clock, seed=seed))).id
    )

    assert make(1) == make(1) != make(2)


def test_an_upload_that_is_too_large_is_refused(emulator: Emulator) -> None:
    """The emulator keeps no body over 256 MB; the API takes files of 500 MB."""
    # The length is believed, so that the test need not send that much.
    headers = {"content-type": "multipart/form-data; boundary=x", "content-length": "256000001"}
    with httpx2.Client(transport=emulator.transport(), base_url="http://sim") as web:
        response = web.post("/v1/files", content=b"x", headers=headers)

    assert response.status_code == 413
    assert response.json()["error"]["type"] == "request_too_large"
