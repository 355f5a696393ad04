"""The notebook's bar: drawn live, replaced by text that survives, and gone afterwards."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import IPython.display
import ipywidgets
import nbformat
import pytest
from ipywidgets.widgets import widget as registry
from nbclient import NotebookClient

from claude_batch_pandas import session
from claude_batch_pandas.emulator import Emulator, serve
from claude_batch_pandas.progress import Lines
from claude_batch_pandas.records import Counts, Progress, RunState
from claude_batch_pandas.widgets import NotebookBar, in_notebook

RUNNING = Progress(
    run_id="20270115-answer-aaaa",
    name="answer",
    state=RunState.IN_PROGRESS,
    rows=30,
    requests=30,
    shards=3,
    submitted=3,
    ended=1,
    counts=Counts(processing=30),
    elapsed=60.0,
)
OVER = replace(RUNNING, state=RunState.ENDED, ended=3, summary="30 succeeded; $0.01; run x")


def html_of(shown: Any) -> str:
    """Return the HTML that a notebook would keep of what was displayed."""
    html = shown._repr_html_()
    assert isinstance(html, str)
    return html


class Handle:
    """What IPython gives for an output that can be updated."""

    def __init__(self) -> None:
        self.updates: list[Any] = []

    def update(self, shown: Any) -> None:
        """Replace the output."""
        self.updates.append(shown)


class Cell:
    """A cell without a front end: what was displayed in it, and its handles."""

    def __init__(self) -> None:
        self.shown: list[Any] = []
        self.handles: list[Handle] = []

    def display(self, shown: Any, *, display_id: bool = False) -> Handle | None:
        """Stand in for IPython's display, which does nothing outside a kernel."""
        self.shown.append(shown)
        if not display_id:
            return None
        self.handles.append(Handle())
        return self.handles[-1]

    @property
    def bar(self) -> Any:
        """The bar in the last box that was displayed."""
        return self.shown[-1].children[0]

    @property
    def label(self) -> Any:
        """The label beside it."""
        return self.shown[-1].children[1]


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cell]:
    """Return a cell to draw in; no widget of an earlier test is alive."""
    drawn = Cell()
    monkeypatch.setattr(IPython.display, "display", drawn.display)
    yield drawn
    ipywidgets.Widget.close_all()


def test_the_bar_moves_by_shards(cell: Cell) -> None:
    """One box with a bar and a line of text, whose traits follow the progress."""
    bar = NotebookBar()
    bar(RUNNING)
    first = (cell.bar.value, cell.bar.max, cell.label.value)
    bar(replace(RUNNING, ended=2, shards=4, note="waiting for the queue"))

    assert len(cell.shown) == 1
    assert first[:2] == (1, 3)
    assert first[2].startswith("run 20270115-answer-aaaa: in progress at the API; 1 of 3 shards")
    assert first[2].endswith("(interrupt detaches)")
    assert (cell.bar.value, cell.bar.max) == (2, 4)
    assert "waiting for the queue" in cell.label.value
    assert "cbp-run" in cell.shown[0]._dom_classes
    assert cell.handles[0].updates == []


def test_a_run_without_shards_has_a_bar_too(cell: Cell) -> None:
    """Nothing of nothing is shown without an error."""
    NotebookBar()(replace(RUNNING, shards=0, submitted=0, ended=0))

    assert (cell.bar.value, cell.bar.max) == (0, 1)


@pytest.mark.parametrize("over", [OVER, replace(RUNNING, state=RunState.PAUSED, note="no credit")],
                         ids=["ended", "paused"])  # fmt: skip
def test_at_the_end_the_bar_becomes_text(over: Progress, cell: Cell) -> None:
    """Static HTML in the same output, which a saved notebook keeps."""
    bar = NotebookBar()
    bar(RUNNING)
    bar(over)
    (text,) = cell.handles[0].updates

    assert "cbp-run" in html_of(text)
    assert (over.summary or "no credit") in html_of(text)
    assert len(cell.shown) == 1


def test_a_run_that_is_over_at_once_shows_only_text(cell: Cell) -> None:
    """The same cell again needs no widget."""
    NotebookBar()(OVER)

    (text,) = cell.shown
    assert OVER.summary in html_of(text)
    assert not registry._instances


@pytest.mark.parametrize("field", ["summary", "note", "run_id"])
def test_text_of_others_is_escaped(field: str, cell: Cell) -> None:
    """An error message of a server, or a name, never becomes markup."""
    evil = "<img src=x onerror=\"alert('1')\">&"
    values: dict[str, Any] = {"summary": "", field: evil}
    bar = NotebookBar()
    bar(RUNNING)
    bar(replace(OVER, **values))
    html = html_of(cell.handles[0].updates[0])

    assert "<img" not in html
    assert "&lt;img src=x onerror=&quot;alert(&#x27;1&#x27;)&quot;&gt;&amp;" in html


def test_live_text_is_no_markup(cell: Cell) -> None:
    """A label shows its value as it is; an HTML widget would run it."""
    NotebookBar()(replace(RUNNING, note="<b>x</b>"))

    assert type(cell.label) is ipywidgets.Label
    assert "<b>x</b>" in cell.label.value


def test_no_widget_is_left(cell: Cell) -> None:
    """A kernel that runs for days holds no closed bars."""
    before = set(registry._instances)
    bar = NotebookBar()
    bar(RUNNING)
    live = set(registry._instances) - before
    bar(OVER)

    assert live
    assert set(registry._instances) == before


def test_a_bar_can_be_used_again(cell: Cell) -> None:
    """Waiting once more after a pause or a retry draws again, in the same place or a new one."""
    bar = NotebookBar()
    bar(RUNNING)
    bar(replace(RUNNING, state=RunState.PAUSED, note="no credit"))
    bar(replace(RUNNING, ended=2))
    bar(OVER)
    updates = [update for handle in cell.handles for update in handle.updates]

    assert html_of(updates[-1]).count("30 succeeded") == 1


def test_a_handle_can_be_given(cell: Cell) -> None:
    """The bar is drawn into an output that exists, and the text after it."""
    handle = Handle()
    bar = NotebookBar(handle)
    bar(RUNNING)
    bar(OVER)

    assert cell.shown == []
    assert isinstance(handle.updates[0], ipywidgets.Widget)
    assert "30 succeeded" in html_of(handle.updates[-1])


def test_a_script_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """With or without IPython installed, imported, or run in a terminal."""

    class Shell:
        """IPython in a terminal: a shell without a kernel."""

    class Kernel(Shell):
        kernel = object()

    found = [in_notebook()]
    for shell in (None, Shell(), Kernel()):
        monkeypatch.setattr(IPython, "get_ipython", lambda shell=shell: shell)
        found.append(in_notebook())
    bar = session.hook_for("auto")
    monkeypatch.delitem(sys.modules, "IPython")
    found.append(in_notebook())

    assert found == [False, False, False, True, False]
    assert isinstance(bar, NotebookBar)
    assert isinstance(session.hook_for("log"), Lines)


CODE = """
import pandas as pd
import claude_batch_pandas as cbp
cbp.options.poll_seconds = (0.05, 0.1)
df = pd.DataFrame({"text": ["Where is my card?", "I lost my card!"]})
out = df.claude.batch("{text}", output="intent")
print(out["intent_status"].tolist())
"""


def test_a_cell_of_a_real_kernel_shows_a_run(
    jupyter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A live widget while it runs, text with the closing line after it, and no error."""
    emulator = Emulator(duration=1.5)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)])  # type: ignore[no-untyped-call]
    with serve(emulator=emulator) as url:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
        where = {"metadata": {"path": str(jupyter)}}
        client = NotebookClient(notebook, timeout=60, kernel_name="python3", resources=where)
        client.execute()
    outputs = notebook.cells[0].outputs
    shown = [output["data"] for output in outputs if output.output_type == "display_data"]
    models = [state["_model_name"] for state in client.widget_state.values()]

    assert not any(output.output_type == "error" for output in outputs)
    assert [output.text for output in outputs if output.get("name") == "stdout"] == [
        "['succeeded', 'succeeded']\n"
    ]
    assert not any(output.get("name") == "stderr" for output in outputs)
    assert len(shown) == 1
    assert "cbp-run" in shown[0]["text/html"]
    assert "2 succeeded; $" in shown[0]["text/html"]
    assert "application/vnd.jupyter.widget-view+json" not in shown[0]
    assert "IntProgressModel" in models
    assert sum(batch.total for batch in emulator.batches) == 2
