"""The run card: drawn live, replaced by HTML that survives, and gone afterwards."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import IPython.display
import ipywidgets
import nbformat
import pytest
from ipywidgets.widgets import widget as registry
from nbclient import NotebookClient

from claude_batch_pandas import displays
from claude_batch_pandas.cards import Card
from claude_batch_pandas.emulator import Emulator, serve
from claude_batch_pandas.exceptions import LedgerError
from claude_batch_pandas.progress import WORDS, Lines
from claude_batch_pandas.records import Counts, Progress, RunState
from claude_batch_pandas.widgets import CellCard, LiveCard, in_notebook

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
    def box(self) -> Any:
        """The card that is alive."""
        (box,) = (w for w in registry._instances.values() if isinstance(w, ipywidgets.VBox))
        return box

    @property
    def html(self) -> str:
        """What it shows."""
        return str(self.box.children[0].value)

    def click(self, name: str) -> None:
        """Click a button."""
        (button,) = (b for b in self.box.children[1].children if b.description == name)
        button.click()


def card_of(progress: Progress) -> Card:
    return Card(progress, "claude-haiku-5-5", {"succeeded": 10}, "$0.01 so far")


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cell]:
    """Return a cell to draw in; no widget of an earlier test is alive."""
    ipywidgets.Widget.close_all()
    drawn = Cell()
    monkeypatch.setattr(IPython.display, "display", drawn.display)
    yield drawn
    ipywidgets.Widget.close_all()


def test_the_card_moves_by_shards(cell: Cell) -> None:
    """One box, whose bar and words follow the progress; what is displayed has other forms, too."""
    card = LiveCard(card_of)
    card(RUNNING)
    first = cell.html
    card(replace(RUNNING, ended=2, shards=4, note="waiting for the queue"))

    assert len(cell.shown) == 1
    assert 'aria-valuenow="30"' in first
    assert "1 of 3 shards ended" in first
    assert "10 succeeded" in first
    assert "$0.01 so far" in first
    assert 'aria-valuenow="45"' in cell.html
    assert "waiting for the queue" in cell.html
    bundle = cell.shown[0]._repr_mimebundle_()
    assert set(bundle) == {"application/vnd.jupyter.widget-view+json", "text/html", "text/plain"}
    assert bundle["text/html"] == first
    assert bundle["text/plain"].startswith("run 20270115-answer-aaaa: in progress at the API")
    assert cell.handles[0].updates == []


def test_a_run_without_shards_has_a_card_too(cell: Cell) -> None:
    """Nothing of nothing is shown without an error."""
    LiveCard(card_of)(replace(RUNNING, shards=0, submitted=0, ended=0))

    assert 'aria-valuenow="0"' in cell.html


def test_a_card_needs_nothing_but_itself() -> None:
    """No script, no style sheet, no request to anybody; and words for whoever sees no bar."""
    for progress in (RUNNING, OVER, replace(RUNNING, state=RunState.PAUSED, note="no credit")):
        html = card_of(progress).html()
        assert not {"<script", "<style", "<link", "<img", "http", "url("} & {
            word for word in ("<script", "<style", "<link", "<img", "http", "url(") if word in html
        }
        assert 'role="progressbar"' in html
        assert 'aria-valuetext="' in html
        assert WORDS[progress.state] in html


def test_time_goes_on_between_two_looks_at_the_api() -> None:
    """What is waited for is known to the second, however seldom the API is asked."""
    seen = replace(RUNNING, expires_in=100.0, measured_at=1_000.0)
    later = seen.at(1_030.0)
    assert (later.elapsed, later.expires_in) == (90.0, 70.0)
    assert later.at(1_040.0) == seen.at(1_040.0)
    assert seen.at(2_000.0).expires_in == 0
    assert seen.at(999.0) == seen
    over = replace(OVER, measured_at=1_000.0)
    assert over.at(5_000.0) == over


def test_a_waiting_cell_says_how_to_leave() -> None:
    waiting = card_of(RUNNING)._replace(is_waited_for=True)
    assert "Interrupt (the stop button) detaches; the run goes on." in waiting.html()
    assert "detaches" not in card_of(RUNNING).html()
    assert "detaches" not in card_of(OVER)._replace(is_waited_for=True).html()
    paused = replace(RUNNING, state=RunState.PAUSED, note="no credit")
    assert "detaches" not in card_of(paused)._replace(is_waited_for=True).html()


class Held:
    """The run behind a card: what is done to it."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def card(self, progress: Progress, *, is_waited_for: bool = False) -> Card:
        return card_of(progress)._replace(is_waited_for=is_waited_for)

    def cancel(self) -> None:
        self.done.append("cancel")

    def detach(self) -> None:
        self.done.append("detach")
        msg = "the <disk> is full"
        raise LedgerError(msg)

    def preview_html(self) -> str:
        return "<p>part</p>"


def test_a_click_is_done_by_whoever_draws(cell: Cell) -> None:
    """A handler only takes note; a cancel asks once more."""
    held, card = Held(), CellCard()
    card.bind(held)
    card(RUNNING)
    cell.click("Cancel")
    card.obey(1.0)
    cell.click("Cancel? Click again")
    card.obey(1.2)  # a double click is one
    assert held.done == []
    cell.click("Cancel? Click again")
    assert held.done == []
    card.obey(2.0)
    assert held.done == ["cancel"]
    cell.click("Fetch partial")
    card.obey(3.0)
    assert cell.box.children[2].value == "<p>part</p>"
    cell.click("Detach")
    card.obey(4.0)
    card.obey(5.0)
    assert held.done == ["cancel", "detach"]
    assert cell.box.children[2].value == "<p>the &lt;disk&gt; is full</p>"


def test_a_stray_click_does_not_arm_cancel_for_ever(cell: Cell) -> None:
    held, card = Held(), CellCard()
    card.bind(held)
    card(RUNNING)
    cell.click("Cancel")
    card.obey(1.0)
    card.obey(30.0)
    cell.click("Cancel")
    card.obey(31.0)
    assert held.done == []


def test_a_frontend_without_widgets_gets_the_card_as_html(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Marimo refuses ipywidgets; the card is drawn anew each time, beside what is there."""
    places = ["what was there before"]

    def replace_at_index(shown: Any, at: int) -> None:
        if at > len(places):
            raise IndexError
        places[at : at + 1] = [shown]

    output = SimpleNamespace(replace_at_index=replace_at_index)
    marimo = SimpleNamespace(running_in_notebook=lambda: True, as_html=html_of, output=output)
    monkeypatch.setitem(sys.modules, "marimo", marimo)
    assert in_notebook()
    card = LiveCard(card_of)
    card(RUNNING)
    first = places[1]
    card(OVER)
    assert "1 of 3 shards ended" in first
    assert OVER.summary in places[1]
    assert places[0] == "what was there before"
    assert len(places) == 2
    assert not cell.shown
    assert not registry._instances


@pytest.mark.parametrize("over", [OVER, replace(RUNNING, state=RunState.PAUSED, note="no credit")],
                         ids=["ended", "paused"])  # fmt: skip
def test_at_the_end_the_bar_becomes_text(over: Progress, cell: Cell) -> None:
    """Static HTML in the same output, which a saved notebook keeps."""
    bar = LiveCard(card_of)
    bar(RUNNING)
    bar(over)
    (text,) = cell.handles[0].updates

    assert "cbp-run" in html_of(text)
    assert (over.summary or "no credit") in html_of(text)
    assert len(cell.shown) == 1


def test_a_run_that_is_over_at_once_shows_only_text(cell: Cell) -> None:
    """The same cell again needs no widget."""
    LiveCard(card_of)(OVER)

    (text,) = cell.shown
    assert OVER.summary in html_of(text)
    assert not registry._instances


@pytest.mark.parametrize("field", ["summary", "note", "run_id"])
def test_text_of_others_is_escaped(field: str, cell: Cell) -> None:
    """An error message of a server, or a name, never becomes markup."""
    evil = "<img src=x onerror=\"alert('1')\">&"
    values: dict[str, Any] = {"summary": "", field: evil}
    bar = LiveCard(card_of)
    bar(RUNNING)
    bar(replace(OVER, **values))
    html = html_of(cell.handles[0].updates[0])

    assert "<img" not in html
    assert "&lt;img src=x onerror=&quot;alert(&#x27;1&#x27;)&quot;&gt;&amp;" in html


def test_live_text_is_no_markup(cell: Cell) -> None:
    """What others wrote is text, while the card is alive, too."""
    LiveCard(card_of)(replace(RUNNING, note="<b>x</b>"))

    assert "&lt;b&gt;x&lt;/b&gt;" in cell.html


def test_the_last_card_alone_is_left(cell: Cell) -> None:
    """A reopened tab finds it by its widget; a kernel that runs for days holds no buttons."""
    before = set(registry._instances)
    bar = LiveCard(card_of)
    bar(RUNNING)
    live = set(registry._instances) - before
    bar(OVER)
    left = [registry._instances[name] for name in set(registry._instances) - before]
    kinds = [type(widget).__name__ for widget in left]

    assert len(live) > len(left)
    assert sorted(kinds) == ["HTML", "HTMLStyle", "Layout", "Layout", "VBox"]
    (html,) = (widget for widget in left if isinstance(widget, ipywidgets.HTML))
    assert OVER.summary in html.value


def test_a_bar_can_be_used_again(cell: Cell) -> None:
    """Waiting once more after a pause or a retry draws again, in the same place or a new one."""
    bar = LiveCard(card_of)
    bar(RUNNING)
    bar(replace(RUNNING, state=RunState.PAUSED, note="no credit"))
    bar(replace(RUNNING, ended=2))
    bar(OVER)
    updates = [update for handle in cell.handles for update in handle.updates]

    assert html_of(updates[-1]).count("30 succeeded") == 1


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
    bar = displays.hook_for("auto")
    monkeypatch.delitem(sys.modules, "IPython")
    found.append(in_notebook())

    assert found == [False, False, False, True, False]
    assert isinstance(bar, CellCard)
    assert isinstance(displays.hook_for("log"), Lines)


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
    assert "HTMLModel" in models
    assert sum(batch.total for batch in emulator.batches) == 2
