from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pandas as pd
import pytest

from claude_batch_pandas import Run, __version__, options
from claude_batch_pandas.cli import main
from claude_batch_pandas.emulator import FAILURES, Emulator, serve

# Python leaves SIGINT ignored when it is started so (in the background of a shell, say).
INTERRUPTIBLE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from claude_batch_pandas.cli import main
sys.exit(main(sys.argv[1:]))
"""

REQUEST: Any = {
    "custom_id": "a",
    "params": {
        "model": "claude-haiku-5-5",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "Hello"}],
    },
}


def shell(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def run(connect: Callable[..., anthropic.Anthropic]) -> str:
    """Put an ended run of three rows into the ledger."""
    options.poll_seconds = (0.01, 0.1)
    df = pd.DataFrame({"text": ["one", "two", "three"]})
    sent: Run = df.claude.submit("{text}", output="echo", client=connect(Emulator(duration=0)))
    return sent.wait().id


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--version"])

    assert (code, capsys.readouterr().out) == (0, f"claude-batch {__version__}\n")


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_names_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0

    out = capsys.readouterr().out
    assert re.findall(r"^  (demo|emulate|runs) ", out, re.MULTILINE) == ["demo", "emulate", "runs"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["train"], r"error: No such command 'train'\. See: claude-batch --help\n"),
        (["runs", "--yaml"], r"error: No such option.*--yaml.*\n"),
        (["runs", "mine"], r"error: Got unexpected extra argument.*\n"),
        (["emulate", "--port"], r"error: Option '--port' requires an argument.*\n"),
        (["emulate", "--port", "http"], r"error: Invalid value for '--port'.*\n"),
        (["emulate", "--port", "65536"], r"error: Invalid value for '--port'.*\n"),
        (["emulate", "--speed", "0"], r"error: speed=0.0 does not move\. Pass .*\n"),
        (["emulate", "--seed", "x"], r"error: Invalid value for '--seed'.*\n"),
        (["emulate", "--fault", "oops"], r"error: No fault is named 'oops'\. .* --fault help\n"),
        (["emulate", "--tier", "gold"], r"error: No tier 'gold'\. There are: .*\n"),
        (["emulate", "--prefix", "relay"], r"error: prefix='relay' is not the beginning .*\n"),
        (["emulate", "--state", "/dev/null"], r"error: The state folder /dev/null cannot .*\n"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_code_2(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2

    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(why, shown.err)


def test_a_taken_port_is_one_line_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with serve() as url:
        port = url.rpartition(":")[2]

        assert main(["emulate", "--port", port]) == 2

    assert re.fullmatch(rf"error: Cannot listen at .*:{port}: .*\n", capsys.readouterr().err)


def test_a_ledger_that_cannot_be_made_is_one_line_and_code_2(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home.touch()

    assert main(["runs"]) == 2

    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(r"error: .*CLAUDE_BATCH_HOME.*\n", shown.err)


def test_the_faults_are_told_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["emulate", "--fault", "help", "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert told["drop"] == "POST: the connection is closed without an answer"


@pytest.mark.parametrize("command", ["emulate", "demo"])
def test_without_werkzeug_the_emulator_says_what_to_install(command: str) -> None:
    block = "import sys; sys.modules['werkzeug'] = None; from claude_batch_pandas.cli import main; "

    done = shell("-c", f"{block}sys.exit(main([{command!r}]))")

    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"error: .*pip install 'claude-batch-pandas\[emulator\]'\n", done.stderr)


def test_nothing_that_help_needs_imports_the_sdk() -> None:
    heavy = {"anthropic", "httpx2", "werkzeug", "ipywidgets", "genai_prices"}
    code = (
        "import sys; from claude_batch_pandas.cli import main; main(['--help']); "
        f"print(*{heavy} & set(sys.modules), file=sys.stderr, end='')"
    )

    done = shell("-c", code)

    assert (done.returncode, done.stderr) == (0, "")


def test_an_empty_ledger_says_so_and_how_to_begin(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (main(["runs"]), main(["runs", "--json"])) == (0, 0)

    words, array = capsys.readouterr().out.splitlines()
    assert words.startswith(f"No runs yet in {home}. ")
    assert "df.claude.batch" in words
    assert json.loads(array) == []


def test_runs_are_a_table(run: str) -> None:
    done = shell("-m", "claude_batch_pandas", "runs")

    assert (done.returncode, done.stderr) == (0, "")
    head, row = (line.split() for line in done.stdout.splitlines())
    assert head == ["id", "name", "state", "rows", "shards", "created", "expires"]
    assert row[:5] == [run, "echo", "ended", "3", "1"]
    assert row[-1] == "-"


def test_runs_as_json_can_be_read(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "--json"]) == 0

    (row,) = json.loads(capsys.readouterr().out)
    assert list(row) == ["id", "name", "state", "rows", "shards", "created", "expires"]
    assert (row["id"], row["name"], row["state"]) == (run, "echo", "ended")
    assert (row["rows"], row["shards"], row["expires"]) == (3, 1, None)
    age = pd.Timestamp.now("UTC") - pd.Timestamp(row["created"])
    assert 0 <= age.total_seconds() < 600


def emulate(*arguments: str, use: Callable[[str], object]) -> tuple[str, int, str]:
    """Serve until an interrupt; return what was told, the exit code and the last words."""
    command = [sys.executable, "-c", INTERRUPTIBLE, "emulate", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        told, export = server.stdout.readline(), server.stdout.readline()
        url = export.removeprefix("export ANTHROPIC_BASE_URL=").strip()
        assert url in told
        use(url)
        server.send_signal(signal.SIGINT)
        _, error = server.communicate(timeout=30)
    return url, server.returncode, error


def test_emulate_serves_until_an_interrupt() -> None:
    answers = []
    _, code, error = emulate(
        "--speed",
        "100",
        use=lambda url: answers.append(
            httpx2.get(f"{url}/v1/messages/batches", trust_env=False).json()["data"]
        ),
    )

    assert answers == [[]]
    assert (code, error) == (0, "Ended; its batches are gone.\n")


def test_the_faults_that_emulate_knows_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """A line each, and nothing is served."""
    assert main(["emulate", "--fault", "drop", "--fault", "help"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(FAILURES)
    assert lines[0] == "drop                      POST: the connection is closed without an answer"


def test_emulate_lets_things_go_wrong() -> None:
    """One fault after the other, in the order in which they were given."""
    statuses = []

    def use(url: str) -> None:
        for _ in range(3):
            answer = httpx2.post(f"{url}/v1/messages/batches", json={}, trust_env=False)
            statuses.append(answer.status_code)

    emulate("--fault", "status-503", "--fault", "html-529", use=use)

    assert statuses == [503, 529, 400]


def test_emulate_passes_its_options_on(tmp_path: Path) -> None:
    """A server with every flag: below a prefix, for made-up ids, and its batches stay."""
    created: list[anthropic.types.messages.MessageBatch] = []

    def use(url: str) -> None:
        with anthropic.Anthropic(api_key="k", base_url=url, max_retries=0) as client:
            created.append(client.messages.batches.retrieve("made-up"))
            created.append(client.messages.batches.create(requests=[REQUEST]))

    flags = ["--seed", "7", "--tier", "start", "--prefix", "/relay", "--permissive-ids"]
    url, code, error = emulate(*flags, "--state", str(tmp_path), use=use)

    assert url.endswith("/relay")
    assert (code, error) == (0, f"Ended; its batches are in {tmp_path}.\n")
    assert [batch.id for batch in Emulator(state=tmp_path).batches] == [created[1].id]
