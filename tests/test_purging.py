"""What is deleted, here and at the server; and what is not kept in the first place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas import locks
from claude_batch_pandas.emulator import Emulator, Rule
from claude_batch_pandas.handles import Run
from claude_batch_pandas.records import Twin
from claude_batch_pandas.store import Store
from tests.conftest import JumpingClock
from tests.test_steps import on_post, on_results

Connect = Callable[..., Any]
PROMPT = "an avocado"


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame({"text": [f"{PROMPT} {i}" for i in range(4)]})


def only_run(client: Any) -> Run:
    """Return the one run of the ledger."""
    return cbp.run(cbp.runs()["id"].iloc[0], client=client)


def deleted(emulator: Emulator) -> list[bool]:
    """Tell of each batch whether the server still has it."""
    return [batch.deleted for batch in emulator.batches]


def holders(home: Path) -> list[str]:
    """Return the names of files that hold a prompt."""
    files = [path for path in home.rglob("*") if path.is_file()]
    return [path.name for path in files if PROMPT.encode() in path.read_bytes()]


def test_purging_leaves_the_servers_copy(
    frame: pd.DataFrame, emulator: Emulator, client: Any, home: Path
) -> None:
    """Unless it is asked for; nothing of the prompts is left here."""
    frame.claude.batch("{text}", client=client)
    before = holders(home)
    only_run(client).purge()

    assert before
    assert holders(home) == []
    assert deleted(emulator) == [False]


def test_the_servers_copy_goes_when_asked_for(
    frame: pd.DataFrame, emulator: Emulator, client: Any, home: Path
) -> None:
    """All batches of the run, and nobody else's."""
    frame.claude.batch("{text}", client=client, shard_size=1)
    pd.DataFrame({"text": ["another"]}).claude.batch("{text}", client=client, name="other")
    cbp.run(cbp.runs()["id"].iloc[1], client=client).purge(server=True)

    assert deleted(emulator) == [True] * 4 + [False]
    assert holders(home) == []
    assert sorted(cbp.runs()["state"]) == ["ended", "purged"]


def test_a_batch_that_is_gone_already_is_no_error(
    frame: pd.DataFrame, emulator: Emulator, client: Any
) -> None:
    frame.claude.batch("{text}", client=client)
    client.messages.batches.delete(emulator.batches[0].id)
    only_run(client).purge(server=True)

    assert cbp.runs()["state"].tolist() == ["purged"]


def test_what_is_not_whole_here_stays_at_the_server(
    frame: pd.DataFrame, connect: Connect, clock: JumpingClock
) -> None:
    """Else an answer that was paid would be nowhere."""
    spoil = on_results(edit=lambda body: body[:-9], times=3)
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[spoil])
    client = connect(emulator)
    frame.claude.batch("{text}", client=client)

    with pytest.raises(cbp.InputError, match="are not whole on this disk, so the server's copy"):
        only_run(client).purge(server=True)
    assert deleted(emulator) == [False]
    assert cbp.runs()["state"].tolist() == ["ended"]


def test_results_that_were_changed_here_stay_at_the_server(
    frame: pd.DataFrame, emulator: Emulator, client: Any, home: Path
) -> None:
    frame.claude.batch("{text}", client=client)
    [path] = home.rglob("*.results.jsonl")
    path.write_bytes(path.read_bytes().replace(b"avocado", b"apricot"))

    with pytest.raises(cbp.InputError, match="are not whole on this disk"):
        only_run(client).purge(server=True)
    assert deleted(emulator) == [False]


def test_a_batch_that_was_attached_is_not_deleted(
    frame: pd.DataFrame, emulator: Emulator, client: Any
) -> None:
    """It may be a colleague's."""
    request: Any = {
        "custom_id": "theirs",
        "params": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]},
    }
    theirs = client.messages.batches.create(requests=[request])
    run = cbp.attach(theirs.id, client=client).wait()

    with pytest.raises(cbp.InputError, match="was not sent from here, so it is not canceled here"):
        run.cancel()
    with pytest.raises(cbp.InputError, match="was not sent from here, so it is not deleted here"):
        run.purge(server=True)
    run.purge()
    with pytest.raises(cbp.InputError, match="was purged already"):
        run.purge(server=True)
    assert deleted(emulator) == [False]


def test_requests_that_are_not_kept_go_once_the_api_has_them(
    frame: pd.DataFrame, emulator: Emulator, client: Any, home: Path, clock: JumpingClock
) -> None:
    """The answers stay; nothing can be sent again, and that is said."""
    cbp.options.max_in_flight = 2
    emulator.rules = (Rule(outcome="expired", contains="3"),)
    bodies: list[list[str]] = []

    def look() -> None:
        bodies.append(sorted(path.name[:10] for path in home.rglob("*.requests.json")))

    clock.on_wait = look
    out = frame.claude.batch("{text}", client=client, shard_size=2, keep_requests=False)

    assert bodies[0] == ["shard-0001"]
    assert bodies[-1] == []
    assert out["answer_status"].tolist() == ["succeeded"] * 3 + ["expired"]
    assert len(emulator.batches) == 2
    with pytest.raises(cbp.InputError, match="made with keep_requests=False, so its requests"):
        only_run(client).retry()


def test_requests_are_kept_until_the_api_surely_has_them(
    frame: pd.DataFrame, connect: Connect, clock: JumpingClock, home: Path
) -> None:
    """A submission that nobody answered may have to be sent again."""
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[on_post(drop=True)])
    out = frame.claude.batch("{text}", client=connect(emulator), keep_requests=False)

    assert out["answer_status"].eq("succeeded").all()
    assert [batch.custom_ids[0][17:19] for batch in emulator.batches] == ["02"]
    assert not [*home.rglob("*.requests.json")]
    assert Store(home).runs()[0].keep_requests is False


def test_requests_of_what_was_never_sent_go_too(
    frame: pd.DataFrame, connect: Connect, clock: JumpingClock, home: Path
) -> None:
    """A run that is canceled with a shard still planned keeps none of it."""
    emulator = Emulator(clock=clock.now, duration=7200.0)
    cbp.options.max_in_flight = 2
    client = connect(emulator)

    def cancel() -> None:
        clock.on_wait = lambda: None
        only_run(client).cancel()

    clock.on_wait = cancel
    out = frame.claude.batch("{text}", client=client, shard_size=2, keep_requests=False)

    assert out["answer_status"].eq("canceled").all()
    assert len(emulator.batches) == 1
    assert not [*home.rglob("*.requests.json")]


def test_requests_of_a_run_that_exists_go_when_asked_for(
    frame: pd.DataFrame, client: Any, home: Path
) -> None:
    """The same cell, with keep_requests=False."""
    frame.claude.batch("{text}", client=client)
    before = [*home.rglob("*.requests.json")]
    frame.claude.batch("{text}", client=client, keep_requests=False)

    assert before
    assert not [*home.rglob("*.requests.json")]
    assert len(cbp.runs()) == 1


def test_a_batch_that_is_being_wound_up_is_waited_for(
    frame: pd.DataFrame, emulator: Emulator, client: Any, home: Path
) -> None:
    """Purging would forget that it may be paid for."""
    frame.claude.batch("{text}", client=client)
    run = only_run(client)
    store = Store(home)
    store.mark_twin(Twin(run_id=run.id, number=0, attempt=9, batch_id="msgbatch_late"))

    with pytest.raises(cbp.InputError, match=r"msgbatch_late .* is being wound up"):
        run.purge(server=True)
    assert deleted(emulator) == [False]


def test_a_batch_that_marks_a_place_stays(
    frame: pd.DataFrame, connect: Connect, clock: JumpingClock
) -> None:
    """Without it, nobody could tell what became of another run's submission."""
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[on_post(skip=1, drop=True)])
    client = connect(emulator)
    frame.claude.batch("{text}", client=client)
    first = only_run(client)
    with pytest.raises(cbp.PausedError, match="no batch of it showed up"):
        frame.claude.batch("Again: {text}", client=client, on_unknown="ask")

    with pytest.raises(cbp.InputError, match=r"marks the place in the server's list"):
        first.purge(server=True)
    assert deleted(emulator) == [False]
    frame.claude.batch("Again: {text}", client=client, on_unknown="resend")
    first.purge(server=True)
    assert deleted(emulator) == [True, False]


def test_a_folder_that_cannot_be_deleted_is_told(
    frame: pd.DataFrame, client: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when Windows has a file open; the next purge ends what this one began."""
    frame.claude.batch("{text}", client=client)
    run = only_run(client)

    def refuse(path: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", refuse)
        with pytest.raises(cbp.LedgerError, match=r"could not be deleted whole .Permission denied"):
            run.purge()
    assert holders(home)
    run.purge()

    assert holders(home) == []


def test_nothing_is_purged_while_somebody_plans(
    frame: pd.DataFrame, client: Any, home: Path
) -> None:
    """Who plans may be about to take answers from it; a thread that waited here would for ever."""
    frame.claude.batch("{text}", client=client)
    run = only_run(client)

    with (
        locks.held(home / locks.PLANNING),
        pytest.raises(cbp.InputError, match="is being planned by this thread"),
    ):
        run.purge()
    assert run.done
