"""The notebooks are documentation: each runs from top to bottom, without a key, as it says.

Two tools run them with nobody there, nbconvert and papermill. They keep last cards, and pages that
ask nobody.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import pytest

from claude_batch_pandas import demo
from claude_batch_pandas.emulator import Emulator, serve
from tests.browser.rig import HOMES, browser_path
from tests.conftest import lack, need
from tests.test_security_display import Tags

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
RUNNERS = ("nbconvert", "papermill")

VIEW = "application/vnd.jupyter.widget-view+json"
CARD, PAGES = 'class="cbp-run', 'class="cbp-rows'
CARDS = {"quickstart": 4, "recipes": 0, "tour": 11}
OVER = re.compile(r"[\d,]+ succeeded(, [\d,]+ \w+)*; \$[\d.]+")
INLINE = re.compile(r'src="data:image/png;base64,[^"]*"')
STALE = re.compile(r"(?<![\d.,])0 ?%|Error displaying widget")
# What is asked after the last cell, where nbconvert runs it.
FACTS = {
    "quickstart": """{
    "sent": [len({request["custom_id"] for request in batch.requests})
             for batch in emulator.batches],
    "asked_first": sum(call.path == "/v1/messages" for call in emulator.calls),
    "questions": queries["text"].nunique(),
    "statuses": labelled["intent_status"].astype(str).tolist(),
    "intents": labelled["intent"].dropna().tolist(),
    "replies": int(replies["reply"].notna().sum()),
    "runs": cbp.runs()["state"].astype(str).tolist(),
}""",
    "recipes": """{
    "fields": scored.sort_values("score")["name"].tolist(),
    "kinds": sorted_mail["kind"].tolist(),
    "agreement": tagged["topics_agreement"].dropna().round(2).tolist(),
    "posts": checked["bad_status"].tolist(),
    "captions": captions.report().statuses,
    "files": len(emulator.files),
    "live": [call.path for call in emulator.calls].count("/v1/messages"),
    "headlines": shorter["headline_status"].unique().tolist(),
}""",
    "tour": """{
    "runs": cbp.runs()["name"].tolist(),
    "states": cbp.runs()["state"].unique().tolist(),
    "intents": sorted(found["intent"].unique()) == intents,
    "plots": [len(run.plot(what).table) for what in ("answers", "tokens", "dollars", "shards")],
    "repeated": odd.details()["text"].tolist(),
}""",
}


class Saved(NamedTuple):
    """A notebook that both tools have run: a file of each, and what was asked in the end."""

    name: str
    folder: Path
    facts: Any
    emulator: Emulator  # the server that was named, which only nbconvert's kernel found

    def outputs(self, runner: str) -> list[Any]:
        """Return all that the cells show."""
        return [output for cell in self.cells(runner) for output in cell.get("outputs", [])]

    def shown(self, runner: str) -> list[Any]:
        """Return what they show by media type."""
        return [output["data"] for output in self.outputs(runner) if "data" in output]

    def cells(self, runner: str) -> list[Any]:
        """Return the cells."""
        return list(read(self.folder / f"{runner}.ipynb").cells)


class Page(NamedTuple):
    """What a browser made of a saved page: what it asked for, what is read, what is in it."""

    asked: list[str]
    text: str
    cards: int
    images: int  # that are not in the page itself


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def write(notebook: Any, path: Path) -> None:
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """Run a notebook with both tools at once."""
    need(*RUNNERS)
    path: Path = request.param
    folder, emulator = tmp_path_factory.mktemp(path.stem), Emulator(speed=10)
    asking, ran = folder / "asking.ipynb", [str(folder / f"{name}.ipynb") for name in RUNNERS]
    _ask(path, asking)
    to = ["--to", "notebook", "--output", ran[0]]
    with (
        serve(emulator=emulator) as url,
        start(folder, "nbconvert", *to, "--execute", str(asking), ANTHROPIC_BASE_URL=url) as first,
        start(folder, "papermill", str(path), ran[1]) as second,
    ):
        codes = [first.wait(), second.wait()]
    assert codes == [0, 0], [log.read_text() for log in folder.glob("*.log")]
    return Saved(path.stem, folder, _answer(folder / "nbconvert.ipynb"), emulator)


def _ask(path: Path, asking: Path) -> None:
    """Write a notebook with one cell more, which tells the facts."""
    notebook = read(path)
    last = f"import json\nprint(json.dumps({FACTS[path.stem]}))"
    notebook.cells.append(nbformat.v4.new_code_cell(last))  # type: ignore[no-untyped-call]
    write(notebook, asking)


def _answer(path: Path) -> Any:
    """Take that cell away again; return what it told."""
    notebook = read(path)
    (output,) = notebook.cells.pop().outputs
    write(notebook, path)
    return json.loads(output.text)


def start(folder: Path, module: str, *arguments: str, **names: str) -> subprocess.Popen[bytes]:
    """Run a command of Jupyter's, at home in a folder of its own and without credentials."""
    theirs = ("ANTHROPIC_", "CLAUDE_BATCH_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    own = {name: str(folder / module / name.lower()) for name in (*HOMES, "CLAUDE_BATCH_HOME")}
    command = [sys.executable, "-m", module, *arguments]
    with (folder / f"{module}.log").open("wb") as log:
        environment = {**kept, **own, **names}
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def value_of(cell: Any) -> str:
    """Return what the last line of a cell gave, as text."""
    found = [output for output in cell.outputs if output.output_type == "execute_result"]
    return found[0].data["text/plain"] if found else ""


def only(name: str) -> pytest.MarkDecorator:
    """Give a test one of the notebooks."""
    return pytest.mark.parametrize("saved", [FOLDER / f"{name}.ipynb"], indirect=True, ids=[name])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_clean(path: Path) -> None:
    """No outputs, no counts, no state of widgets, and a kernel that everybody has."""
    notebook = read(path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]

    assert notebook.metadata.kernelspec.name == "python3"
    assert "widgets" not in notebook.metadata
    assert [cell.outputs for cell in code] == [[]] * len(code)
    assert {cell.execution_count for cell in code} == {None}


def test_every_notebook_is_run_by_a_test() -> None:
    """A new one gets a test of its own, which knows what it claims."""
    assert [path.stem for path in NOTEBOOKS] == ["quickstart", "recipes", "tour"]


@only("quickstart")
def test_the_quickstart_does_the_main_job(saved: Saved) -> None:
    """Every question is asked once, the gap never, and the rerun sends nothing."""
    found = saved.facts
    cells = saved.cells("nbconvert")
    values = {cell.source: value_of(cell) for cell in cells if cell.cell_type == "code"}

    assert found["questions"] == 39
    assert found["sent"] == [38, 38], "one batch for each of the two runs, but its first row"
    assert found["asked_first"] == 2
    assert sorted(set(found["statuses"])) == ["skipped", "succeeded"]
    assert found["statuses"].index("skipped") == 5
    assert len(found["statuses"]) == 42
    assert set(found["intents"]) <= set(demo.load_queries()["category"])
    assert found["replies"] == 41
    assert found["runs"] == ["ended", "ended"]
    assert values["again = queries.claude.batch(**call)\nagain.equals(labelled)"] == "True"
    assert values["len(emulator.batches)"] == "1"


@only("recipes")
def test_the_recipes_give_what_they_say(saved: Saved) -> None:
    """Each ends with its columns, and the rows that it tells of have the statuses it tells."""
    found = saved.facts

    assert found == {
        "fields": ["Bo", "Cy", "Ada"],
        "kinds": ["invoice", "complaint", "application"],
        "agreement": [1.0, 1.0, 0.67],
        "posts": ["succeeded", "succeeded", "refused"],
        "captions": {"succeeded": 2},
        "files": 2,
        "live": 4,  # three samples, and the canary of the run whose shape was not sampled
        "headlines": ["succeeded"],
    }


@only("tour")
def test_the_tour_shows_what_a_notebook_has(saved: Saved) -> None:
    """It asks the server that is named, and comes back for nothing; markup in an answer is kept."""
    found = dict(saved.facts)
    markup = found.pop("repeated")

    assert found == {
        "runs": ["repeated", "urgency", "summary", "team", "mood", "intent", "reply"],
        "states": ["ended"],
        "intents": True,
        "plots": [4, 15, 5, 4],
    }
    assert "onerror" in markup[0]
    assert "<script>" in markup[1]
    assert sorted(len(batch.requests) for batch in saved.emulator.batches) == [
        2,
        *[10] * 4,
        39,
        *[40] * 4,
    ]


@pytest.mark.parametrize("runner", RUNNERS)
def test_no_cell_fails(saved: Saved, runner: str) -> None:
    outputs = saved.outputs(runner)

    assert outputs
    assert not [output for output in outputs if output.output_type in {"error", "stream"}]


@pytest.mark.parametrize("runner", RUNNERS)
def test_every_card_is_the_last_one(saved: Saved, runner: str) -> None:
    """Also of a run that nobody waited for where its card is: no widget, and the closing line."""
    shown = saved.shown(runner)
    cards = [data for data in shown if CARD in data.get("text/html", "")]

    assert len(cards) == CARDS[saved.name]
    assert [data["text/plain"] for data in cards if VIEW in data] == []
    for data in cards:
        assert OVER.search(data["text/html"])
        assert OVER.match(data["text/plain"])


@pytest.mark.parametrize("runner", RUNNERS)
def test_nothing_shown_is_stale(saved: Saved, runner: str) -> None:
    """No bar that stands at nothing; where a widget is left, its first rows stand beside it."""
    shown = saved.shown(runner)

    assert not STALE.search(json.dumps(shown))
    assert all(PAGES in data["text/html"] for data in shown if VIEW in data)


@pytest.mark.parametrize("runner", RUNNERS)
def test_nothing_shown_loads_anything(saved: Saved, runner: str) -> None:
    """No script, and no address but a picture's own bytes; markup in an answer is text."""
    shown = saved.shown(runner)
    html = "".join(data.get("text/html", "") for data in shown)
    found = Tags(INLINE.sub("", html)).found

    assert not found & {"script", "iframe", "link", "object", "embed"}
    assert not [name for name in found if name.endswith((".src", ".srcset", ".href"))]
    assert not [data for data in shown if "application/javascript" in data]


def test_a_saved_page_asks_nobody(saved: Saved) -> None:
    """It shows every card, in a browser that is offline."""
    browser = browser_path()
    need("playwright")
    if browser is None:
        lack("there is no Chromium or Chrome on this machine")
    path = saved.folder / "nbconvert.html"
    path.write_text(html_of(saved.folder / "nbconvert.ipynb"), encoding="utf-8")
    page = look(path, browser)

    assert [url for url in page.asked if not url.startswith(("file:", *frame()))] == []
    assert page.cards == CARDS[saved.name]
    assert page.images == 0
    assert not STALE.search(page.text)


def html_of(path: Path) -> str:
    """Return the page that ``nbconvert --to html`` makes of a notebook."""
    from nbconvert import HTMLExporter

    made = HTMLExporter().from_filename(str(path))  # type: ignore[no-untyped-call]
    return str(made[0])


def frame() -> tuple[str, ...]:
    """Return the addresses of what nbconvert itself puts into its pages, and we cannot help.

    RequireJS and MathJax are in all of them; the manager of ipywidgets comes with any widget, such
    as that of `inspect`.
    """
    from nbconvert import HTMLExporter

    page = HTMLExporter()  # type: ignore[no-untyped-call]
    return page.require_js_url, page.mathjax_url, page.jupyter_widgets_base_url


def look(path: Path, browser: str) -> Page:
    """Open a page in a browser that reaches nobody."""
    from playwright.sync_api import sync_playwright

    asked: list[str] = []
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-dev-shm-usage"]
        with playwright.chromium.launch(executable_path=browser, args=flags) as launched:
            page = launched.new_context(offline=True).new_page()
            page.on("request", lambda request: asked.append(request.url))
            page.goto(path.as_uri(), wait_until="networkidle")
            images = page.locator(".jp-OutputArea img:not([src^='data:'])").count()
            cards = page.locator(".jp-OutputArea .cbp-run").count()
            return Page(asked, page.inner_text("body"), cards, images)
