"""The session: names and homes of runs, hooks, clients, and which call is the same run again."""

from __future__ import annotations

import io
import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pandas as pd
import pytest
from anthropic.lib.credentials import AccessToken

import claude_batch_pandas as cbp
from claude_batch_pandas import displays, session
from claude_batch_pandas.emulator import Emulator, Fault, serve
from claude_batch_pandas.exceptions import (
    APIError,
    CredentialsError,
    InputError,
    LedgerError,
    PausedError,
    RunNotFoundError,
)
from claude_batch_pandas.progress import Lines, TerminalBar, silent
from claude_batch_pandas.store import Store
from tests.conftest import JumpingClock

Connect = Callable[..., Any]
POST: dict[str, Any] = {"method": "POST", "path": "/v1/messages/batches"}
LIST: dict[str, Any] = {"method": "GET", "path": "/v1/messages/batches"}


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame({"text": ["a", "b", "c"]})


def lists(emulator: Emulator) -> int:
    """Return how often the list of batches was asked for."""
    return sum((call.method, call.path) == ("GET", LIST["path"]) for call in emulator.calls)


# Names


@pytest.mark.parametrize(
    ("options", "slug"),
    [
        ({}, "answer"),
        ({"output": "intent"}, "intent"),
        ({"output": "my answer!"}, "my-answer"),
        ({"output": "Größe (cm)"}, "Gr-e-cm"),
        ({"output": "意图"}, "run"),
        ({"output": "..."}, "run"),
        ({"output": "../../etc"}, "etc"),
        ({"output": "intent", "name": "First-try_2.0"}, "First-try_2.0"),
        ({"name": "x" * 64}, "x" * 40),
    ],
    ids=str,
)
def test_a_run_is_named_for_people_and_for_folders(
    options: dict[str, Any], slug: str, frame: pd.DataFrame, client: Any, home: Path
) -> None:
    """Day, name and four letters that nobody mistakes; safe in any path."""
    run = frame.claude.submit("{text}", client=client, **options).wait()

    assert re.fullmatch(rf"\d{{8}}-{re.escape(slug)}-[a-hj-km-np-z2-9]{{4}}", run.id)
    assert (home / "runs" / run.id).is_dir()
    assert cbp.runs()["name"].tolist() == [options.get("name", options.get("output", "answer"))]


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".hidden",
        "-x",
        "a/b",
        "..",
        "a b",
        "a\n",
        "x" * 65,
        "ä",
        "con",
        "NUL",
        "nul.txt",
        "com1",
        "LPT9.log",
    ],
)
def test_a_name_no_folder_can_have_is_refused(
    name: str, frame: pd.DataFrame, client: Any, emulator: Emulator
) -> None:
    """Before anything is sent; the error says what is allowed."""
    with pytest.raises(InputError, match=r"cannot name a run: use up to 64 letters, digits"):
        frame.claude.batch("{text}", name=name, client=client)

    assert emulator.calls == []


# Hooks


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def own_hook(progress: Any) -> None:
    """Show nothing, in a user's own way."""


@pytest.mark.parametrize("is_terminal", [False, True], ids=["pipe", "terminal"])
@pytest.mark.parametrize("through_options", [False, True], ids=["argument", "option"])
@pytest.mark.parametrize(
    ("chosen", "at_terminal", "in_pipe"),
    [
        ("auto", TerminalBar, Lines),
        ("bar", TerminalBar, TerminalBar),
        ("log", Lines, Lines),
        ("none", silent, silent),
        (False, silent, silent),
        (True, TerminalBar, Lines),
        (own_hook, own_hook, own_hook),
    ],
    ids=["auto", "bar", "log", "none", "false", "true", "callable"],
)
def test_progress_is_shown_as_asked(
    chosen: Any,
    at_terminal: Any,
    in_pipe: Any,
    through_options: bool,
    is_terminal: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bar for people, lines for logs, nothing, or a function; an argument or an option."""
    monkeypatch.setattr(sys, "stderr", Terminal() if is_terminal else io.StringIO())
    if through_options:
        cbp.options.progress = chosen
    hook = displays.hook_for(None if through_options else chosen)
    expected = at_terminal if is_terminal else in_pipe

    assert hook is expected or type(hook) is expected


def test_an_argument_wins_over_the_option() -> None:
    """What was set for all calls is not for the one that says otherwise."""
    cbp.options.progress = "log"

    assert displays.hook_for("none") is silent
    assert isinstance(displays.hook_for(None), Lines)


@pytest.mark.parametrize("progress", ["bars", "", 5, ["log"]], ids=repr)
def test_an_unknown_progress_is_refused(progress: Any, frame: pd.DataFrame, home: Path) -> None:
    """The error names what there is; nothing is written."""
    with pytest.raises(InputError, match="progress must be one of auto, bar, log, none or a fun"):
        frame.claude.batch("{text}", progress=progress)

    assert not home.exists()


# The ledger's home


def test_the_ledger_is_where_it_is_told(
    frame: pd.DataFrame, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CLAUDE_BATCH_HOME counts at every call, ``~`` included."""
    monkeypatch.setenv("CLAUDE_BATCH_HOME", "~/elsewhere")
    frame.claude.batch("{text}", client=client)
    there = len(cbp.runs())
    monkeypatch.setenv("CLAUDE_BATCH_HOME", str(tmp_path / "empty"))

    assert there == 1
    assert (tmp_path / "elsewhere" / "ledger.sqlite3").is_file()
    assert len(cbp.runs()) == 0


@pytest.mark.parametrize("chosen", [None, ""])
def test_the_ledger_is_in_the_users_data_folder(
    chosen: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word, where the platform keeps a user's data; asking makes no folder."""
    monkeypatch.delenv("CLAUDE_BATCH_HOME")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    if chosen is not None:
        monkeypatch.setenv("CLAUDE_BATCH_HOME", chosen)
    home = session.ledger_home()

    assert home.is_relative_to(tmp_path)
    assert home.name == "claude-batch-pandas"
    assert not home.exists()


@pytest.mark.parametrize(
    ("variable", "place"), [("COLAB_RELEASE_TAG", "Colab"), ("KAGGLE_KERNEL_RUN_TYPE", "Kaggle")]
)
def test_a_machine_that_goes_away_is_told_of(
    variable: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger there is lost with the machine, unless it is put elsewhere."""
    monkeypatch.setenv(variable, "1")
    chosen = session.ledger_home()
    monkeypatch.delenv("CLAUDE_BATCH_HOME")
    with pytest.warns(UserWarning, match=rf"goes when this {place} machine goes\. Set CLAUDE_BAT"):
        session.ledger_home()

    assert chosen.name == "ledger"


def test_a_home_that_cannot_be_made_is_told(
    frame: pd.DataFrame,
    client: Any,
    emulator: Emulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before anything is sent; the error names the variable that moves it."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("CLAUDE_BATCH_HOME", str(tmp_path / "file" / "ledger"))
    for use in (lambda: frame.claude.batch("{text}", client=client), cbp.runs):
        with pytest.raises(LedgerError, match="set CLAUDE_BATCH_HOME to one you can write"):
            use()

    assert emulator.calls == []


def test_a_relative_home_is_refused(
    frame: pd.DataFrame, client: Any, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be another ledger in every folder, and everything would be paid again there."""
    monkeypatch.setenv("CLAUDE_BATCH_HOME", "ledger")
    with pytest.raises(InputError, match=r"CLAUDE_BATCH_HOME='ledger' is relative.*such as '/"):
        frame.claude.batch("{text}", client=client)

    assert emulator.calls == []


# Clients


def test_a_client_is_kept_until_the_environment_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """One client per set of ANTHROPIC_ variables; other variables do not matter."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key-one")
    first = session._client()
    monkeypatch.setenv("SOMETHING_ELSE", "1")
    same = session._client()
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key-two")
    second = session._client()
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "https://relay.example")
    third = session._client()
    monkeypatch.delenv("ANTHROPIC_BASE_URL")

    assert first is same
    assert len({id(client) for client in (first, second, third)}) == 3
    assert third.origin == "https://relay.example"
    assert session._client() is second


def test_missing_credentials_are_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that was given after the error is used by the next call."""
    with pytest.raises(CredentialsError, match="No credentials"):
        session._client()
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key-late")

    assert session._client().origin == "https://api.anthropic.com"


def test_the_environment_is_enough(frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a base URL of this machine, neither a key nor client= is needed."""
    emulator = Emulator(duration=0.0)
    cbp.options.poll_seconds = (0.01, 0.02)
    with serve(emulator=emulator) as url:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
        out = frame.claude.batch("{text}")
        again = cbp.run(cbp.runs()["id"].iloc[0]).result(frame)

    assert out["answer"].tolist() == ["[simulated] a", "[simulated] b", "[simulated] c"]
    pd.testing.assert_frame_equal(again, out)


def test_who_the_key_belongs_to_is_asked_once(
    frame: pd.DataFrame, client: Any, connect: Connect, emulator: Emulator
) -> None:
    """The ledger remembers it; what is left is one look at the list before each POST."""
    asked = []
    for i, sdk in enumerate([client, client, connect(emulator, "another-key")]):
        frame.claude.batch(f"{i}: {{text}}", client=sdk)
        asked.append(lists(emulator))
        emulator.calls.clear()

    assert asked == [2, 1, 2]


@pytest.mark.parametrize(
    "headers",
    [
        {"anthropic-workspace-id": "", "anthropic-organization-id": ""},
        {"anthropic-workspace-id": ""},
    ],
    ids=["neither", "organization only"],
)
def test_a_relay_may_not_tell_the_workspace(
    headers: dict[str, str], frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Then the key itself is the border: its own answers are reused, another key's are not."""
    fault = Fault(**LIST, headers=headers, times=None)
    emulator = Emulator(clock=clock.now, duration=0.0, faults=[fault])
    for key in ("one", "one", "two"):
        out = frame.claude.batch("{text}", client=connect(emulator, key))

        assert out["answer"].notna().all()
    assert len(emulator.batches) == 2


def test_a_token_that_changes_is_never_taken_for_the_one_before(
    frame: pd.DataFrame, clock: JumpingClock
) -> None:
    """A client that fetches its tokens may change workspaces, so who it is is asked every time."""
    workspaces = {"token-one": "wrkspc_one", "token-two": "wrkspc_two"}
    emulator = Emulator(clock=clock.now, duration=0.0, workspaces=workspaces)
    web = httpx2.Client(transport=emulator.transport())
    for token in ("token-one", "token-two", "token-one"):
        told = AccessToken(token)
        sdk = anthropic.Anthropic(credentials=lambda told=told, **_: told, http_client=web)
        frame.claude.batch("{text}", client=sdk)

    assert [batch.workspace for batch in emulator.batches] == ["wrkspc_one", "wrkspc_two"]


def test_a_template_without_columns_is_warned_of(frame: pd.DataFrame, client: Any) -> None:
    """Three rows that ask the same are most often a forgotten brace."""
    with pytest.warns(
        UserWarning, match=r"uses no column.*Write \{column\}.*there are: \['text'\]"
    ):
        frame.claude.batch("text", client=client)


# Which call is which run


def test_an_empty_ledger_lists_runs_of_the_same_types(frame: pd.DataFrame, client: Any) -> None:
    """Code that reads the listing works on the first day too."""
    empty = cbp.runs()
    frame.claude.batch("{text}", client=client)
    full = cbp.runs()

    assert len(empty) == 0
    assert list(empty.columns) == list(full.columns)
    for name in ("created", "expires"):
        assert isinstance(empty[name].dtype, pd.DatetimeTZDtype)
    assert {name: str(kind) for name, kind in empty.dtypes.items()} == {
        name: str(kind) for name, kind in full.dtypes.items()
    }


def test_runs_that_are_open_say_when_they_expire(frame: pd.DataFrame, connect: Connect) -> None:
    """A day after the first open batch was created; missing once nothing is open."""
    cbp.options.poll_seconds = (0.01, 0.02)
    server = JumpingClock()
    client = connect(Emulator(clock=server.now, duration=60.0))
    open_: list[pd.DataFrame] = []

    def look(progress: Any) -> None:
        if progress.submitted and not open_:
            open_.append(cbp.runs())
            server.advance(60.0)

    frame.claude.batch("{text}", client=client, progress=look)

    assert open_[0]["expires"].tolist() == [
        pd.Timestamp(server.now() - 60 + 86_400, unit="s", tz="UTC")
    ]
    assert cbp.runs()["expires"].isna().all()


def test_a_call_cut_short_that_asks_anew_is_gone_on_with(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """With reuse=False an unfinished twin resumes; a finished one is asked once more."""
    emulator = Emulator(clock=clock.now, duration=0.0, faults=[Fault(**POST, status=401)])
    client = connect(emulator)
    with pytest.raises(PausedError, match="401"):
        frame.claude.batch("{text}", client=client, reuse=False)
    frame.claude.batch("{text}", client=client, reuse=False)
    resumed = (len(cbp.runs()), len(emulator.batches))
    frame.claude.batch("{text}", client=client, reuse=False)
    asked_anew = (len(cbp.runs()), len(emulator.batches))
    frame.claude.batch("{text}", client=client)

    assert resumed == (1, 1)
    assert asked_anew == (2, 2)
    assert (len(cbp.runs()), len(emulator.batches)) == (2, 2)


def test_asking_anew_is_not_the_twin_of_a_run_that_reuses(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """An unfinished run of a plain call does not answer a call that wants new answers."""
    emulator = Emulator(clock=clock.now, duration=0.0, faults=[Fault(**POST, status=401)])
    client = connect(emulator)
    with pytest.raises(PausedError, match="401"):
        frame.claude.batch("{text}", client=client)
    frame.claude.batch("{text}", client=client, reuse=False)

    assert sorted(cbp.runs()["state"]) == ["ended", "paused"]


def test_the_same_call_from_two_threads_is_one_run(frame: pd.DataFrame, connect: Connect) -> None:
    """Two cells at once plan one after the other; the second finds the first's run."""
    cbp.options.poll_seconds = (0.01, 0.02)
    emulator = Emulator(duration=0.0)
    client = connect(emulator)
    start = threading.Barrier(3)
    outs: list[pd.DataFrame] = []

    def call() -> None:
        start.wait()
        outs.append(frame.claude.batch("{text}", client=client))

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(emulator.batches) == 1
    assert len(cbp.runs()) == 1
    for out in outs:
        pd.testing.assert_frame_equal(out, outs[0])


def test_a_call_whose_key_is_refused_leaves_nothing(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect, home: Path
) -> None:
    """Who the key belongs to is not known, so there is no run; the same call works later."""
    emulator = Emulator(clock=clock.now, duration=0.0, faults=[Fault(**LIST, status=403)])
    client = connect(emulator)
    with pytest.raises(APIError, match="The API answered 403"):
        frame.claude.batch("{text}", client=client)
    left = list((home / "runs").iterdir())
    out = frame.claude.batch("{text}", client=client)

    assert left == []
    assert out["answer"].notna().all()
    assert len(Store(home).runs()) == 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"params": {"betas": "x-1"}}, r"params\['betas'\] must be a list of names"),
        ({"params": {"betas": [1]}}, r"params\['betas'\] must be a list of names"),
        ({"params": {"messages": []}}, r"give them as template=\[\.\.\.\] instead"),
        ({"params": {"betas": None}}, r"params\['betas'\] must be a list of names"),
        ({"params": {"betas": ["a\nb"]}}, r"params\['betas'\] must be a list of names"),
        ({"params": {"system": "x"}}, "params holds 'system'; give it as system="),
        ({"params": {"stream": True}}, "stream does not exist in batches; leave it out"),
        ({"system": "\ud800"}, "lone surrogate"),
        ({"output": "text", "replace": True}, "reads the column 'text', which output='text' would"),
        ({"shard_size": 0}, "shard_size must be a whole number from 1 to 100,000"),
        ({"output": ""}, "output must be the name of the new column"),
        ({"on_missing": "drop"}, "on_missing must be one of skip, error, empty"),
        ({"model": " "}, "model must be a name such as"),
        ({"reuse": "no"}, "reuse must be True or False, not 'no'"),
        ({"replace": 1}, "replace must be True or False, not 1"),
        ({"params": [("temperature", 0)]}, "params must be a dict of Messages parameters, not a l"),
    ],
    ids=str,
)
def test_what_no_call_can_mean_is_refused(
    call: dict[str, Any], words: str, frame: pd.DataFrame, home: Path
) -> None:
    """Nothing is sent, nothing is written."""
    with pytest.raises(InputError, match=words):
        frame.claude.batch("{text}", **call)

    assert not home.exists()


def test_an_argument_that_does_not_exist_is_refused(frame: pd.DataFrame, home: Path) -> None:
    """A limit that is misspelled would cost what it was to save."""
    with pytest.raises(
        InputError, match=r"no argument 'max_token'\. .*Did you mean 'max_tokens'\?"
    ):
        frame.claude.submit("{text}", max_token=9)

    assert not home.exists()


def test_an_unknown_run_is_told(home: Path) -> None:
    """A ledger without runs says so."""
    with pytest.raises(RunNotFoundError, match="It holds no runs"):
        cbp.run("20270115-answer-aaaa")

    assert os.listdir(home / "runs") == []  # noqa: PTH208 - the names are the claim
