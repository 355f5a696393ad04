from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest

from claude_batch_pandas.emulator import Emulator, Rule, SimulatedClock
from claude_batch_pandas.exceptions import InputError

PATH = "/v1/messages/batches"


def client_of(emulator: Emulator, key: str = "k") -> anthropic.Anthropic:
    web = httpx2.Client(transport=emulator.transport())
    return anthropic.Anthropic(api_key=key, http_client=web, max_retries=0)


def requests(count: int = 3, **changes: Any) -> list[Any]:
    messages = [{"role": "user", "content": "Zürich, 東京"}]
    params = {"model": "claude-haiku-5-5", "max_tokens": 100, "messages": messages, **changes}
    return [{"custom_id": f"r{number}", "params": params} for number in range(count)]


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
def start(tmp_path: Path, clock: SimulatedClock) -> Callable[..., Emulator]:
    """Return a function that starts an emulator over one folder, as a new process would."""

    def emulator(**options: Any) -> Emulator:
        return Emulator(state=tmp_path / "state", clock=clock, **{"duration": 60, **options})

    return emulator


def test_batches_and_answers_outlive_the_server(
    start: Callable[..., Emulator], clock: SimulatedClock
) -> None:
    """Ids, times, order, betas, counts and result lines are what they were."""
    rules = [Rule(outcome="errored", error_type="overloaded_error", every=2), Rule(outcome="empty")]
    before = client_of(start(rules=rules, seed=7))
    system = [{"type": "text", "text": "x" * 9_000, "cache_control": {"type": "ephemeral"}}]
    sent = before.messages.batches.create(
        requests=requests(9, system=system), extra_headers={"anthropic-beta": "one-2026-01-01"}
    )
    before.messages.batches.create(requests=requests(1))
    clock.advance(60)
    listed = before.messages.batches.list().data
    lines = list(before.messages.batches.results(sent.id))
    emulator = start()
    after = client_of(emulator)

    assert after.messages.batches.list().data == listed
    assert list(after.messages.batches.results(sent.id)) == lines
    assert emulator.batches[0].betas == ("one-2026-01-01",)
    assert sum(line.result.type == "errored" for line in lines) == 4
    assert any("cache_read_input_tokens=2" in str(line) for line in lines)


def test_a_running_batch_goes_on(start: Callable[..., Emulator], clock: SimulatedClock) -> None:
    """Time passes while no server is there; the queue still counts what is running."""
    batch = client_of(start()).messages.batches.create(requests=requests(3))
    clock.advance(59)
    client = client_of(start(max_queue=5))
    with pytest.raises(anthropic.RateLimitError, match="which holds 3"):
        client.messages.batches.create(requests=requests(3))
    running = client.messages.batches.retrieve(batch.id)
    clock.advance(1)

    assert running.processing_status == "in_progress"
    assert client.messages.batches.retrieve(batch.id).processing_status == "ended"


def test_cancels_and_deletions_are_remembered(
    start: Callable[..., Emulator], clock: SimulatedClock
) -> None:
    before = client_of(start())
    canceled, deleted = (before.messages.batches.create(requests=requests()).id for _ in range(2))
    before.messages.batches.cancel(canceled)
    clock.advance(1)
    before.messages.batches.cancel(deleted)
    clock.advance(1)
    before.messages.batches.delete(deleted)
    after = client_of(start())
    found = after.messages.batches.retrieve(canceled)

    assert [batch.id for batch in after.messages.batches.list()] == [canceled]
    assert found.processing_status == "ended"
    assert found.request_counts.canceled == 3
    assert found.cancel_initiated_at is not None
    with pytest.raises(anthropic.NotFoundError, match="not found"):
        after.messages.batches.retrieve(deleted)


@pytest.mark.parametrize("look", ["retrieve", "list", "results"])
def test_an_end_that_was_seen_stays(start: Callable[..., Emulator], look: str) -> None:
    """A batch of no duration that was seen as ended cannot be canceled after a restart."""
    before = client_of(start(duration=0))
    batch = before.messages.batches.create(requests=requests())
    if look == "list":
        before.messages.batches.list()
    elif look == "retrieve":
        before.messages.batches.retrieve(batch.id)
    else:
        before.get(f"{PATH}/{batch.id}/results", cast_to=httpx2.Response)

    with pytest.raises(anthropic.BadRequestError, match="cannot be canceled"):
        client_of(start(duration=0)).messages.batches.cancel(batch.id)


def test_new_ids_do_not_repeat_old_ones(start: Callable[..., Emulator]) -> None:
    """The clock stands still over the restart, and yet a new batch is a new batch."""
    ids = [client_of(start()).messages.batches.create(requests=requests()).id for _ in range(3)]

    assert [batch.id for batch in start().batches] == ids
    assert len(set(ids)) == 3


def test_workspaces_stay_apart(start: Callable[..., Emulator]) -> None:
    workspaces = {"ann": "wrkspc_a", "bob": "wrkspc_b"}
    client_of(start(workspaces=workspaces), "ann").messages.batches.create(requests=requests())
    emulator = start(workspaces=workspaces)

    assert len(client_of(emulator, "ann").messages.batches.list().data) == 1
    assert client_of(emulator, "bob").messages.batches.list().data == []


@pytest.mark.skipif(os.name != "posix", reason="Windows has other permissions")
def test_only_the_owner_may_read(start: Callable[..., Emulator], tmp_path: Path) -> None:
    """Prompts are private: folder 0700, files 0600, whatever the umask."""
    client = client_of(start())
    client.messages.batches.cancel(client.messages.batches.create(requests=requests()).id)
    folder = tmp_path / "state"

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    assert sorted(file.suffix for file in folder.iterdir()) == [".batch", ".state"]


def test_what_a_crash_left_half_written_is_removed(
    start: Callable[..., Emulator], tmp_path: Path
) -> None:
    """A file is whole or was never there; the half of one is dropped at the next start."""
    start()
    half = tmp_path / "state" / "msgbatch_sim1.batch.tmp"
    half.write_bytes(b'{"vers')

    assert start().batches == []
    assert not half.exists()


def test_made_up_batches_leave_no_files(start: Callable[..., Emulator], tmp_path: Path) -> None:
    client = client_of(start(permissive_ids=True))
    client.messages.batches.cancel("made-up")
    client.messages.batches.delete("made-up")
    client.messages.batches.retrieve("made-up")

    assert list((tmp_path / "state").iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]\n",
        b'{"version": 99, "sequence": 0}\n{}',
        b'{"version": 1, "sequence": 0, "rules": [], "cached": []}\n{}',
        b'{"version": 1, "sequence": 0, "rules": [{"outcome": "no"}], "cached": []}\n{}',
        b'{"version": 1, "sequence": null}\n',
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    start: Callable[..., Emulator], tmp_path: Path, content: bytes
) -> None:
    start()
    (tmp_path / "state" / "odd.batch").write_bytes(content)

    with pytest.raises(InputError, match=r"odd\.batch is not a batch .* Remove the file"):
        start()


def test_a_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(
        InputError, match=r"The state folder .*file cannot be used: .* Pass a folder"
    ):
        Emulator(state=tmp_path / "file")


def test_a_batch_that_cannot_be_written_is_not_acknowledged(
    start: Callable[..., Emulator], tmp_path: Path
) -> None:
    """Without the folder a create is a 500, and no batch is there that a restart would lose."""
    emulator = start()
    (tmp_path / "state").rmdir()
    with pytest.raises(anthropic.InternalServerError, match="cannot write its state folder"):
        client_of(emulator).messages.batches.create(requests=requests())

    assert emulator.batches == []
    assert client_of(emulator).messages.batches.list().data == []


def test_a_killed_server_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    """Batches are created until the server is killed; those that were answered are all there."""
    command = [sys.executable, "-m", "claude_batch_pandas", "emulate", "--state", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        server.stdout.readline()
        url = server.stdout.readline().removeprefix("export ANTHROPIC_BASE_URL=").strip()
        body = json.dumps({"requests": requests()})
        with httpx2.Client(base_url=url, trust_env=False) as web:
            known = [web.post(PATH, content=body.encode()).json()["id"] for _ in range(20)]
            web.post(f"{PATH}/{known[0]}/cancel")
            server.send_signal(signal.SIGKILL)
    emulator = Emulator(state=tmp_path)

    assert [batch.id for batch in emulator.batches] == known
    assert emulator.batches[0].saved()["canceled_at"] is not None
