"""What asks from a shell: files of rows and a template, the same runs as in Python."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas.cli import main
from claude_batch_pandas.datafiles import read_rows
from claude_batch_pandas.emulator import Emulator, Rule
from claude_batch_pandas.emulator.checks import read_batch
from claude_batch_pandas.exceptions import InputError
from tests.test_commands import emulator, prefix, said, told
from tests.test_steps import on_post

__all__ = ["emulator", "prefix"]  # the fixtures

ROWS = [{"id": "007", "text": "Where is my card?"}, {"id": "NA", "text": 'Größe "XL"?'}]
FRAME = pd.DataFrame(ROWS)


def write(folder: Path, suffix: str) -> Path:
    """Write the rows as a file of some kind."""
    path = folder / f"rows{suffix}"
    match suffix:
        case ".csv":
            FRAME.to_csv(path, index=False)
        case ".tsv":
            FRAME.to_csv(path, index=False, sep="\t")
        case ".json":
            path.write_text(json.dumps(ROWS))
        case ".jsonl":
            path.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
        case ".parquet":
            FRAME.to_parquet(path)
        case ".py":
            path.write_text(f"def rows():\n    yield from {ROWS!r}\n")
    return path


# Files


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl", ".parquet", ".py"])
def test_every_kind_of_file_has_the_same_rows(suffix: str, tmp_path: Path) -> None:
    """Cells are what stands there: 007 is no number, and NA is no gap."""
    found = read_rows(write(tmp_path, suffix))
    assert found.astype(object).to_dict("records") == ROWS


def test_only_an_empty_cell_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\nNaN,\nnull,x\n")
    found = read_rows(path)
    assert found["a"].tolist() == ["NaN", "null"]
    assert found["b"].isna().tolist() == [True, False]


def test_a_folder_is_its_documents(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.md").write_text("two")
    assert read_rows(tmp_path)["text"].tolist() == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("rows.xlsx", b"", r"is no file of rows\. There are: \.csv, \.tsv, \.json, .*folders"),
        ("rows.csv", None, "There is no file "),
        ("rows.csv", b"", "rows.csv is not what its name says: No columns to parse"),
        ("rows.csv", b"a,b\n1,2,3,4\n1,2,3\n1,2,3,4,5", "rows.csv is not what its name says"),
        ("rows.csv", b"a\n\xff\xfe", "rows.csv is not what its name says: .*utf-8"),
        ("rows.json", b"[1", "rows.json is not what its name says"),
        (
            "rows.jsonl",
            b'{"a": 1}\n{"a"',
            "rows.jsonl is not what its name says: line 2 is no JSON",
        ),
        ("rows.json", b'{"a": 1}', "rows.json must hold objects, one a row"),
        ("rows.parquet", b"PAR2", "rows.parquet is not what its name says"),
        ("rows.py", b"x = 1", r"rows\.py has no function rows\(\)"),
        ("rows.py", b"def rows(): return [1]", r"rows\.py must hold objects, one a row"),
    ],
)
def test_what_is_no_file_of_rows_is_told(
    name: str, content: bytes | None, why: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=why):
        read_rows(tmp_path / name)


# Build


def test_what_is_built_is_what_the_api_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line a row, with nothing in it but the request; nobody is asked."""
    path, out = write(tmp_path, ".csv"), tmp_path / "requests.jsonl"
    said(
        capsys, "build", str(path), "-t", "Label {id}: {text}", "--max-tokens", "9", "-o", str(out)
    )
    lines = [json.loads(line) for line in out.read_bytes().splitlines()]
    names = [one.pop("custom_id") for one in lines]
    assert [re.sub(r"-[0-9a-f]{16}$", "", name) for name in names] == ["row-0", "row-1"]
    assert lines == [
        {
            "params": {
                "model": "claude-haiku-5-5",
                "max_tokens": 9,
                "messages": [{"role": "user", "content": f"Label {row['id']}: {row['text']}"}],
            },
        }
        for row in ROWS
    ]
    whole = [{"custom_id": name, **one} for name, one in zip(names, lines, strict=True)]
    assert len(read_batch(orjson.dumps({"requests": whole}))) == len(ROWS)
    printed = said(capsys, "build", str(path), "-t", "Label {id}: {text}", "--max-tokens", "9")
    assert printed.encode() == out.read_bytes()
    how = ["-t", "Label {id}: {text}", "--max-tokens", "9", "-o", "-"]
    assert said(capsys, "build", str(path), *how) == printed
    assert main(["build", str(path), *how, "--json"]) == 2
    assert capsys.readouterr().err.startswith("error: --json tells what was written, so it needs ")


def test_rows_that_ask_nothing_are_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("n,text\n1,one\n2,\n3,\n")
    assert main(["build", str(path), "-t", "{text}"]) == 0
    shown = capsys.readouterr()
    [name] = [json.loads(line)["custom_id"] for line in shown.out.splitlines()]
    assert name.startswith("row-0-")
    assert shown.err == "2 rows are left out, skipped: column 'text' is missing a value\n"


# Submit


def test_a_file_is_asked_as_in_python(
    emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same call is the same run, wherever it is made."""
    path = write(tmp_path, ".csv")
    how = ["-t", "Label {text}", "--output", "label", "--max-tokens", "50"]
    found = told(capsys, "submit", str(path), *how, "--wait")
    frame: Any = read_rows(path)
    run = frame.claude.submit("Label {text}", output="label", max_tokens=50).wait()
    assert found["id"] == run.id
    assert found["statuses"] == {"succeeded": 2}
    assert len(emulator.batches) == 1
    out = tmp_path / "out.csv"
    said(capsys, "results", run.id, "-o", str(out), "--join", str(path))
    joined = pd.read_csv(out, dtype=str, keep_default_na=False)
    assert joined["id"].tolist() == ["007", "NA"]
    assert joined["label"].tolist() == [f"[simulated] Label {row['text']}" for row in ROWS]


def test_a_script_can_go_on_while_it_runs(
    emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --wait the run is at the API when the command is over."""
    emulator.rules = (Rule(outcome="succeeded", delay=600.0),)
    path = write(tmp_path, ".jsonl")
    shown = said(capsys, "submit", str(path), "-t", "{text}")
    [run_id] = cbp.runs()["id"]
    assert run_id in shown


@pytest.mark.parametrize("how", ["flag", "environment"])
def test_a_day_can_be_capped_in_a_shell(
    how: str,
    emulator: Emulator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flag = ["--max-cost-per-day", "0.00001"] if how == "flag" else []
    if how == "environment":
        monkeypatch.setenv("CLAUDE_BATCH_MAX_COST_PER_DAY", "0.00001")
    path = write(tmp_path, ".csv")
    assert main([*flag, "submit", str(path), "-t", "{text}"]) == 2
    why = r"error: Nothing was sent\. .* more than options\.max_cost_per_day=0\.00001 allows\..*\n"
    assert re.fullmatch(why, capsys.readouterr().err)
    assert emulator.batches == []


def test_a_template_can_be_a_file(
    emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("Größe? {text}", encoding="utf-8")
    path = write(tmp_path, ".parquet")
    said(capsys, "submit", str(path), "--template-file", str(prompt), "--wait")
    asked = [r["params"]["messages"][0]["content"] for r in emulator.batches[0].requests]
    assert sorted(asked) == sorted(f"Größe? {row['text']}" for row in ROWS)


def test_an_estimate_sends_nothing(
    emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, ".csv")
    found = told(capsys, "submit", str(path), "-t", "{text}", "--estimate")
    shown = said(capsys, "submit", str(path), "-t", "{text}", "--estimate")
    assert (found["rows"], found["requests"], found["answered"]) == (2, 2, 0)
    assert 0 < found["dollars"]["expected"] < found["dollars"]["high"]
    assert "nothing was sent" in shown
    assert emulator.batches == []


def test_strict_tells_that_rows_failed(
    emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    emulator.rules = (Rule(outcome="refusal", contains="card"),)
    path = write(tmp_path, ".csv")
    said(capsys, "submit", str(path), "-t", "{text}", "--wait", "--strict", code=1)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["DATA"], r"error: Give the prompt as --template TEXT or as --template-file.*\n"),
        (["DATA", "-t", "{text}", "--template-file", "x"], r"error: Give the prompt as .*\n"),
        (["DATA", "--template-file", "none.txt"], r"error: The template none\.txt cannot .*\n"),
        (["DATA", "-t", "{texts}"], r"error: .*lacks: 'texts'.*Did you mean 'text'.*\n"),
        (["none.csv", "-t", "{text}"], r"error: There is no file none\.csv\.\n"),
        (["DATA", "-t", "{text}", "--max-cost", "0.0001"], r"error: Nothing was sent\..*\n"),
        (
            ["DATA", "-t", "{text}", "--max-cost", "much"],
            r"error: Invalid value for '--max-cost.*\n",
        ),
        (["DATA", "-t", "{text}", "--strict"], r"error: --strict tells .* so it needs --wait\.\n"),
        (["DATA", "-t", "{text}", "--output", ""], r"error: .*output.*\n"),
        (
            ["DATA", "-t", "{text}", "--output", "a.csv"],
            r"error: --output names the new column.*\n",
        ),
    ],
)
def test_what_is_wrong_is_one_line_and_code_2(
    arguments: list[str],
    why: str,
    emulator: Emulator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write(tmp_path, ".csv")
    assert main(["submit", *[str(path) if word == "DATA" else word for word in arguments]]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(why, shown.err)
    assert emulator.batches == []


# Without --wait

SCRIPT = """
import pandas as pd, claude_batch_pandas as cbp
run = pd.DataFrame({"text": [f"row {i}" for i in range(30)]}).claude.submit("{text}")
"""


@pytest.mark.parametrize("how", ["command", "script"])
def test_all_is_sent_before_the_process_ends(
    how: str, emulator: Emulator, tmp_path: Path, home: Path
) -> None:
    """The row that is asked first, and all others: nobody is there to send them later."""
    path = tmp_path / "rows.csv"
    pd.DataFrame({"text": [f"row {i}" for i in range(30)]}).to_csv(path, index=False)
    command = [sys.executable, "-m", "claude_batch_pandas", "submit", str(path), "-t", "{text}"]
    if how == "script":
        command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, [batch.total for batch in emulator.batches]) == (0, [29]), done.stderr
    assert [call.path for call in emulator.calls].count("/v1/messages") == 1
    if how == "command":
        assert "30 rows, 30 distinct requests" in done.stderr
        assert "in_progress" in done.stdout


def test_what_stops_a_call_is_told_at_once(
    emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    emulator.faults = [on_post(status=402, times=None)]
    assert main(["submit", str(write(tmp_path, ".csv")), "-t", "{text}"]) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert re.match("error: The API answered 402 billing_error: ", last)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("def rows():\n    return 1 / 0", "ZeroDivisionError at line 2: division by zero"),
        ("x = ", "SyntaxError: .*"),
        ("def rows(): return 5", "TypeError.*"),
        ("def rows(): return open('none.txt')", "FileNotFoundError at line 1: .*none.txt.*"),
    ],
)
def test_what_a_script_raises_is_one_line(
    script: str, why: str, emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.py"
    path.write_text(script)
    assert main(["submit", str(path), "-t", "{text}"]) == 2
    shown = capsys.readouterr()
    assert re.fullmatch(rf"error: .*rows\.py raised {why}\. Mend the script\.\n", shown.err)
    assert emulator.batches == []


def test_what_a_script_prints_is_no_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.py"
    path.write_text("print('hello')\ndef rows():\n    print('there')\n    yield {'text': 'x'}\n")
    assert main(["build", str(path), "-t", "{text}"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["params"]["messages"][0]["content"] == "x"
    assert shown.err == "hello\nthere\n"


def test_build_tells_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "rows.csv", tmp_path / "requests.jsonl"
    path.write_text("n,text\n1,one\n2,\n")
    wrote = told(capsys, "build", str(path), "-t", "{text}", "-o", str(out))
    assert (wrote["file"], wrote["requests"]) == (str(out), 1)
    assert wrote["left_out"] == {"skipped: column 'text' is missing a value": 1}
