"""The commands about runs, as a shell calls them: what a notebook began goes on there."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas.cli import main
from claude_batch_pandas.emulator import Emulator, Rule, serve
from claude_batch_pandas.exports import SEPARATORS
from claude_batch_pandas.store import Store
from tests.test_cli import INTERRUPTIBLE
from tests.test_steps import on_look, on_post

README = Path(__file__).parent.parent / "README.md"
ROWS = ["row 0", "row 1", "row 2", "row 3"]
FAILS = Rule(outcome="errored", error_type="permission_error", contains="row 3")


@pytest.fixture
def prefix() -> str:
    """Return the path below which the API answers; of some tests that of a relay."""
    return ""


@pytest.fixture
def emulator(prefix: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Serve an API; the environment leads there."""
    emulator = Emulator(duration=0.0, rules=[FAILS], prefix=prefix)
    with serve(emulator=emulator) as url:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
        cbp.options.poll_seconds = (0.01, 0.1)
        yield emulator


@pytest.fixture
def frame() -> Any:
    return pd.DataFrame({"text": ROWS})


@pytest.fixture
def run(emulator: Emulator, frame: Any) -> str:
    """Put a run into the ledger that has ended: three answers, and a row that failed."""
    found: cbp.Run = frame.claude.submit("{text}", output="echo").wait()
    return found.id


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """Run a command; return what it prints."""
    capsys.readouterr()
    assert main(arguments) == code, capsys.readouterr()
    return capsys.readouterr().out


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    """Run a command; return the JSON that it prints."""
    return json.loads(said(capsys, *arguments, "--json", code=code))


def served(emulator: Emulator) -> list[Any]:
    """Return every result line that the server has."""
    blocks = b"".join(block for batch in emulator.batches for block in batch.blocks())
    return [json.loads(line) for line in blocks.splitlines()]


def by_id(lines: list[Any]) -> list[Any]:
    return sorted(lines, key=lambda line: str(line["custom_id"]))


# Looking


def test_show_tells_what_came_of_a_run(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(capsys, "show", run)
    found = told(capsys, "show", run)
    assert f"run {run}" in shown
    assert re.search(r"^ +3 succeeded$", shown, re.MULTILINE)
    assert (found["id"], found["state"], found["rows"]) == (run, "ended", 4)
    assert found["statuses"] == {"succeeded": 3, "errored": 1}
    assert found["dollars"] > 0


def test_list_shows_the_batches_on_the_server(
    run: str,
    frame: Any,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Newest first; those of this ledger with their runs."""
    monkeypatch.setenv("CLAUDE_BATCH_HOME", f"{home}-other")
    other = frame.claude.submit("other {text}").wait()
    monkeypatch.setenv("CLAUDE_BATCH_HOME", str(home))
    newest = told(capsys, "list", "--limit", "1")
    found = told(capsys, "list", "--all")
    assert newest == found[:1]
    assert [batch["run"] for batch in found] == [None, run]
    assert [batch["requests"] for batch in found] == [4, 4]
    assert other.id not in said(capsys, "list")
    assert found[0]["batch"] in said(capsys, "list")


def test_costs_are_those_of_python(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [found] = told(capsys, "costs", "--by", "run,model")
    path = tmp_path / "costs.csv"
    said(capsys, "costs", "--by", "run,model", "-o", str(path))
    assert (found["run"], found["rows"], found["unpriced_rows"]) == (run, 4, 0)
    assert found["dollars"] == pytest.approx(cbp.costs("run")["dollars"].item())
    assert pd.read_csv(path)["dollars"].item() == pytest.approx(found["dollars"])
    assert run in said(capsys, "costs", "--by", "run")


@pytest.mark.parametrize(
    ("typed", "offered"), [(["sh"], "show"), (["show", ""], "RUN"), (["show", "1999"], "")]
)
def test_a_shell_completes_commands_and_runs(typed: list[str], offered: str, run: str) -> None:
    words = " ".join(["claude-batch", *typed])
    asked = {
        "_CLAUDE_BATCH_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(typed)),
    }
    command = [sys.executable, "-m", "claude_batch_pandas"]
    done = subprocess.run(
        command, env=os.environ | asked, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == offered.replace("RUN", run).split()


# Following


def test_watch_follows_what_python_began(
    emulator: Emulator, frame: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the closing line, which is for people; scripts read JSON."""
    run = frame.claude.submit("{text}").detach()
    assert main(["watch", run.id]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "3 succeeded, 1 errored; $0.0" in shown.err
    assert told(capsys, "watch", run.id)["statuses"] == {"succeeded": 3, "errored": 1}
    assert len(emulator.batches) == 1


@pytest.mark.parametrize("command", ["watch", "results"])
def test_strict_tells_that_rows_failed(
    command: str, run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, command, run, code=0)
    said(capsys, command, run, "--strict", code=1)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT there")
def test_ctrl_c_leaves_a_run_alone(emulator: Emulator, frame: Any) -> None:
    emulator.rules = (Rule(outcome="succeeded", delay=600.0),)
    sent = threading.Event()
    emulator.faults = [on_post(meanwhile=lambda _: sent.set())]
    run = frame.claude.submit("{text}")
    assert sent.wait(20)
    run.detach()
    command = [sys.executable, "-c", INTERRUPTIBLE, "watch", run.id]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stderr is not None
        first = watching.stderr.readline()
        watching.send_signal(signal.SIGINT)
        rest = watching.stderr.read()
    assert watching.returncode == 130
    assert run.id in first
    assert f"Run {run.id} goes on; come back: claude-batch watch {run.id}" in rest
    assert "Traceback" not in rest
    assert not [call for call in emulator.calls if call.path.endswith("/cancel")]


# Fetching


def test_results_are_what_the_api_gave(
    run: str, emulator: Emulator, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Every line as it came, to a file or out."""
    path = tmp_path / "out.jsonl"
    assert main(["results", run, "-o", str(path)]) == 0
    capfdbinary.readouterr()
    assert main(["results", run]) == 0
    printed = capfdbinary.readouterr().out
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert by_id(lines) == by_id(served(emulator))
    assert printed == path.read_bytes()


def test_results_are_those_that_count(
    run: str, emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One for each request: the retry's in place of the failure, and those that others asked."""
    emulator.rules = ()
    said(capsys, "retry", run, "--wait")
    more: Any = pd.DataFrame({"text": [*ROWS, "row 4"]})
    wider = more.claude.submit("{text}", output="echo").wait()
    for name, rows in ((run, ROWS), (wider.id, [*ROWS, "row 4"])):
        path = tmp_path / f"{name}.jsonl"
        said(capsys, "results", name, "-o", str(path))
        found = [json.loads(line)["result"] for line in path.read_bytes().splitlines()]
        texts = [
            block["text"]
            for result in found
            for block in result["message"]["content"]
            if block["type"] == "text"
        ]
        assert sorted(texts) == [f"[simulated] {row}" for row in rows]


def test_an_answer_outlives_a_retry_that_fails(
    run: str, emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in Python: what was cut is better than nothing."""
    emulator.rules = (Rule(outcome="max_tokens"),)
    frame: Any = pd.DataFrame({"text": ["cut"]})
    cut = frame.claude.submit("{text}", max_tokens=5).wait()
    emulator.rules = (Rule(outcome="errored", error_type="invalid_request_error"),)
    said(capsys, "retry", cut.id, "--truncated", "--max-tokens", "50", "--wait")
    path = tmp_path / "out.jsonl"
    said(capsys, "results", cut.id, "-o", str(path))
    [line] = path.read_bytes().splitlines()
    assert json.loads(line)["result"]["type"] == "succeeded"
    assert cut.details()["shard"].tolist() == [0]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_results_can_be_a_table(
    suffix: str, run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"out{suffix}"
    said(capsys, "results", run, "-o", str(path))
    is_parquet = suffix == ".parquet"
    found = pd.read_parquet(path) if is_parquet else pd.read_csv(path, sep=SEPARATORS[suffix])
    assert found["echo"].tolist()[:3] == [f"[simulated] {row}" for row in ROWS[:3]]
    assert found["echo_status"].tolist() == ["succeeded"] * 3 + ["errored"]


def test_results_fetches_what_has_ended(
    emulator: Emulator, frame: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """And sends nothing; without the API, what is here is all there is."""
    sent = threading.Event()
    emulator.faults = [on_post(meanwhile=lambda _: sent.set()), on_look(status=500, times=None)]
    run = frame.claude.submit("{text}")
    assert sent.wait(20)
    assert run.catch_up() == 0
    assert main(["results", run.id]) == 0
    assert capsys.readouterr().out == ""
    emulator.faults = []
    assert len(said(capsys, "results", run.id).splitlines()) == len(ROWS)
    assert len(emulator.batches) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no links and pipes there")
def test_a_link_stays_a_link_and_a_pipe_a_pipe(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no file is written into, never replaced."""
    link, pipe, read = tmp_path / "link.jsonl", tmp_path / "pipe", []
    link.symlink_to(tmp_path / "target.jsonl")
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    whole = said(capsys, "results", run)
    for path in (link, pipe):
        said(capsys, "results", run, "-o", str(path))
    reader.join(20)
    assert link.is_symlink()
    assert pipe.is_fifo()
    assert (tmp_path / "target.jsonl").read_text() == whole == read[0].decode()
    assert said(capsys, "results", run, "-o", "-") == whole
    link.unlink()
    link.with_suffix(".csv").symlink_to(pipe)
    assert main(["results", run, "-o", str(link.with_suffix(".csv"))]) == 2
    assert re.fullmatch(r"error: .*pipe is no file, .*\n", capsys.readouterr().err)


def test_tables_in_a_pipe_are_not_cut(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Ids are whole, and small sums are numbers."""
    shown = said(capsys, "costs", "--by", "day,model,run,key")
    assert run in shown
    assert "…" not in shown
    assert re.search(r" 0\.000\d|e-", shown)
    assert run in said(capsys, "list")


def test_a_warning_is_a_line(run: str, tmp_path: Path) -> None:
    """For people, on standard error."""
    path, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    path.write_text("text\nrow 0\nnew\n")
    command = [sys.executable, "-m", "claude_batch_pandas", "results", run]
    command += ["-o", str(out), "--join", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert re.fullmatch(r"warning: 1 of 2 rows ask what run .* did not, .*\n", done.stderr)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_is_not_here_yet_is_told(
    emulator: Emulator, frame: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    emulator.rules = (Rule(outcome="succeeded", delay=600.0),)
    run = frame.claude.submit("{text}").detach()
    assert main(["results", run.id]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert (
        shown.err
        == f"4 requests of run {run.id} have no result yet; wait for them: claude-batch watch {run.id}\n"
    )
    assert main(["results", run.id, "--strict"]) == 1


# Acting


def test_cancel_ends_a_run(
    emulator: Emulator, frame: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    emulator.rules = (Rule(outcome="succeeded", delay=600.0),)
    sent = threading.Event()
    emulator.faults = [on_post(meanwhile=lambda _: sent.set())]
    run = frame.claude.submit("{text}")
    assert sent.wait(20)
    run.detach()
    found = told(capsys, "cancel", run.id, "--wait")
    assert found["statuses"] == {"canceled": 4}


def test_attach_takes_a_batch_that_was_made_elsewhere(
    run: str,
    emulator: Emulator,
    capsys: pytest.CaptureFixture[str],
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One of this ledger is the run that sent it."""
    [batch] = emulator.batches
    assert told(capsys, "attach", batch.id, "--wait")["id"] == run
    monkeypatch.setenv("CLAUDE_BATCH_HOME", f"{home}-other")
    found = told(capsys, "attach", batch.id, "--wait")
    assert found["id"] != run
    assert found["statuses"] == {"succeeded": 3, "errored": 1}


def test_purge_deletes_what_is_here(
    run: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, "purge", run) == f"purged {run}\n"
    assert Store(home).run(run).state == "purged"
    assert told(capsys, "show", run)["state"] == "purged"
    assert main(["results", run]) == 2


def test_verify_tells_of_damage(run: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "verify") == "All files are as they were written.\n"
    assert told(capsys, "verify") == []
    [path] = (home / "runs" / run).glob("*results.jsonl")
    path.write_bytes(path.read_bytes().replace(b"row 1", b"row 2"))
    [found] = told(capsys, "verify", code=1)
    assert found["run"] == run
    assert path.name in found["file"]
    assert said(capsys, "results", run, code=2) == ""  # nor is it passed on


@pytest.mark.parametrize("prefix", ["", "/relay/claude"], ids=["direct", "relay"])
def test_the_readme_s_commands_work(
    prefix: str,
    run: str,
    emulator: Emulator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In their order, as they stand there, over a run and a batch that exist; through relays, too."""
    [section] = re.findall(r"## From a shell\n.*?```sh\n(.*?)```", README.read_text(), re.DOTALL)
    [batch] = emulator.batches
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"text": ROWS}).to_csv("queries.csv", index=False)
    section = section.replace("20261120-intent-x7k2", run)
    section = section.replace("msgbatch_01HkcTjaV5uDC8jWR4ZsDV8d", batch.id)
    lines = [shlex.split(line, comments=True) for line in section.splitlines()]
    done = [line[1] for line in lines if "--install-completion" not in line]
    for line in lines:
        if "--install-completion" not in line:
            said(capsys, *line[1:])
    assert len(done) == 14
    assert (tmp_path / "intent.jsonl").read_bytes().count(b"\n") == len(ROWS)


# What cannot be done


@pytest.mark.parametrize("command", ["show", "watch", "results", "retry", "cancel", "purge"])
def test_an_unknown_run_is_one_line_and_code_2(
    command: str, run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main([command, "20261120-mine-aaaa"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: There is no run '20261120-mine-aaaa' in the ledger ")
    assert shown.err.endswith(f"The latest are: {run}.\n")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["results", "RUN", "-o", "/dev/null/x.jsonl"], r"error: .*/dev/null/x\.jsonl.*\n"),
        (["results", "RUN", "-o", "."], r"error: .* is no file, so nothing can be put .*\n"),
        (["results", "RUN", "--json"], r"error: --json tells what was written, so it needs .*\n"),
        (["results", "RUN", "-o", "-", "--json"], r"error: --json tells what was written, .*\n"),
        (["retry", "RUN", "--truncated"], r"error: truncated=True needs max_tokens=.*\n"),
        (["costs", "--by", "week"], r"error: by must be one or more of day, .*\n"),
        (["costs", "-o", "costs.xlsx"], r"error: .*costs\.xlsx.*\n"),
        (["attach", "batch 7"], r"error: .*batch 7.*\n"),
        (["list", "--limit", "0"], r"error: Invalid value for '--limit'.*\n"),
    ],
)
def test_what_is_wrong_is_one_line_and_code_2(
    arguments: list[str], why: str, run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main([run if word == "RUN" else word for word in arguments]) == 2
    assert re.fullmatch(why, capsys.readouterr().err)


@pytest.mark.parametrize("command", [["list"], ["attach", "msgbatch_1"]])
def test_without_a_key_nothing_is_asked(
    command: list[str],
    emulator: Emulator,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    monkeypatch.delenv("ANTHROPIC_BASE_URL")  # a server on this machine needs none
    assert main(command) == 2
    assert re.fullmatch(r"error: .*ANTHROPIC_API_KEY.*\n", capsys.readouterr().err)
    assert emulator.calls == []
