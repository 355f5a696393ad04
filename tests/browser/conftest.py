"""A JupyterLab in Chromium over the emulator, once for all tests, and a notebook for each.

Without a browser the tests are skipped, and say so; with ``CBP_BROWSER=required`` they fail.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest

from claude_batch_pandas.emulator import Emulator, Rule, serve
from tests.browser.rig import PICTURES, Lab, Notebook, browser_path

EVIL = "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>"
BEGIN = """
import pandas as pd
import claude_batch_pandas as cbp
cbp.options.poll_seconds = (0.1, 0.2)
cbp.options.canary = False
df = pd.DataFrame({{"text": [f"{name} row {{i:02d}}" for i in range(40)]}})
"""


@pytest.fixture(scope="module")  # in the end, the loop that Playwright runs in this thread is gone
def emulator() -> Emulator:
    """Return an API whose batches end one after the other, and one of whose answers is markup."""
    later = [
        Rule(outcome="succeeded", contains=f"row {tens}", delay=float(tens)) for tens in (1, 2, 3)
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
    for name in ("playwright", "jupyterlab"):
        if importlib.util.find_spec(name) is None:
            _miss(f"{name} is not installed")
    browser = browser_path()
    if browser is None:
        _miss("there is no Chromium or Chrome on this machine")
    folder = tmp_path_factory.mktemp("lab")
    with serve(emulator=emulator) as url:
        environment = {
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": "none",
            "CLAUDE_BATCH_HOME": str(folder / "ledger"),
        }
        with Lab(folder, environment).open(browser) as opened:
            yield opened


def _miss(reason: str) -> NoReturn:
    """Skip, or fail where a browser is a must."""
    if os.environ.get("CBP_BROWSER") == "required":
        pytest.fail(f"A browser is required here, but {reason}.")
    pytest.skip(f"no test in a browser: {reason}")


@pytest.fixture
def open_notebook(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Callable[..., Notebook]]:
    """Return a function that opens a notebook whose rows are the test's own."""
    page = lab.new_tab()
    tabs = page.context
    name = re.sub(r"\W+", " ", request.node.name.replace("_", " "))

    def opened(*cells: str) -> Notebook:
        return lab.notebook(page, [BEGIN.format(name=name), *cells])

    PICTURES.mkdir(parents=True, exist_ok=True)
    yield opened
    tab = tabs.pages[-1]  # a test may have closed the first
    tab.screenshot(path=PICTURES / f"{request.node.name}.png")
    tab.close()
