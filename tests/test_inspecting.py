"""Row by row: what was sent and what came back, each row its own, and nothing of it as markup."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import IPython.display
import ipywidgets
import pandas as pd
import pytest
from PIL import Image

import claude_batch_pandas as cbp
from claude_batch_pandas import widgets
from claude_batch_pandas.emulator import Emulator, Rule
from claude_batch_pandas.inspecting import Inspection
from claude_batch_pandas.markup import images_html
from tests.conftest import JumpingClock


@pytest.fixture
def run(clock: JumpingClock, connect: Any) -> Any:
    """Return a finished run with a duplicate, a gap, a refusal and markup."""
    rules = [
        Rule(outcome="refusal", contains="bad"),
        Rule(outcome="succeeded", text="<script>alert(1)</script>", contains="markup"),
    ]
    emulator = Emulator(clock=clock.now, rules=rules)
    texts = ["one", "bad", None, "markup", "one", *(f"row {i}" for i in range(7))]
    frame: Any = pd.DataFrame({"text": texts}, index=[*"aabbc", *range(7)])
    return frame.claude.submit("Say {text}", shard_size=3, client=connect(emulator)).wait()


def rows_of(run: Any) -> Inspection:
    labels = [*map(str, run.result().index)]
    return Inspection(run._record, run._engine, labels)


def test_each_row_shows_its_own_request_and_answer(run: Any) -> None:
    rows, out = rows_of(run), run.result()
    assert len(rows) == 12
    for i, text in enumerate(["one", "bad", None, "markup", "one", "row 0", "row 1"]):
        shown = rows.text(i)
        assert f"row: {i} ({out.index[i]}): {out['answer_status'].iloc[i]}" in shown
        if text is None:
            assert "sent: Nothing was sent for this row." in shown
        else:
            assert f'"content": "Say {text}"' in shown
    assert f"answer: {out['answer'].iloc[0]}" in rows.text(0)
    assert "tokens read" in rows.text(0)
    assert "error: the model refused" in rows.text(1)


def test_rows_are_found_by_status_and_words(run: Any) -> None:
    rows = rows_of(run)
    assert rows.statuses == ["succeeded", "refused", "skipped"]
    assert rows.find("refused") == [1]
    assert rows.find("succeeded", "SCRIPT") == [3]
    assert rows.find(words="missing a value") == [2]
    assert rows.find("skipped", "alert") == []


def test_what_a_model_wrote_is_text(run: Any) -> None:
    html = rows_of(run).html(3)
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<script" not in rows_of(run).first_html()


def test_a_run_without_its_requests_says_so(queries: pd.DataFrame, client: Any) -> None:
    frame: Any = queries
    run = frame.claude.submit("{text}", keep_requests=False, client=client).wait()
    assert "sent: The request is not on this disk." in rows_of(run).text(0)


def test_images_are_shown_as_they_were_sent(client: Any) -> None:
    """From the request itself; an address is shown as text, since showing it would ask for it."""
    picture = Image.new("RGB", (30, 20), "red")
    frame: Any = pd.DataFrame({"photo": [picture, "https://example.com/a.png"]})
    run = frame.claude.submit(["What is it?", cbp.image("photo")], client=client).wait()
    first, second = (rows_of(run).html(i) for i in (0, 1))
    data = first.partition('src="data:image/png;base64,')[2].partition('"')[0]
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (30, 20)
    assert 'alt="image 1 of the request"' in first
    assert "<img" not in second
    assert "https://example.com/a.png" in second
    preview = frame.claude.preview(["What is it?", cbp.image("photo")], client=client)
    assert preview._repr_html_().count("<img") == 1


@pytest.mark.parametrize("source", [
    {"type": "base64", "media_type": "image/svg+xml", "data": "AAAA"},
    {"type": "base64", "media_type": "image/png", "data": '"><script>'},
    {"type": "base64", "media_type": "image/png", "data": "A" * 2_000_000},
    {"type": "url", "url": "https://example.com/a.png"},
    {"type": "base64"},
])  # fmt: skip
def test_what_is_no_small_image_is_no_image(source: dict[str, str]) -> None:
    assert images_html({"messages": [{"content": [{"type": "image", "source": source}]}]}) == ""


def test_outside_of_notebooks_the_first_rows_are_printed(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run.inspect()
    printed = capsys.readouterr().out
    assert printed.startswith(f"The first 5 of 12 rows of run {run.id}.")
    assert printed.count("sent: ") == 5


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Return what is displayed, as in a notebook."""
    drawn: list[Any] = []
    ipywidgets.Widget.close_all()  # those of other tests
    monkeypatch.setattr(IPython.display, "display", drawn.append)
    monkeypatch.setattr(widgets, "in_notebook", lambda: True)
    yield drawn
    ipywidgets.Widget.close_all()


def find(kind: Any, description: str = "") -> Any:
    from ipywidgets.widgets.widget import _instances

    found = [w for w in _instances.values() if type(w) is kind]
    return next(w for w in found if getattr(w, "description", "") == description)


def test_a_notebook_pages_through_the_rows(run: Any, shown: list[Any]) -> None:
    run.inspect()
    page = find(ipywidgets.HTML)
    assert "Say one" in page.value
    find(ipywidgets.Button, "Next").click()
    assert "Say bad" in page.value
    for _ in range(30):
        find(ipywidgets.Button, "Next").click()
    assert "Say row 6" in page.value
    assert find(ipywidgets.Label).value == "12 of 12"
    find(ipywidgets.Dropdown, "status").value = "refused"
    assert "Say bad" in page.value
    assert find(ipywidgets.Label).value == "1 of 1"
    find(ipywidgets.Text).value = "nowhere"
    assert page.value == "<p>No row is like that.</p>"
    find(ipywidgets.Button, "Back").click()
    (bundle,) = shown
    assert "The first 5 of 12 rows" in bundle._repr_mimebundle_()["text/html"]


def test_a_purged_run_has_no_rows(run: Any) -> None:
    run.purge()
    with pytest.raises(cbp.InputError, match="was purged: its answers are gone"):
        run.inspect()
