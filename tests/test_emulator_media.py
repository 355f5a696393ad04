from __future__ import annotations

import base64
import re
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types import Usage

from claude_batch_pandas.emulator import Emulator

NEW, OLD = "claude-haiku-5-5", "claude-haiku-4-5"
URL = "https://example.com/a.png"
PDF = b"%PDF-1.7 <</Type /Pages>> <</Type /Page>> <</Type/Page/Parent 1 0 R>> <</Type\n/Page>>"


def png(width: int, height: int) -> bytes:
    size = width.to_bytes(4) + height.to_bytes(4)
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + size


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + width.to_bytes(2, "little") + height.to_bytes(2, "little")


def jpeg(width: int, height: int) -> bytes:
    """Return a JPEG that begins with a comment, a table and a filling byte."""
    segments = b"\xff\xe0\0\x06JFIF" + b"\xff\xc4\0\x03x" + b"\xff"
    return b"\xff\xd8" + segments + b"\xff\xc2\0\x11\x08" + height.to_bytes(2) + width.to_bytes(2)


def webp(chunk: bytes, rest: bytes) -> bytes:
    return b"RIFF\0\0\0\0WEBP" + chunk + b"\0\0\0\0" + rest


def lossy(width: int, height: int) -> bytes:
    size = width.to_bytes(2, "little") + height.to_bytes(2, "little")
    return webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + size)


def lossless(width: int, height: int) -> bytes:
    return webp(b"VP8L", b"\x2f" + (width - 1 | height - 1 << 14).to_bytes(4, "little"))


def extended(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return webp(b"VP8X", b"\0\0\0\0" + size)


def inline(data: bytes, media_type: str = "image/png") -> dict[str, Any]:
    return {"type": "base64", "media_type": media_type, "data": base64.b64encode(data).decode()}


def image(source: Any) -> dict[str, Any]:
    return {"type": "image", "source": source}


def document(source: Any) -> dict[str, Any]:
    return {"type": "document", "source": source}


def text(data: Any = "words", media_type: Any = "text/plain") -> dict[str, Any]:
    return {"type": "text", "media_type": media_type, "data": data}


def params(*blocks: Any, model: str = NEW, **changes: Any) -> Any:
    content = [{"type": "text", "text": "Look:"}, *blocks]
    messages = [{"role": "user", "content": content}]
    return {"model": model, "max_tokens": 500, "messages": messages, **changes}


def client_of(emulator: Emulator) -> anthropic.Anthropic:
    web = httpx2.Client(transport=emulator.transport())
    return anthropic.Anthropic(api_key="k", http_client=web, max_retries=0)


# The SDK warns of models that go.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def refusal_of(row: Any) -> str:
    """Return the message that refuses a request at once, and its row in a batch."""
    client = client_of(Emulator(duration=0))
    sent: Any = [{"custom_id": "a", "params": row}]
    batch = client.messages.batches.create(requests=sent)
    (line,) = client.messages.batches.results(batch.id)
    assert line.result.type == "errored"
    assert line.result.error.error.type == "invalid_request_error"
    problem = line.result.error.error.message
    with pytest.raises(anthropic.BadRequestError, match=re.escape(problem)):
        client.messages.create(**row)
    return problem


def tokens_of(*blocks: Any, model: str = NEW, **changes: Any) -> int:
    """Return what blocks cost beside the text."""
    client = client_of(Emulator())
    bare: Usage = client.messages.create(**params(model=model)).usage
    usage: Usage = client.messages.create(**params(*blocks, model=model, **changes)).usage
    written = usage.cache_creation_input_tokens or 0
    return usage.input_tokens + written - bare.input_tokens


IMAGES = "'image/jpeg', 'image/png', 'image/gif' or 'image/webp'"


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ({"type": "image"}, "image.source: Field required"),
        (image("x"), "image.source: Input should be a valid dictionary"),
        (image({}), "image.source: Unable to extract tag using discriminator 'type'"),
        (
            image(text()),
            (
                "image.source: Input tag 'text' found using 'type' does not match any of the expected "
                "tags: 'base64', 'url', 'file'"
            ),
        ),
        (
            document({"type": "pdf"}),
            (
                "document.source: Input tag 'pdf' found using 'type' does not match any of the "
                "expected tags: 'base64', 'text', 'content', 'url', 'file'"
            ),
        ),
        (image({"type": "url"}), "image.source.url.url: Field required"),
        (
            image({"type": "base64", "data": "AAAA"}),
            "image.source.base64.media_type: Field required",
        ),
        (
            image({"type": "url", "url": URL, "detail": "low"}),
            "image.source.url.detail: Extra inputs are not permitted",
        ),
        (
            image(inline(PDF, "application/pdf")),
            f"image.source.base64.media_type: Input should be {IMAGES}",
        ),
        (
            document(inline(png(1, 1))),
            "document.source.base64.media_type: Input should be 'application/pdf'",
        ),
        (
            document(text(media_type="text/html")),
            "document.source.text.media_type: Input should be 'text/plain'",
        ),
        (
            image({"type": "base64", "media_type": "image/png", "data": 7}),
            "image.source.base64.data: Input should be a valid string",
        ),
        (
            image({"type": "base64", "media_type": "image/png", "data": "data:image/png;base64,A"}),
            "image.source.base64: invalid base64 data",
        ),
        (
            image({"type": "base64", "media_type": "image/png", "data": "é"}),
            "image.source.base64: invalid base64 data",
        ),
        (image(inline(b"")), "image.source.base64: image cannot be empty"),
        (
            document(inline(b"", "application/pdf")),
            "document.source.base64: PDF cannot be empty",
        ),
        (
            image(inline(gif(1, 1), "image/jpeg")),
            (
                "image.source.base64: The image was specified using the image/jpeg media type, but the "
                "image appears to be a image/gif image"
            ),
        ),
        (image(inline(PDF)), "image.source.base64: Could not process image"),
        (image(inline(b"<svg/>")), "image.source.base64: Could not process image"),
        (
            document(inline(png(1, 1), "application/pdf")),
            "document.source.base64: The PDF specified was not valid.",
        ),
        (document(text(7)), "document.source.text.data: Input should be a valid string"),
        (document(text("")), "document.source.text.data: String should have at least 1 character"),
        (
            image({"type": "url", "url": None}),
            "image.source.url.url: Input should be a valid string",
        ),
        (
            image({"type": "url", "url": "file:///etc/passwd"}),
            "image.source.url.url: Only HTTP and HTTPS URLs are supported",
        ),
        (
            document({"type": "url", "url": "https:///a.pdf"}),
            "document.source.url.url: Input should be a valid URL",
        ),
        (
            document({"type": "url", "url": "https://[a"}),
            "document.source.url.url: Input should be a valid URL",
        ),
        (
            image({"type": "file", "file_id": 7}),
            "image.source.file.file_id: Input should be a valid string",
        ),
        (
            document({"type": "file", "file_id": "file_011x"}),
            "document.source.file.file_id: File not found: file_011x",
        ),
        (
            document({"type": "content", "content": 7}),
            "document.source.content.content: Input should be a valid string or list",
        ),
        (
            document({"type": "content", "content": ""}),
            "document.source.content.content: String should have at least 1 character",
        ),
        (
            document({"type": "content", "content": ["x"]}),
            "document.source.content.content.0: Input should be a valid dictionary",
        ),
        (
            document({"type": "content", "content": [document(text())]}),
            (
                "document.source.content.content.0: Input tag 'document' found using 'type' does not "
                "match any of the expected tags: 'text', 'image'"
            ),
        ),
        (
            document({"type": "content", "content": [{"type": "text", "text": "x"}, image({})]}),
            (
                "document.source.content.content.1.image.source: Unable to extract tag using "
                "discriminator 'type'"
            ),
        ),
        (
            {"type": "tool_result", "tool_use_id": "t", "content": ["x", {}, image(inline(b"x"))]},
            "tool_result.content.2.image.source.base64: Could not process image",
        ),
    ],
)
def test_a_bad_block_is_refused(block: Any, problem: str) -> None:
    """At once in a message and as an errored row in a batch, with its place and the API's words."""
    assert refusal_of(params(block)) == f"messages.0.content.1.{problem}"


def test_documents_are_not_for_assistant_messages() -> None:
    """Since API version 2026-10-21; images are not meant."""
    said = {"role": "assistant", "content": [{"type": "text", "text": "x"}, document(text())]}
    messages = [*params()["messages"], said, *params()["messages"]]
    shown = {"role": "assistant", "content": [image({"type": "url", "url": URL})]}

    assert (
        refusal_of(params(messages=messages))
        == "messages.1.content.1: 'document' blocks are not permitted in assistant messages"
    )
    assert tokens_of(messages=[*params()["messages"], shown, *params()["messages"]]) > 0


def test_a_system_prompt_is_text() -> None:
    system = [{"type": "text", "text": "x"}, image({"type": "url", "url": URL})]

    assert refusal_of(params(system=system)) == "system.1.type: Input should be 'text'"


def test_token_counts_check_media_too() -> None:
    client = client_of(Emulator())
    with pytest.raises(anthropic.BadRequestError, match=r"image\.source: Field required"):
        client.messages.count_tokens(model=NEW, messages=params({"type": "image"})["messages"])


@pytest.mark.parametrize(
    ("make", "media_type"),
    [
        (png, "image/png"),
        (gif, "image/gif"),
        (jpeg, "image/jpeg"),
        (lossy, "image/webp"),
        (lossless, "image/webp"),
        (extended, "image/webp"),
    ],
)
@pytest.mark.parametrize(
    ("width", "height", "model", "tokens"),
    [
        (28, 28, NEW, 1),
        (29, 28, NEW, 2),
        (280, 57, NEW, 30),
        (280, 57, OLD, 30),
        (1_400, 1_400, NEW, 2_500),
        (1_400, 1_400, OLD, 1_568),
        (1_400, 1_400, "claude-opus-4-6", 1_568),
        (4_000, 4_000, "claude-opus-4-7", 4_784),
        (4_000, 4_000, "claude-mythos-preview", 4_784),
    ],
)
def test_an_image_costs_its_patches(
    make: Any, media_type: str, width: int, height: int, model: str, tokens: int
) -> None:
    """A token for each 28 x 28 pixels, up to what the model scales images down to."""
    assert tokens_of(image(inline(make(width, height), media_type)), model=model) == tokens


@pytest.mark.parametrize(
    "source",
    [
        {"type": "url", "url": URL},
        inline(png(0, 0)),
        inline(b"\x89PNG\r\n\x1a\n"),
        inline(b"\xff\xd8\xff\xe0\0\x06JFIF no frame", "image/jpeg"),
        inline(b"\xff\xd8\xff", "image/jpeg"),
        inline(webp(b"ALPH", b""), "image/webp"),
    ],
)
def test_an_image_of_unknown_size_costs_1500(source: Any) -> None:
    assert tokens_of(image(source)) == 1_500


@pytest.mark.parametrize(
    ("source", "tokens"),
    [
        (inline(PDF, "application/pdf"), 6_000),
        (inline(b"%PDF-1.7 compressed", "application/pdf"), 2_000),
        (inline(b"\xef\xbb\xbf\n" + PDF, "application/pdf"), 6_000),
        ({"type": "url", "url": "http://example.com/a.pdf"}, 2_000),
        (text("x" * 310), 100),
        (text("é" * 155), 100),
        (text("%PDF-1.7".ljust(310)), 100),
        ({"type": "content", "content": "x" * 310}, 100),
        (
            {
                "type": "content",
                "content": [{"type": "text", "text": "x" * 310}, image(inline(png(28, 28)))],
            },
            101,
        ),
    ],
)
def test_a_document_costs_its_pages_or_its_text(source: Any, tokens: int) -> None:
    assert tokens_of(document(source)) == tokens


def test_images_in_tool_results_count() -> None:
    shown = {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": [{"type": "text", "text": "x"}, image(inline(png(280, 280)))],
    }

    assert tokens_of(shown) == 100
    assert tokens_of({**shown, "content": "x"}) == 0


def test_media_can_be_cached() -> None:
    """A prefix is as large as what it holds, and the second request reads it."""
    marked = {**document(inline(PDF, "application/pdf")), "cache_control": {"type": "ephemeral"}}
    client = client_of(Emulator())
    first = client.messages.create(**params(marked)).usage
    second = client.messages.create(**params(marked)).usage

    assert first.cache_creation_input_tokens == second.cache_read_input_tokens
    assert first.cache_creation_input_tokens is not None
    assert 6_000 <= first.cache_creation_input_tokens < 6_100
    assert first.cache_creation_input_tokens + first.input_tokens == tokens_of(marked) + (
        client.messages.create(**params()).usage.input_tokens
    )
