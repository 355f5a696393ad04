"""The API keeps results for 29 days: said in time, and wherever a run is looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas import session
from claude_batch_pandas.deadlines import DAY, warning
from claude_batch_pandas.emulator import Emulator
from claude_batch_pandas.records import Shard, ShardState
from tests.conftest import JumpingClock
from tests.test_steps import on_results

CREATED = 1_800_000_000.0  # 15 January 2027


def shard(state: ShardState, created_at: float | None = CREATED) -> Shard:
    """Return a shard whose batch was created then."""
    return Shard(
        run_id="r",
        number=0,
        attempt=1,
        total=1,
        size=1,
        sha256="",
        state=state,
        batch_id=None if created_at is None else "msgbatch_1",
        created_at=created_at,
    )


@pytest.mark.parametrize(
    ("state", "days", "words"),
    [
        (ShardState.IN_PROGRESS, 0.0, ""),
        (ShardState.IN_PROGRESS, 20.99, ""),
        (ShardState.ENDED, 0.1, "deletes them on 13 February 2027. Fetch"),
        (ShardState.ENDED, 20.99, "deletes them on 13 February 2027. Fetch"),
        (ShardState.IN_PROGRESS, 21.0, "on 13 February 2027, within 8 days. Fetch"),
        (ShardState.ENDED, 26.99, ", within 8 days."),
        (ShardState.ENDED, 27.0, ", within 2 days."),
        (ShardState.ENDED, 28.0, ", within a day."),
        (ShardState.ENDED, 29.0, "the API deleted them on 13 February 2027, 29 days after"),
        (ShardState.COLLECTED, 28.0, ""),
        (ShardState.PLANNED, 28.0, ""),
        (ShardState.ENDED, -9000.0, "deletes them on 13 February 2027. Fetch"),
    ],
)
def test_it_is_said_when_a_batch_ends_and_before_it_is_too_late(
    state: ShardState, days: float, words: str
) -> None:
    """At the end, and from days 21, 27 and 28 on; never of what is here, or was never sent."""
    created = None if state is ShardState.PLANNED else CREATED
    told = warning("r", [shard(state, created)], CREATED + days * DAY)

    assert words in told
    assert bool(told) is bool(words)


def test_the_oldest_batch_counts() -> None:
    shards = [shard(ShardState.ENDED, CREATED + 9 * DAY), shard(ShardState.ENDED)]

    assert "(2 batches); the API deletes them on 13 February" in warning("r", shards, CREATED)


def test_who_looks_at_a_run_is_told(
    client: Any, clock: JumpingClock, emulator: Emulator, home: Path
) -> None:
    """In the list of runs, by its id, and in its repr; once collected, nothing is said."""
    pd.DataFrame({"text": ["a"]}).claude.submit("{text}", client=client)
    session.crew.leave(60.0)
    run_id = cbp.runs()["id"].iloc[0]
    clock.advance(27.5 * DAY)
    words = f"Results of run {run_id} are not on this disk yet .*, within 2 days"
    with pytest.warns(UserWarning, match=words):
        cbp.runs()
    with pytest.warns(UserWarning, match=words):
        run = cbp.run(run_id, client=client)
    assert ", within 2 days" in repr(run)
    run.wait()

    assert "within" not in repr(run)
    assert cbp.runs()["state"].tolist() == ["ended"]


def test_who_cannot_fetch_results_is_told(
    connect: Any, clock: JumpingClock, caplog: pytest.LogCaptureFixture
) -> None:
    """By the server's clock: this machine's may be years off."""
    server = JumpingClock(clock.now() + 4000 * DAY)
    clock.on_wait = lambda: server.advance(DAY / 4)
    emulator = Emulator(clock=server.now, duration=60.0, faults=[on_results(status=503, times=112)])
    out = pd.DataFrame({"text": ["a"]}).claude.batch("{text}", client=connect(emulator))

    told = [record.message for record in caplog.records if "not on this disk yet" in record.message]
    steps = ["within 8 days", "within 2 days", "within a day"]
    assert len(told) == 4
    assert all(step in words for step, words in zip(steps, told[1:], strict=True))
    assert out["answer_status"].tolist() == ["succeeded"]
