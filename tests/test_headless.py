"""The notebooks with nobody at them: nbconvert and papermill keep last cards, and pages that ask nobody.

Without these tools, or without a browser for the pages, the tests are skipped, and say so; with
``CBP_BROWSER=required`` they fail.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import nbformat
import pytest

from claude_batch_pandas.emulator import Emulator, serve
from tests.browser.rig import HOMES, browser_path
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


class Page(NamedTuple):
    """What a browser made of a saved page: what it asked for, what is read, what is in it."""

    asked: list[str]
    text: str
    cards: int
    images: int  # that are not in the page itself


def miss(reason: str) -> NoReturn:
    """Skip, or fail where all of it is a must."""
    if os.environ.get("CBP_BROWSER") == "required":
        pytest.fail(f"The extra browser is required here, but {reason}.")
    pytest.skip(f"no notebook is run headless: {reason}")


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a notebook with both tools at once; return the folder with a file of each.

    A notebook that asks the server that is named finds one for nbconvert, and none for papermill.
    """
    for name in RUNNERS:
        if importlib.util.find_spec(name) is None:
            miss(f"{name} is not installed")
    folder = tmp_path_factory.mktemp(request.param.stem)
    ran, ours = [folder / f"{name}.ipynb" for name in RUNNERS], str(request.param)
    to = ["--to", "notebook", "--output", str(ran[0])]
    with (
        serve(emulator=Emulator(speed=2)) as url,
        start(folder, "nbconvert", *to, "--execute", ours, ANTHROPIC_BASE_URL=url) as nbconvert,
        start(folder, "papermill", ours, str(ran[1])) as papermill,
    ):
        codes = [nbconvert.wait(), papermill.wait()]
    assert codes == [0, 0], [log.read_text() for log in folder.glob("*.log")]
    return folder


def start(folder: Path, module: str, *arguments: str, **names: str) -> subprocess.Popen[bytes]:
    """Run a command of Jupyter's, at home in a folder of its own and without credentials."""
    theirs = ("ANTHROPIC_", "CLAUDE_BATCH_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    own = {name: str(folder / module / name.lower()) for name in (*HOMES, "CLAUDE_BATCH_HOME")}
    command = [sys.executable, "-m", module, *arguments]
    with (folder / f"{module}.log").open("wb") as log:
        environment = {**kept, **own, **names}
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def outputs_in(path: Path) -> list[Any]:
    """Return all that the cells of a saved notebook show."""
    notebook: Any = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def shown_in(path: Path) -> list[Any]:
    """Return what they show by media type."""
    return [output["data"] for output in outputs_in(path) if "data" in output]


@pytest.mark.parametrize("runner", RUNNERS)
def test_no_cell_fails(saved: Path, runner: str) -> None:
    outputs = outputs_in(saved / f"{runner}.ipynb")

    assert outputs
    assert not [output for output in outputs if output.output_type in {"error", "stream"}]


@pytest.mark.parametrize("runner", RUNNERS)
def test_every_card_is_the_last_one(
    saved: Path, runner: str, request: pytest.FixtureRequest
) -> None:
    """Also of a run that nobody waited for where its card is: no widget, and the closing line."""
    shown = shown_in(saved / f"{runner}.ipynb")
    cards = [data for data in shown if CARD in data.get("text/html", "")]

    assert len(cards) == CARDS[request.node.callspec.params["saved"].stem]
    assert [data["text/plain"] for data in cards if VIEW in data] == []
    for data in cards:
        assert OVER.search(data["text/html"])
        assert OVER.match(data["text/plain"])


@pytest.mark.parametrize("runner", RUNNERS)
def test_nothing_shown_is_stale(saved: Path, runner: str) -> None:
    """No bar that stands at nothing; where a widget is left, its first rows stand beside it."""
    shown = shown_in(saved / f"{runner}.ipynb")

    assert not STALE.search(json.dumps(shown))
    assert all(PAGES in data["text/html"] for data in shown if VIEW in data)


@pytest.mark.parametrize("runner", RUNNERS)
def test_nothing_shown_loads_anything(saved: Path, runner: str) -> None:
    """No script, and no address but a picture's own bytes; markup in an answer is text."""
    shown = shown_in(saved / f"{runner}.ipynb")
    html = "".join(data.get("text/html", "") for data in shown)
    found = Tags(INLINE.sub("", html)).found

    assert not found & {"script", "iframe", "link", "object", "embed"}
    assert not [name for name in found if name.endswith((".src", ".srcset", ".href"))]
    assert not [data for data in shown if "application/javascript" in data]


def test_a_saved_page_asks_nobody(saved: Path, request: pytest.FixtureRequest) -> None:
    """It shows every card, in a browser that is offline."""
    browser = browser_path()
    if browser is None or importlib.util.find_spec("playwright") is None:
        miss("there is no Chromium or Chrome on this machine, or no Playwright")
    path = saved / "nbconvert.html"
    path.write_text(html_of(saved / "nbconvert.ipynb"), encoding="utf-8")
    page = look(path, browser)

    assert [url for url in page.asked if not url.startswith(("file:", *frame()))] == []
    assert page.cards == CARDS[request.node.callspec.params["saved"].stem]
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
