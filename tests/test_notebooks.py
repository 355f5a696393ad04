"""The notebooks are documentation: each runs from top to bottom, without a key, as it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from claude_batch_pandas import demo
from claude_batch_pandas.emulator import Emulator, serve

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def execute(path: Path, folder: Path, facts: str = "{}") -> tuple[Any, Any]:
    """Run a notebook; return it, and the value of an expression after its last cell."""
    notebook = read(path)
    last = f"import json\nprint(json.dumps({facts}))"
    notebook.cells.append(nbformat.v4.new_code_cell(last))  # type: ignore[no-untyped-call]
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=60, kernel_name="python3", resources=where).execute()
    (output,) = notebook.cells.pop().outputs
    return notebook, json.loads(output.text)


def value_of(cell: Any) -> str:
    """Return what the last line of a cell gave, as text."""
    found = [output for output in cell.outputs if output.output_type == "execute_result"]
    return found[0].data["text/plain"] if found else ""


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


def test_the_quickstart_does_the_main_job(jupyter: Path) -> None:
    """Every question is asked once, the gap never, and the rerun sends nothing."""
    facts = """{
        "sent": [len({request["custom_id"] for request in batch.requests})
                 for batch in emulator.batches],
        "asked_first": sum(call.path == "/v1/messages" for call in emulator.calls),
        "questions": queries["text"].nunique(),
        "statuses": labelled["intent_status"].astype(str).tolist(),
        "intents": labelled["intent"].dropna().tolist(),
        "replies": int(replies["reply"].notna().sum()),
        "runs": cbp.runs()["state"].astype(str).tolist(),
    }"""
    notebook, found = execute(FOLDER / "quickstart.ipynb", jupyter, facts)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    values = {cell.source: value_of(cell) for cell in notebook.cells if cell.cell_type == "code"}

    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]
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


def test_the_recipes_give_what_they_say(jupyter: Path) -> None:
    """Each ends with its columns, and the rows that it tells of have the statuses it tells."""
    facts = """{
        "fields": scored.sort_values("score")["name"].tolist(),
        "kinds": sorted_mail["kind"].tolist(),
        "agreement": tagged["topics_agreement"].dropna().round(2).tolist(),
        "posts": checked["bad_status"].tolist(),
        "captions": captions.report().statuses,
        "files": len(emulator.files),
        "live": [call.path for call in emulator.calls].count("/v1/messages"),
        "headlines": shorter["headline_status"].unique().tolist(),
    }"""
    notebook, found = execute(FOLDER / "recipes.ipynb", jupyter, facts)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]

    assert not [output for output in outputs if output.output_type in {"error", "stream"}]
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


def test_the_tour_shows_what_a_notebook_has(jupyter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks the server that is named, and comes back for nothing; markup in an answer is kept."""
    facts = """{
        "runs": cbp.runs()["name"].tolist(),
        "states": cbp.runs()["state"].unique().tolist(),
        "intents": sorted(found["intent"].unique()) == intents,
        "plots": [len(run.plot(what).table) for what in ("answers", "tokens", "dollars", "shards")],
        "repeated": odd.details()["text"].tolist(),
    }"""
    emulator = Emulator(speed=10)
    with serve(emulator=emulator) as url:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
        notebook, found = execute(FOLDER / "tour.ipynb", jupyter, facts)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    markup = found.pop("repeated")

    assert not [output for output in outputs if output.output_type in {"error", "stream"}]
    assert found == {
        "runs": ["repeated", "urgency", "summary", "team", "mood", "intent", "reply"],
        "states": ["ended"],
        "intents": True,
        "plots": [4, 15, 5, 4],
    }
    assert "onerror" in markup[0]
    assert "<script>" in markup[1]
    assert sorted(len(batch.requests) for batch in emulator.batches) == [
        2,
        *[10] * 4,
        39,
        *[40] * 4,
    ]
