"""A canary key and a canary prompt through everything: the key is nowhere, the prompt in the spool."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

import claude_batch_pandas as cbp
from claude_batch_pandas import exceptions, session
from claude_batch_pandas.client import Client
from claude_batch_pandas.emulator import Emulator, Fault, Rule
from claude_batch_pandas.exceptions import APIError, BatchError, InputError, PausedError
from tests.conftest import JumpingClock

KEY = "sk-ant-canary-" + "0123456789"
# Behind what a frame shows of a cell by itself, where only we could show it.
PROMPT = "the-canary-" + "prompt"
CELL = "Where is my card? " * 9 + PROMPT

Connect = Callable[..., Any]


@pytest.fixture
def df() -> pd.DataFrame:
    """Return rows with the canary in them."""
    return pd.DataFrame({"text": [f"{CELL} 1", f"{CELL} 2", None]})


def spoiled(**fault: Any) -> Fault:
    """Return a fault of every answer of a kind."""
    return Fault(times=None, **fault)


def check(home: Path, *shown: Any) -> None:
    """Find the key in no file and no repr, and the prompt only in requests and results."""
    for path in (path for path in home.rglob("*") if path.is_file()):
        data = path.read_bytes()
        assert KEY.encode() not in data, path
        if not path.name.endswith((".requests.json", ".results.jsonl")):
            assert PROMPT.encode() not in data, path
    for thing in shown:
        text = thing if isinstance(thing, str) else repr(thing) + str(thing)
        assert KEY not in text
        assert PROMPT not in text


def check_pickle(error: BaseException) -> None:
    """Find neither in the pickle of an error, nor in its chain."""
    link: BaseException | None = error
    while link is not None:
        data = pickle.dumps(link)
        assert KEY.encode() not in data
        assert PROMPT.encode() not in data
        link = link.__cause__ or link.__context__


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Any:
    """Record everything that any library logs."""
    caplog.set_level(1)
    for name in ("anthropic", "httpx2", "httpcore2", "claude_batch_pandas"):
        caplog.set_level(1, name)
    return caplog


def test_a_run_leaves_no_key(
    df: pd.DataFrame, clock: JumpingClock, connect: Connect, home: Path, log: Any, capsys: Any
) -> None:
    """From submit to purge: files, logs at DEBUG, reprs, what is printed."""
    emulator = Emulator(clock=clock.now, duration=1.0, rules=[Rule(outcome="errored", every=2)])
    client = connect(emulator, KEY)
    run = df.claude.submit("{text}", client=client, progress="log")
    check(home, run, run.progress)
    run.result(df)
    run.retry()
    run.result(df)
    again = cbp.run(run.id, client=client)
    again.result(df)
    out = again.details()
    shown = [run, again, run.report(), again.progress, cbp.options, df.claude, session.crew]
    shown += [run._engine, run._engine.client, vars(run._engine.client), session._clients]
    (batch_id, *_) = [batch.id for batch in emulator.batches]
    cbp.attach(batch_id, df, "{text}", client=client).result()
    printed = capsys.readouterr()

    assert out["status"].notna().all()
    assert "Request options" in log.text
    check(home, *shown, log.text, printed.out, printed.err)
    run.purge()
    assert not any(PROMPT.encode() in p.read_bytes() for p in home.rglob("*") if p.is_file())


def test_a_ledger_that_is_found_again_leaves_no_key(
    df: pd.DataFrame,
    clock: JumpingClock,
    connect: Connect,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    log: Any,
) -> None:
    """Nor do `attach` without a frame, and `recover`."""
    emulator = Emulator(clock=clock.now, duration=1.0)
    df.claude.batch("{text}", client=connect(emulator, KEY))
    monkeypatch.setenv("CLAUDE_BATCH_HOME", str(tmp_path / "other"))
    run = cbp.recover(df, "{text}", client=connect(emulator, KEY))
    run.result()
    monkeypatch.setenv("CLAUDE_BATCH_HOME", str(tmp_path / "third"))
    cbp.attach(emulator.batches[0].id, client=connect(emulator, KEY)).result()

    check(tmp_path, run, log.text)


TROUBLE: dict[str, tuple[list[Fault], str]] = {
    "no key": ([spoiled(method="GET", path=".*", status=401, error_type="authentication_error")], "401"),
    "no credit": ([spoiled(method="POST", path=".*", status=402, error_type="billing_error")], "402"),
    "bad request": ([spoiled(method="POST", path=".*", status=400, error_type="invalid_request_error")], "400"),
    "forbidden": ([spoiled(method="GET", path=".*", status=403, error_type="permission_error")], "403"),
}  # fmt: skip


@pytest.mark.parametrize(("faults", "words"), TROUBLE.values(), ids=TROUBLE)
def test_an_error_carries_no_key(
    faults: list[Fault],
    words: str,
    df: pd.DataFrame,
    clock: JumpingClock,
    connect: Connect,
    home: Path,
    log: Any,
) -> None:
    """Whether the API refuses to tell or to take: the error, its pickle, and all that is left."""
    emulator = Emulator(clock=clock.now, faults=faults)
    clock.on_wait = lambda: clock.advance(10_000)
    with pytest.raises((PausedError, APIError), match=words) as caught:
        df.claude.batch("{text}", client=connect(emulator, KEY))

    check(home, str(caught.value), log.text, *[repr(v) for v in vars(caught.value).values()])
    check_pickle(caught.value)


def test_an_interrupt_carries_no_key(
    df: pd.DataFrame, clock: JumpingClock, connect: Connect, home: Path, log: Any
) -> None:
    """It says how to come back, and nothing of what was asked."""

    def interrupt(progress: Any) -> None:
        if not progress.summary:
            raise KeyboardInterrupt

    client = connect(Emulator(clock=clock.now, duration=1e9), KEY)
    with pytest.raises(KeyboardInterrupt, match="Detached from run") as caught:
        df.claude.batch("{text}", client=client, progress=interrupt)
    session.crew.stop()

    check(home, str(caught.value), log.text)
    check_pickle(caught.value)


def test_every_exception_can_be_pickled() -> None:
    """They hold words, and come back as they were."""
    kinds = [kind for _, kind in inspect.getmembers(exceptions, inspect.isclass)]
    ours = [kind for kind in kinds if issubclass(kind, BatchError)]
    for kind in ours:
        again = pickle.loads(pickle.dumps(kind("what is wrong")))  # noqa: S301 - written here
        assert type(again) is kind
        assert str(again) == "what is wrong"

    assert len(ours) > 10


def test_a_run_is_not_pickled(df: pd.DataFrame, client: Any, home: Path) -> None:
    """It would take the key along; its id is what another process needs. Its progress is a record."""
    run = df.claude.submit("{text}", client=client)
    for thing in (run, run._engine.client, [run]):
        with pytest.raises(
            InputError, match=r"cannot be pickled: it (is tied to this|holds the key)"
        ):
            pickle.dumps(thing)
    progress = run.wait().progress
    again = pickle.loads(pickle.dumps(progress))  # noqa: S301 - written a line above

    assert again == progress
    check(home, repr(pickle.dumps(progress)), pickle.dumps(run.report()).decode("latin-1"))
    assert isinstance(run._engine.client, Client)


# What a kernel shows with %xmode Verbose: every variable of every frame.
VERBOSE = """
import os, sys
from IPython.core.interactiveshell import InteractiveShell
from claude_batch_pandas.emulator import Emulator, Fault, serve

shell = InteractiveShell.instance(colors="nocolor")
shell.run_cell("%xmode Verbose")

def cell(code, **environment):
    os.environ.update(environment)
    print("#", code)
    shell.run_cell(code)

cell("import os, pandas as pd, claude_batch_pandas as cbp")
cell("cbp.options.progress = 'none'; cbp.options.poll_seconds = (0.01, 0.05)")
cell("df = pd.read_json({!r}); other = pd.DataFrame({{'text': ['something else']}})".format(sys.argv[1]))
cell("df.claude.batch('{text}')", ANTHROPIC_BASE_URL="http://192.0.2.1")
cell("df.claude.batch('{text}')", ANTHROPIC_BASE_URL="ftp://192.0.2.1")
cell("df.claude.batch('{text}')", ANTHROPIC_BASE_URL="https://u:p@192.0.2.1")
cell("df.claude.batch('{nope}')")
cell("df.claude.batch('{text:d}')")
cell("df.claude.batch('{text}', output='text')")
cell("df.claude.batch('{text}', max_tokens='many')")
cell("df.claude.preview('{text}', n=0)")
cell("def stop(progress):\\n    if not progress.summary: raise KeyboardInterrupt")

def refusing(method, status, kind, *cells):
    fault = Fault(method=method, path=".*", status=status, error_type=kind, times=None)
    with serve(emulator=Emulator(faults=[fault])) as url:
        for code in cells:
            cell(code, ANTHROPIC_BASE_URL=url)

refusing("GET", 401, "authentication_error", "df.claude.batch('{text}')",
         "cbp.recover(df, '{text}')", "cbp.attach('msgbatch_1', df, '{text}')")
refusing("POST", 402, "billing_error", "df.claude.batch('{text}')")
with serve(emulator=Emulator(duration=0.0)) as url:
    cell("run = df.claude.submit('{text}', reuse=False)", ANTHROPIC_BASE_URL=url)
    cell("run.result(df).shape")
    cell("run.result(other)")
    cell("cbp.recover(other, '{text}')")
    cell("cbp.run(run.id).retry(truncated=True)")
    cell("import pickle; pickle.dumps(run)")
with serve(emulator=Emulator(duration=1e6)) as url:
    cell("df.claude.batch('{text}', reuse=False, progress=stop)", ANTHROPIC_BASE_URL=url)
"""
CALM = 7  # parts of what is shown that are no error


def test_verbose_tracebacks_show_no_key(df: pd.DataFrame, tmp_path: Path) -> None:
    """Of IPython, for every kind of error; nor do they show requests."""
    df.to_json(tmp_path / "rows.json")
    done = subprocess.run(
        [sys.executable, "-c", VERBOSE, str(tmp_path / "rows.json")],
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "IPYTHONDIR": str(tmp_path / "ipython"),
            "ANTHROPIC_API_KEY": KEY,
            "CLAUDE_BATCH_HOME": str(tmp_path / "ledger"),
            "PYTHONPATH": str(Path(cbp.__file__).parents[1]),
        },
    )
    shown = done.stdout + done.stderr

    parts = shown.split("\n# ")
    failed = [part for part in parts if "Traceback (most recent call last)" in part]
    assert len(failed) == len(parts) - CALM
    assert "Detached from run" in shown
    assert KEY not in shown
    assert PROMPT not in shown
    check(tmp_path / "ledger")


CELLS = [
    """
import logging
logging.basicConfig(level=logging.DEBUG)
import pandas as pd
import claude_batch_pandas as cbp
cbp.options.poll_seconds = (0.05, 0.1)
serving = cbp.emulator.serve(emulator=cbp.emulator.Emulator(duration=0.3))
%env ANTHROPIC_BASE_URL={serving.__enter__()}
df = pd.DataFrame({"text": ["Where is my card? " * 9 + "the-canary-" "prompt"]})
df
""",
    "df.claude.batch('{text}').shape",
    "run = df.claude.submit('1 {text}')\nrun",
    "await run\nrun.report()",
    "cbp.runs()",
    "run.progress",
    "%xmode Verbose\ndf.claude.batch('{text}', max_tokens=-1)",
]


def test_a_notebook_holds_no_key(jupyter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its outputs, nor the state of its widgets."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]  # type: ignore[no-untyped-call]
    notebook = nbformat.v4.new_notebook(cells=cells)  # type: ignore[no-untyped-call]
    where = {"metadata": {"path": str(jupyter)}}
    NotebookClient(
        notebook, timeout=60, kernel_name="python3", resources=where, allow_errors=True
    ).execute()
    text = nbformat.writes(notebook)  # type: ignore[no-untyped-call]

    assert notebook.cells[1].outputs[-1].data["text/plain"] == "(1, 4)"
    assert "max_tokens" in str(notebook.cells[-1].outputs)
    assert "widgets" in notebook.metadata
    assert KEY not in text
    assert PROMPT not in text
