"""Images and documents: each row its own file, found out by its bytes, and named when it is not there."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import anthropic
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import claude_batch_pandas as cbp
from claude_batch_pandas import pictures
from claude_batch_pandas.abilities import OLD_SIGHT, Sight
from claude_batch_pandas.blocks import Loader, Media, image_type
from claude_batch_pandas.emulator import Emulator
from claude_batch_pandas.slots import UnfitError
from tests.conftest import JumpingClock

PDF = b"%PDF-1.4\n1 0 obj<</Type /Page>>endobj\ntrailer<<>>\n%%EOF"


def pixels(kind: str = "PNG", size: tuple[int, int] = (4, 3), color: str = "red") -> bytes:
    """Return an image."""
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, kind)
    return file.getvalue()


def block(media: Media, cell: Any, sight: Sight = OLD_SIGHT) -> dict[str, Any]:
    """Return the block of a cell."""
    found: dict[str, Any] = json.loads(Loader(sight).block(media, cell))
    return found


def data_of(found: dict[str, Any]) -> bytes:
    """Return the bytes in a block."""
    return base64.b64decode(found["source"]["data"])


@pytest.mark.parametrize(
    ("kind", "media_type"),
    [("PNG", "png"), ("JPEG", "jpeg"), ("GIF", "gif"), ("WEBP", "webp")],
)
def test_the_bytes_tell_what_an_image_is(kind: str, media_type: str, tmp_path: Path) -> None:
    """A name that says otherwise changes nothing."""
    path = tmp_path / "wrong.txt"
    path.write_bytes(pixels(kind))
    found = block(cbp.image("x"), str(path))

    assert found["type"] == "image"
    assert found["source"]["media_type"] == f"image/{media_type}"
    assert data_of(found) == path.read_bytes()
    assert image_type(path.read_bytes()) == f"image/{media_type}"


def test_every_kind_of_cell_becomes_an_image(tmp_path: Path) -> None:
    """Paths, bytes, Pillow images and arrays; an address and a file's id are only passed on."""
    (tmp_path / "a.png").write_bytes(pixels())
    media = cbp.image("x")

    assert data_of(block(media, tmp_path / "a.png")) == pixels()
    assert data_of(block(media, pixels())) == pixels()
    for cell in (Image.new("RGB", (2, 2), "blue"), np.zeros((2, 2, 3), dtype=np.uint8)):
        with Image.open(io.BytesIO(data_of(block(media, cell)))) as made:
            assert (made.size, made.format) == ((2, 2), "PNG")
    with Image.open(io.BytesIO(data_of(block(media, np.ones((2, 3)))))) as made:
        assert (made.size, made.getpixel((0, 0))) == ((3, 2), 255)
    address = "https://example.com/a.png"
    assert block(media, address)["source"] == {"type": "url", "url": address}
    assert block(media, "file_011CNha8iCJcU1wX")["source"]["file_id"] == "file_011CNha8iCJcU1wX"


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("no/such.png", r"there is no file 'no/such.png'"),
        (b"nothing", "'image' is no image; the API reads PNG, JPEG, GIF or WebP"),
        (b"", "it holds no bytes"),
        (3.5, "a float is no image; use a path, an address or bytes"),
        (np.zeros((2, 2, 7), dtype=np.uint8), r"an array of shape \(2, 2, 7\) is no image"),
        (pixels()[:40], "the image cannot be read"),
        ("bad\0name", "its text is no path of a file"),
        ("Dear Sir, this is a long text and no path at all.", "its text is no path of a file"),
    ],
)
def test_what_is_no_image_says_so(cell: Any, why: str) -> None:
    with pytest.raises(UnfitError, match=why):
        block(cbp.image("x"), cell)


def test_a_large_image_is_made_as_large_as_the_model_sees() -> None:
    """The API would scale it down as well, after it was uploaded and counted."""
    loader = Loader(OLD_SIGHT)
    found = json.loads(loader.block(cbp.image("x"), pixels(size=(4000, 1000))))

    with Image.open(io.BytesIO(data_of(found))) as made:
        assert made.size == (1568, 392)
    assert loader.scaled == 1
    loader.block(cbp.image("x"), pixels(size=(1000, 1000)))
    assert loader.scaled == 1


def test_an_image_stays_within_the_tokens_the_model_sees() -> None:
    width, height = pictures._fitting(1568, 1568, OLD_SIGHT)
    assert -(-width // 28) * -(-height // 28) <= 1568
    assert width > 1050


def test_without_pillow_images_pass_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra; what needs it says how to get it."""
    monkeypatch.setattr(pictures, "is_available", lambda: False)
    assert data_of(block(cbp.image("x"), pixels(size=(4000, 1000)))) == pixels(size=(4000, 1000))
    with pytest.raises(UnfitError, match=r"needs Pillow: pip install 'claude-batch-pandas\[images"):
        block(cbp.image("x"), np.zeros((2, 2, 3), dtype=np.uint8))
    with pytest.raises(UnfitError, match=r"more than the API takes; pip install"):
        block(cbp.image("x"), pixels() + b"\0" * 5_000_001)


def test_documents_are_pdfs_or_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(PDF)
    found = block(cbp.document("x"), str(path))
    assert found["source"]["media_type"] == "application/pdf"
    assert data_of(found) == PDF
    text = block(cbp.document("x"), b"\xef\xbb\xbfcaf\xc3\xa9")
    assert text["source"] == {"type": "text", "media_type": "text/plain", "data": "café"}
    with pytest.raises(UnfitError, match="'document' is neither a PDF nor UTF-8 text"):
        block(cbp.document("x"), b"\xff\xfe\x00")
    with pytest.raises(UnfitError, match=r"is a folder, not a file"):
        block(cbp.document("x"), tmp_path)
    with pytest.raises(UnfitError, match=r"'document' is empty"):
        block(cbp.document("x"), b"  \n")


# Through the whole way


@pytest.fixture
def photos(tmp_path: Path) -> pd.DataFrame:
    """Return a frame of three photos, one of which is not there."""
    for name, color in (("a", "red"), ("b", "blue")):
        (tmp_path / f"{name}.png").write_bytes(pixels(color=color))
    paths = [str(tmp_path / f"{name}.png") for name in ("a", "gone", "b")]
    return pd.DataFrame({"photo": [*paths, None], "shop": ["x", "y", "z", "w"]}, index=[1, 1, 2, 3])


def test_each_row_sends_its_own_image(
    photos: pd.DataFrame, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    out = photos.claude.batch(
        ["What is this in {shop}?", cbp.image("photo")], output="what", client=client
    )

    assert out["what_status"].tolist() == ["succeeded", "invalid", "succeeded", "skipped"]
    assert "there is no file" in out["what_error"].iloc[1]
    assert "gone.png" in out["what_error"].iloc[1]
    asked = [request["params"]["messages"][0]["content"] for request in _requests(emulator)]
    assert [content[0]["text"] for content in asked] == ["What is this in x?", "What is this in z?"]
    sent = [base64.b64decode(content[1]["source"]["data"]) for content in asked]
    assert sent == [pixels(color="red"), pixels(color="blue")]
    calls = len(emulator.calls)
    again = photos.claude.batch(
        ["What is this in {shop}?", cbp.image("photo")], output="what", client=client
    )
    pd.testing.assert_frame_equal(out, again)
    assert len(emulator.calls) == calls


def test_a_run_is_joined_again_in_another_kernel(
    photos: pd.DataFrame, client: anthropic.Anthropic
) -> None:
    """What the template was is kept, images and all."""
    run = photos.claude.submit([cbp.image("photo"), "What is this?"], client=client)
    out = run.result(photos)
    later = cbp.run(run.id, client=client).result(photos.iloc[::-1])
    differs = ["answer_error"]  # which tells where the row stands
    pd.testing.assert_frame_equal(out.drop(columns=differs), later.iloc[::-1].drop(columns=differs))


def test_a_shared_document_is_sent_once_with_upload(
    tmp_path: Path, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    """Many rows share a PDF: one upload, and the same requests on every rerun."""
    (tmp_path / "rules.pdf").write_bytes(PDF)
    df = pd.DataFrame({"path": [str(tmp_path / "rules.pdf")] * 3, "q": ["Who?", "When?", "Why?"]})
    template = [cbp.document("path"), "{q}"]
    df.claude.batch(template, upload=True, client=client)

    uploads = [call for call in emulator.calls if call.path == "/v1/files"]
    assert len(uploads) == 1
    blocks = [request["params"]["messages"][0]["content"][0] for request in _requests(emulator)]
    assert len({json.dumps(block) for block in blocks}) == 1
    assert blocks[0]["source"]["type"] == "file"
    calls = len(emulator.calls)
    df.claude.batch(template, upload=True, client=client)
    assert len(emulator.calls) == calls


def test_one_image_for_all_rows(
    tmp_path: Path, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    (tmp_path / "logo.png").write_bytes(pixels())
    df = pd.DataFrame({"q": ["Color?", "Shape?"]})
    logo = cbp.image(tmp_path / "logo.png")
    out = df.claude.batch([logo, "{q}"], client=client)
    assert out["answer_status"].tolist() == ["succeeded"] * 2
    with pytest.raises(cbp.InputError, match=r"image that all rows share .* no file 'none.png'"):
        df.claude.batch([cbp.image(Path("none.png")), "{q}"], client=client)


def test_an_image_column_that_is_not_there_is_told(client: anthropic.Anthropic) -> None:
    df = pd.DataFrame({"photo": ["a.png"]})
    with pytest.raises(cbp.InputError, match=r"'foto'.*Did you mean 'photo'"):
        df.claude.batch(["x", cbp.image("foto")], client=client)


def test_a_scaled_image_is_said(tmp_path: Path, client: anthropic.Anthropic) -> None:
    (tmp_path / "a.png").write_bytes(pixels(size=(6000, 200)))
    df = pd.DataFrame({"photo": [tmp_path / "a.png"]})
    with pytest.warns(UserWarning, match=r"1 image .* larger than claude-haiku-5-5 sees .* scaled"):
        df.claude.batch([cbp.image("photo"), "What?"], client=client)


def test_a_preview_shows_images_and_sends_nothing(
    photos: pd.DataFrame, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    shown = photos.claude.preview([cbp.image("photo"), "What?"], n=2, upload=True, client=client)
    source = shown.requests[0]["messages"][0]["content"][0]["source"]
    assert source == {"type": "file", "file_id": "file_to-be-uploaded"}
    assert "gone.png" in shown.notes[0]
    assert emulator.calls == []


def test_no_error_and_no_ledger_shows_a_text(client: anthropic.Anthropic, home: Path) -> None:
    """Whoever names the wrong column finds its texts nowhere but in the frame."""
    words = "The patient Jane Roe, born 1970, was treated for a cold."
    df = pd.DataFrame({"text": [words, words + "/a.b c", f"{words}\n.txt"]})
    out = df.claude.batch([cbp.document("text"), "Sum up"], client=client)
    assert out["answer_status"].tolist() == ["invalid"] * 3
    assert out["answer_error"].str.contains("name the column that holds paths").all()
    for path in home.rglob("*"):
        assert path.is_dir() or b"Jane Roe" not in path.read_bytes(), path


def test_a_photo_stays_upright() -> None:
    """Its tags, which say which way is up, do not survive scaling."""
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (4000, 1000)).save(file, "JPEG", exif=exif)
    with Image.open(io.BytesIO(data_of(block(cbp.image("x"), file.getvalue())))) as made:
        assert made.size == (392, 1568)


@pytest.mark.parametrize("pixel", [7.0, float("nan"), -0.1])
def test_floats_that_are_no_pixels_are_refused(pixel: float) -> None:
    with pytest.raises(UnfitError, match="floats is an image when all are from 0 to 1"):
        block(cbp.image("x"), np.full((2, 2), pixel))


def test_an_image_for_print_is_sent_as_one_for_screens() -> None:
    assert block(cbp.image("x"), Image.new("CMYK", (2, 2)))["source"]["media_type"] == "image/png"


def test_a_file_that_was_deleted_is_sent_again(
    tmp_path: Path, client: anthropic.Anthropic, emulator: Emulator, clock: JumpingClock
) -> None:
    (tmp_path / "a.pdf").write_bytes(PDF)
    df = pd.DataFrame({"path": [str(tmp_path / "a.pdf")]})
    df.claude.batch([cbp.document("path"), "Who?"], upload=True, client=client)
    (stored,) = client.files.list().data
    client.files.delete(stored.id)
    clock.advance(7200.0)
    out = df.claude.batch([cbp.document("path"), "When?"], upload=True, output="b", client=client)
    assert out["b_status"].tolist() == ["succeeded"]
    assert [file.id for file in client.files.list().data] != [stored.id]


def test_a_function_may_return_images(
    photos: pd.DataFrame, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    out = photos.claude.batch(lambda row: [f"In {row.shop}?", cbp.image(row.photo)], client=client)
    assert out["answer_status"].tolist() == ["succeeded", "invalid", "succeeded", "skipped"]
    blocks = [request["params"]["messages"][0]["content"][1] for request in _requests(emulator)]
    assert data_of(blocks[1]) == pixels(color="blue")


def test_files_make_a_frame(tmp_path: Path) -> None:
    """Texts are there to be used in a template, PDFs to be sent whole."""
    (tmp_path / "b.md").write_text("# B")
    (tmp_path / "a.html").write_text("<p>ä</p>")
    (tmp_path / "c.pdf").write_bytes(PDF)
    (tmp_path / "d.exe").write_bytes(b"\0")
    df = cbp.documents(tmp_path)

    assert [Path(path).name for path in df["path"]] == ["a.html", "b.md", "c.pdf"]
    assert df["text"].tolist()[:2] == ["<p>ä</p>", "# B"]
    assert pd.isna(df["text"].iloc[2])
    assert df["bytes"].tolist() == [9, 3, len(PDF)]
    assert str(df["modified"].dtype).startswith("datetime64")
    assert len(cbp.documents(f"{tmp_path}/*.md")) == 1
    with pytest.raises(cbp.InputError, match=r"There is no file .*x\.txt', and nothing of"):
        cbp.documents(tmp_path / "x.txt")
    (tmp_path / "e.txt").write_bytes(b"\xff\xfe")
    with pytest.warns(UserWarning, match="neither a PDF nor UTF-8 text: its text is missing"):
        odd = cbp.documents(tmp_path / "e.txt")
    assert pd.isna(odd["text"].iloc[0])


@pytest.mark.parametrize("what", ["", None])
def test_an_image_of_nothing_is_refused(what: Any) -> None:
    with pytest.raises(cbp.InputError, match=r"image\(\) takes the name of a column"):
        cbp.image(what)
    with pytest.raises(cbp.InputError, match=r"upload must be True or False"):
        cbp.image("x", upload=1)  # type: ignore[arg-type]


def _requests(emulator: Emulator) -> list[dict[str, Any]]:
    return [request for batch in emulator.batches for request in batch.requests]
