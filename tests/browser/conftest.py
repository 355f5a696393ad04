"""A JupyterLab in Chromium over the emulator and a kernel, once for all tests; a notebook for each.

Without a browser the tests are skipped, and say so; with ``CBP_BROWSER=required`` they fail.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from claude_batch_pandas.emulator import Emulator, Rule, serve
from tests.browser.rig import PICTURES, Lab, Notebook, browser_path
from tests.conftest import lack, need

EVIL = "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>"
BEGIN = """
import pandas as pd
import claude_batch_pandas as cbp
cbp.options.reset()
cbp.options.poll_seconds = (0.1, 0.2)
cbp.options.canary = False
df = pd.DataFrame({{"text": [f"{name} row {{i:02d}}" for i in range(40)]}})
"""


@pytest.fixture(scope="module")
def emulator() -> Emulator:
    """Return an API that can end batches one after the other, and answer with markup."""
    later = [
        Rule(outcome="succeeded", contains=f"row {row} later", delay=row / 10.0)
        for row in range(10, 40)
    ]
    return Emulator(
        duration=1.0,
        rules=[
            Rule(outcome="succeeded", text=EVIL, contains="evil"),
            Rule(outcome="succeeded", contains="long", delay=600.0),
            *later,
        ],
    )


@pytest.fixture(scope="module")  # in the end, the loop that Playwright runs in this thread is gone
def lab(tmp_path_factory: pytest.TempPathFactory, emulator: Emulator) -> Iterator[Lab]:
    """Start everything once."""
    need("playwright", "jupyterlab")
    browser = browser_path()
    if browser is None:
        lack("there is no Chromium or Chrome on this machine")
    folder = tmp_path_factory.mktemp("lab")
    with serve(emulator=emulator) as url:
        environment = {
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": "none",
            "CLAUDE_BATCH_HOME": str(folder / "ledger"),
        }
        with Lab(folder, environment).open(browser) as opened:
            yield opened


@pytest.fixture
def open_notebook(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Callable[..., Notebook]]:
    """Return a function that opens a notebook whose rows are the test's own."""
    notebooks: list[Notebook] = []
    name = re.sub(r"\W+", " ", request.node.name.replace("_", " "))

    def opened(*cells: str) -> Notebook:
        notebooks.append(lab.notebook([BEGIN.format(name=name), *cells]))
        return notebooks[-1]

    PICTURES.mkdir(parents=True, exist_ok=True)
    yield opened
    lab.tab.screenshot(path=PICTURES / f"{request.node.name}.png")
    for notebook in notebooks:
        notebook.close()
