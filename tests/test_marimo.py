"""In marimo, which shows no ipywidgets: the static card and HTML, never an error."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import pytest

from claude_batch_pandas.emulator import Emulator, serve
from tests.conftest import need

WIDGET = "application/vnd.jupyter.widget-view+json"  # which marimo answers with an error
OWN = ("ANTHROPIC_", "CLAUDE_BATCH", "XDG_")  # of whoever runs the tests
CELLS = {
    "begin": """
        import threading
        import marimo as mo
        import pandas as pd
        import claude_batch_pandas as cbp
        cbp.options.poll_seconds = (0.05, 0.1)
        df = pd.DataFrame({"text": ["Where is my card?", "I lost my card!"]}, index=[7, 7])
    """,
    "batch": 'out = df.claude.batch("{text}", output="intent")',
    "value": 'df.claude.batch("{text}", output="intent")',
    "run": 'run = df.claude.submit("{text}", output="intent")\nrun',
    "show": "run.show()",
    "inspect": "run.inspect()",
    "plot": "run.plot()",
    "report": "run.report()",
    "preview": 'df.claude.preview("{text}", n=1)',
    "await": '(await df.claude.submit("{text}", output="intent"))["intent"].tolist()',
    "several": """
        mo.output.append("what was there before")
        one = df.claude.batch("1 {text}", output="one")
        two = df.claude.batch("2 {text}", output="two")
    """,
    "follow": 'later = df.claude.submit("3 {text}", output="later")\nlater.show()',
    "followed": """
        later.wait()
        for thread in threading.enumerate():
            if thread.name.startswith("card of run"):
                thread.join()
    """,
    "again": "later",
}


def source_of(cells: Mapping[str, str]) -> str:
    """Return a marimo notebook as the file that it is."""
    parts = ["import marimo\napp = marimo.App()"]
    for code in cells.values():
        kind = "async def" if "await " in code else "def"
        body = textwrap.indent(textwrap.dedent(code).strip(), "    ")
        parts.append(f"@app.cell\n{kind} _():\n{body}\n    return")
    return "\n\n".join(parts) + "\n"


def play(cells: Mapping[str, str], folder: Path, url: str) -> dict[str, list[Any]]:
    """Run cells in marimo; return the outputs of each, by its name."""
    notebook, played = folder / "notebook.py", folder / "played.ipynb"
    notebook.write_text(source_of(cells))
    ours = {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "none",
        "CLAUDE_BATCH_HOME": str(folder / "ledger"),
        "HOME": str(folder),
    }
    command = ["-m", "marimo", "export", "ipynb", "--include-outputs", str(notebook)]
    done = subprocess.run(
        [sys.executable, *command, "-o", str(played)],
        env={name: os.environ[name] for name in os.environ if not name.startswith(OWN)} | ours,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made = nbformat.read(played, as_version=4).cells  # type: ignore[no-untyped-call]
    return {name: cell.outputs for name, cell in zip(cells, made, strict=True)}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Return what every cell gave; all of them are run once."""
    need("marimo")
    with serve(emulator=Emulator(duration=0.7)) as url:
        return play(CELLS, tmp_path_factory.mktemp("marimo"), url)


@pytest.fixture
def shown(outputs: dict[str, list[Any]]) -> dict[str, str]:
    """Return the HTML, or the text, that every cell shows."""
    return {
        name: "".join(
            output.data.get("text/html") or str(output.data)
            for output in found
            if output.output_type == "display_data"
        )
        for name, found in outputs.items()
    }


def test_no_cell_gives_an_error_or_a_widget(outputs: dict[str, list[Any]]) -> None:
    """Nor does any warn or print; what marimo cannot show is not sent there."""
    kinds = {output.output_type for found in outputs.values() for output in found}
    forms = [output.data.keys() for found in outputs.values() for output in found]

    assert kinds == {"display_data"}
    assert not [form for form in forms if WIDGET in form]


def test_a_waiting_cell_ends_with_the_closing_line(shown: dict[str, str]) -> None:
    """The card was drawn again and again, in one place."""
    assert shown["batch"].count('class="cbp-run ') == 1
    assert "2 succeeded; $" in shown["batch"]


def test_a_new_frame_is_shown_as_marimo_shows_frames(shown: dict[str, str]) -> None:
    assert "[simulated] I lost my card!" in shown["value"]
    assert "intent_status" in shown["value"]


@pytest.mark.parametrize("cell", ["run", "show", "again"])
def test_a_run_is_a_card(cell: str, shown: dict[str, str]) -> None:
    assert shown[cell].count('class="cbp-run ') == 1
    assert "2 succeeded; $" in shown[cell]


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("inspect", 'class="cbp-rows"'),
        ("inspect", "[simulated] Where is my card?"),
        ("plot", "intent: 2 rows with an answer"),
        ("report", 'class="cbp-facts '),
        ("preview", "The first request of 2 rows; nothing was sent."),
        ("await", "[simulated] Where is my card?"),
    ],
)
def test_everything_else_has_a_form_that_marimo_shows(
    cell: str, words: str, shown: dict[str, str]
) -> None:
    assert words in shown[cell]


def test_a_card_takes_the_place_of_nothing_else(shown: dict[str, str]) -> None:
    """Each call in a cell keeps its closing line, with what it cost."""
    assert "what was there before" in shown["several"]
    assert shown["several"].count('class="cbp-run ') == 2
    assert shown["several"].count("2 succeeded; $") == 2


def test_a_card_follows_its_run(shown: dict[str, str]) -> None:
    """When its cell is long done; it would stand at the beginning for ever."""
    assert shown["follow"].count('class="cbp-run ') == 1
    assert "2 succeeded; $" in shown["follow"]
