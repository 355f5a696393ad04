"""Build, submit and results over very many rows, each a process of its own: in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas.emulator import Emulator, serve
from tests.soak.spread import SEED

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is told in kB there")

ROWS = 100_000 if SEED else 4_000
MOST_MB = 400 if SEED else 250  # an import of everything is 150 of them
COMMAND = """
import sys
import claude_batch_pandas as cbp
from claude_batch_pandas.cli import main
cbp.options.poll_seconds = (0.2, 1.0)
code = main(sys.argv[2:])
with open("/proc/self/status") as status, open(sys.argv[1], "w") as told:
    told.write(next(line for line in status if line.startswith("VmHWM")).split()[1])
sys.exit(code)
"""


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Serve an API that answers at once."""
    with serve(emulator=Emulator(duration=0.0)) as url:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
        yield Emulator()


def megabytes(*arguments: str) -> float:
    """Run a command; return the most memory that it held."""
    with tempfile.NamedTemporaryFile() as told:
        command = [sys.executable, "-c", COMMAND, told.name, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return int(told.read()) / 1024


def test_many_rows_go_through_a_shell(emulator: Emulator, tmp_path: Path) -> None:
    """Every row has its answer, whichever way it went, and no command held them all."""
    rows, requests = tmp_path / "rows.csv", tmp_path / "requests.jsonl"
    texts = [
        f"Why is my card number {i} refused abroad, and what can I do now?" for i in range(ROWS)
    ]
    pd.DataFrame({"id": [f"{i:06d}" for i in range(ROWS)], "text": texts}).to_csv(rows, index=False)
    prompt = ("-t", "Which intent is this? {text}", "--max-tokens", "400")
    used = {"build": megabytes("build", str(rows), *prompt, "-o", str(requests))}
    used["submit"] = megabytes("submit", str(requests), "--wait", "--strict", "--name", "requests")
    used["submit rows"] = megabytes("submit", str(rows), *prompt, "--wait", "--name", "rows")
    runs = cbp.runs().set_index("name")["id"]
    said = [f"[simulated] Which intent is this? {text}" for text in texts]
    for name, suffix, read in (
        ("requests", ".csv", pd.read_csv),
        ("rows", ".parquet", pd.read_parquet),
    ):
        out = tmp_path / f"{name}{suffix}"
        command = ("results", runs[name], "-o", str(out), "--join", str(rows))
        used[f"results {suffix}"] = megabytes(*command)
        found = read(out)
        assert found["text"].tolist() == texts
        assert all(map(str.startswith, said, found["answer"]))
    out = tmp_path / "results.jsonl"
    used["results .jsonl"] = megabytes("results", runs["requests"], "-o", str(out))
    names = [json.loads(line)["custom_id"] for line in out.read_bytes().splitlines()]
    assert sorted(int(name.split("-")[1]) for name in names) == list(range(ROWS))
    assert max(used.values()) < MOST_MB, used
