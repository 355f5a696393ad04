"""A run that nobody waits for, shown in a cell: its card moves by itself, and is HTML in the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import claude_batch_pandas as cbp
from claude_batch_pandas.emulator import Emulator, serve

BEGIN = """
import threading
import pandas as pd
import claude_batch_pandas as cbp
cbp.options.poll_seconds = (0.05, 0.1)
df = pd.DataFrame({"text": ["Where is my card?", "I lost my card!"]})
run = df.claude.submit("{text}", output="intent")
"""
FOLLOW = """
for thread in threading.enumerate():
    if thread.name.startswith("card of run"):
        thread.join()
"""


def play(cells: list[str], folder: Path) -> list[list[dict[str, Any]]]:
    """Run cells in a kernel; return what each displayed."""
    made = [nbformat.v4.new_code_cell(cell) for cell in cells]  # type: ignore[no-untyped-call]
    notebook = nbformat.v4.new_notebook(cells=made)  # type: ignore[no-untyped-call]
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=60, kernel_name="python3", resources=where).execute()
    for cell in notebook.cells:
        assert not [output for output in cell.outputs if output.output_type == "error"]
        assert not [output for output in cell.outputs if output.get("name") == "stderr"]
    kinds = {"display_data", "execute_result"}
    return [
        [output["data"] for output in cell.outputs if output.output_type in kinds]
        for cell in notebook.cells
    ]


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Serve an emulator whose batches take a moment, and lead the environment there."""
    with serve(emulator=Emulator(duration=1.5)) as found:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", found)
        yield found


def test_a_card_follows_its_run(jupyter: Path, url: str) -> None:
    """The kernel is free meanwhile; the saved notebook has the closing line, and no widget."""
    _, first, busy, _, again = play([BEGIN, "run", "sum(range(10))", FOLLOW, "run.show()"], jupyter)

    (card,) = first
    assert "application/vnd.jupyter.widget-view+json" not in card
    assert "2 succeeded; $" in card["text/html"]
    assert "2 succeeded; $" in card["text/plain"]
    assert busy[0]["text/plain"] == "45"
    assert "2 succeeded; $" in again[0]["text/html"]


def test_a_card_says_when_nobody_follows_any_more(
    jupyter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would stand there as if the run was looked after."""
    with serve(emulator=Emulator(duration=600.0)) as found:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", found)
        _, first, *_ = play([BEGIN, "run", "run.detach()", FOLLOW], jupyter)
    (card,) = first
    assert "application/vnd.jupyter.widget-view+json" not in card
    assert "detached from run " in card["text/html"]
    assert "come back: run the same cell again" in card["text/html"]


def test_several_runs_have_their_own_cards(jupyter: Path, url: str) -> None:
    second = 'other = df.claude.submit("{text}?", output="other")\nother'
    _, first, later, _ = play([BEGIN, "run", second, FOLLOW], jupyter)
    assert "intent" in first[0]["text/html"]
    assert "other" in later[0]["text/html"]
    assert "2 succeeded" in first[0]["text/html"]
    assert "2 succeeded" in later[0]["text/html"]


def test_in_a_terminal_a_run_is_shown_as_text(
    queries: Any, client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run: cbp.Run = queries.claude.submit("{text}", client=client).wait()
    run.show()
    assert capsys.readouterr().out == f"{run!r}\n"


def test_a_part_of_the_answers_is_shown_below_the_card(queries: Any, client: Any) -> None:
    """As a table, in which what the model wrote is text."""
    run = queries.claude.submit("<b>{text}", client=client).wait()
    html = run.preview_html()
    assert "run.result(partial=True)" in html
    assert "<table" in html
    assert "<b>" not in html
