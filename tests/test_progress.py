"""Honest progress: what moves, in words and bars; drawing never breaks a run."""

from __future__ import annotations

import io
import logging
import threading
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_batch_pandas.progress import (
    WORDS,
    Lines,
    TerminalBar,
    Throttle,
    describe,
    duration,
    measure,
    silent,
    state_of,
)
from claude_batch_pandas.records import (
    Counts,
    Progress,
    RunRecord,
    RunState,
    Scope,
    Shard,
    ShardState,
)

STOP = "stop"
RECORD = RunRecord(
    id="20261120-intent-x7k2",
    name="intent",
    key="k",
    scope=Scope("https://api.example", "org", "ws"),
    nonce="0" * 16,
    model="claude-haiku-5-5",
    output="intent",
    rows=40,
    requests=30,
    created_at=1_000.0,
)
PROGRESS = Progress(
    run_id="r", name="n", state=RunState.IN_PROGRESS, rows=40, requests=30, shards=3
)


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.time += seconds
        return event.is_set()


class Recorder:
    """A hook that keeps what it is shown."""

    def __init__(self) -> None:
        self.seen: list[Progress] = []

    def __call__(self, progress: Progress) -> None:
        self.seen.append(progress)


def shard(state: ShardState, number: int = 0, **fields: Any) -> Shard:
    made: dict[str, Any] = {
        "run_id": RECORD.id,
        "number": number,
        "attempt": 1,
        "total": 10,
        "size": 1,
        "sha256": "",
        "state": state,
        **fields,
    }
    return Shard(**made)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], RunState.SUBMITTING),
        ([ShardState.COLLECTED, ShardState.WITHDRAWN], RunState.SUBMITTING),
        ([ShardState.SUBMITTING, ShardState.PLANNED, ShardState.ENDED], RunState.CHECKING),
        ([ShardState.PLANNED, ShardState.IN_PROGRESS, ShardState.ENDED], RunState.SUBMITTING),
        ([ShardState.ENDED, ShardState.IN_PROGRESS], RunState.COLLECTING),
        ([ShardState.IN_PROGRESS, ShardState.COLLECTED], RunState.IN_PROGRESS),
    ],
)
def test_most_telling_shard_names_the_state(states: list[ShardState], expected: RunState) -> None:
    """A run is where its most telling shard is; with nothing left, where its record says."""
    assert state_of(RECORD, [shard(state) for state in states]) is expected


def test_canceled_run_is_canceling_until_it_is_settled() -> None:
    """A cancel shows until every shard is settled, unless one is still being checked."""
    record = replace(RECORD, cancel=True, state=RunState.ENDED)

    assert state_of(record, [shard(ShardState.IN_PROGRESS)]) is RunState.CANCELING
    assert state_of(record, [shard(ShardState.SUBMITTING)]) is RunState.CHECKING
    assert state_of(record, [shard(ShardState.COLLECTED)]) is RunState.ENDED


def test_measure_counts_what_moves() -> None:
    """Shards are counted by how far they are, and times run from the run's making."""
    shards = [
        shard(ShardState.PLANNED),
        shard(ShardState.IN_PROGRESS, batch_id="a", expires_at=1_500.0),
        shard(ShardState.CANCELING, batch_id="b", expires_at=1_400.0),
        shard(ShardState.ENDED, batch_id="c", expires_at=1_100.0, counts=Counts(succeeded=10)),
        shard(ShardState.COLLECTED, batch_id="d", total=7, counts=Counts(succeeded=4, errored=3)),
        shard(ShardState.WITHDRAWN),
    ]
    found = measure(RECORD, shards, 1_060.0, "waiting")

    assert (found.rows, found.requests, found.shards) == (40, 30, 6)
    assert (found.submitted, found.ended, found.collected, found.downloaded) == (4, 3, 2, 7)
    assert found.counts == Counts(succeeded=14, errored=3)
    assert (found.elapsed, found.expires_in) == (60.0, 340.0)
    assert (found.state, found.note) == (RunState.SUBMITTING, "waiting")


def test_times_are_never_negative() -> None:
    """A clock that was set back, and a batch past its expiry, show 0."""
    found = measure(RECORD, [shard(ShardState.IN_PROGRESS, batch_id="a", expires_at=500.0)], 900.0)

    assert (found.elapsed, found.expires_in) == (0.0, 0.0)


def test_nothing_open_has_no_expiry() -> None:
    """Without an open batch nothing expires."""
    assert measure(RECORD, [shard(ShardState.PLANNED)], 1_060.0).expires_in is None


@pytest.mark.parametrize("state", [RunState.PAUSED, RunState.ENDED, RunState.PURGED])
def test_record_that_is_over_tells_why(state: RunState) -> None:
    """A paused or ended run shows its own state and note, whatever its shards say."""
    record = replace(RECORD, state=state, note="no credit")
    found = measure(record, [shard(ShardState.IN_PROGRESS)], 1_060.0)

    assert (found.state, found.note) == (state, "no credit")


def test_note_of_a_moving_run_is_not_shown() -> None:
    """A run that goes on no longer shows why it was paused."""
    record = replace(RECORD, note="no credit")

    assert measure(record, [shard(ShardState.IN_PROGRESS)], 1_060.0).note == ""


@pytest.mark.parametrize(
    "shards",
    [
        [shard(ShardState.COLLECTED, run_id="an older run", total=10_000)],
        [shard(ShardState.COLLECTED, 0, total=30), shard(ShardState.COLLECTED, 1, attempt=2)],
    ],
    ids=["borrowed", "retried"],
)
def test_downloaded_never_exceeds_the_requests(shards: list[Shard]) -> None:
    """A run of 30 requests has at most 30 results here, borrowed and retried ones included."""
    found = measure(RECORD, shards, 1_060.0)

    assert 0 < found.downloaded <= found.requests


def test_description_says_where_a_run_is() -> None:
    """One line: state, shards, results, time so far, time left, and what is waited for."""
    progress = replace(
        PROGRESS,
        ended=1,
        downloaded=1_200,
        requests=3_000,
        elapsed=840.0,
        expires_in=82_800.0,
        note="waiting for room",
    )

    assert describe(progress) == (
        "run r: in progress at the API; 1 of 3 shards ended; 1,200 of 3,000 results here; "
        "14 min so far; expires in 23 h 00 min; waiting for room"
    )


def test_description_leaves_out_what_is_not_there() -> None:
    """Nothing is said of shards, results or expiry that do not exist."""
    assert describe(replace(PROGRESS, shards=0, state=RunState.PREPARING)) == (
        "run r: rendering rows; 0 s so far"
    )


def test_summary_is_the_description_of_an_ended_run() -> None:
    """The closing line says it all."""
    assert describe(replace(PROGRESS, summary="990 succeeded")) == "990 succeeded"


@pytest.mark.parametrize("state", RunState)
def test_every_state_has_words(state: RunState) -> None:
    """No state is shown by its code name alone."""
    assert WORDS[state]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (840, "14 min"),
        (3_599, "59 min"),
        (3_600, "1 h 00 min"),
        (11_100, "3 h 05 min"),
        (86_400, "24 h 00 min"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    """Seconds, minutes, then hours and minutes."""
    assert duration(seconds) == text


@pytest.fixture
def shown() -> Recorder:
    return Recorder()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_throttle_shows_at_most_twice_a_second(shown: Recorder, clock: Clock) -> None:
    """Changes that come faster are left out, and the next one in time is shown."""
    throttle = Throttle(shown, clock)
    for ended, clock.time in enumerate([0.0, 0.1, 0.49, 0.5, 0.9]):
        throttle(replace(PROGRESS, ended=ended))

    assert [progress.ended for progress in shown.seen] == [0, 3]


def test_throttle_shows_only_changes(shown: Recorder, clock: Clock) -> None:
    """What is the same is not drawn again; a second that went by is a change."""
    throttle = Throttle(shown, clock)
    for clock.time, elapsed in enumerate([0.0, 0.2, 0.9, 1.1]):
        throttle(replace(PROGRESS, elapsed=elapsed))

    assert [progress.elapsed for progress in shown.seen] == [0.0, 1.1]


@pytest.mark.parametrize(
    "last",
    [replace(PROGRESS, summary="done"), replace(PROGRESS, state=RunState.PAUSED)],
    ids=["ended", "paused"],
)
def test_throttle_never_holds_back_the_end(shown: Recorder, clock: Clock, last: Progress) -> None:
    """The closing line and a pause are shown at once, and once."""
    throttle = Throttle(shown, clock)
    throttle(PROGRESS)
    throttle(last)
    throttle(last)

    assert shown.seen == [PROGRESS, last]


def test_broken_display_never_breaks_a_run(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """An error while drawing is logged once, and the hook is left alone from then on."""
    calls: list[Progress] = []

    def broken(progress: Progress) -> None:
        calls.append(progress)
        msg = "no display"
        raise RuntimeError(msg)

    throttle = Throttle(broken, clock)
    with caplog.at_level(logging.WARNING):
        throttle(PROGRESS)
        clock.time = 10.0
        throttle(replace(PROGRESS, ended=2))

    assert len(calls) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "Progress can no longer be shown; the run goes on."
    ]


def test_interrupt_while_drawing_is_an_interrupt(clock: Clock) -> None:
    """Stopping the cell while a bar is drawn still stops the cell."""

    def interrupted(progress: Progress) -> None:
        raise KeyboardInterrupt(STOP)

    with pytest.raises(KeyboardInterrupt, match="stop"):
        Throttle(interrupted, clock)(PROGRESS)


@given(st.lists(st.integers(0, 3), max_size=10), st.lists(st.floats(0, 2), max_size=10))
@settings(deadline=None, max_examples=50)
def test_last_change_is_shown_in_the_end(steps: list[int], gaps: list[float]) -> None:
    """However fast things move, the summary shows the end, and no state is drawn twice in a row."""
    shown = Recorder()
    clock = Clock()
    throttle = Throttle(shown, clock)
    for ended, gap in zip(steps, gaps, strict=False):
        clock.time += gap
        throttle(replace(PROGRESS, ended=ended))
    throttle(replace(PROGRESS, summary="done"))

    assert shown.seen[-1].summary == "done"
    assert all(one != two for one, two in pairwise(shown.seen))


def test_bar_moves_by_shards_and_ends_with_the_summary() -> None:
    """The bar counts shards, tells the state and the expiry, and leaves only the closing line."""
    stream = io.StringIO()
    bar = TerminalBar(stream)
    bar(replace(PROGRESS, ended=1, expires_in=3_600.0, note="waiting"))
    during = stream.getvalue()
    bar(replace(PROGRESS, ended=3, state=RunState.ENDED, summary="40 succeeded; $0.01"))

    assert "1/3 shards" in during
    assert "in progress at the API, expires in 1 h 00 min, waiting" in during
    assert stream.getvalue().endswith("40 succeeded; $0.01\n")


def test_bar_of_a_run_that_was_over_is_one_line() -> None:
    """A run that is over when it is first shown needs no bar."""
    stream = io.StringIO()
    TerminalBar(stream)(replace(PROGRESS, state=RunState.ENDED, summary="done"))

    assert stream.getvalue() == "done\n"


def test_paused_bar_says_why() -> None:
    """A pause closes the bar and prints where the run is and why."""
    stream = io.StringIO()
    TerminalBar(stream)(replace(PROGRESS, state=RunState.PAUSED, note="no credit"))

    assert stream.getvalue().endswith("run r: paused; 0 of 3 shards ended; 0 s so far; no credit\n")


def test_lines_are_written_on_change() -> None:
    """A log gets a line when something but the time has moved."""
    stream = io.StringIO()
    lines = Lines(stream)
    lines(PROGRESS)
    lines(replace(PROGRESS, elapsed=5.0))
    lines(replace(PROGRESS, elapsed=6.0, ended=1))

    assert stream.getvalue().splitlines() == [
        "run r: in progress at the API; 0 of 3 shards ended; 0 s so far",
        "run r: in progress at the API; 1 of 3 shards ended; 6 s so far",
    ]


def test_progress_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output stays for results; silence shows nothing."""
    Lines()(replace(PROGRESS, summary="log done"))
    TerminalBar()(replace(PROGRESS, summary="bar done"))
    silent(PROGRESS)
    found = capsys.readouterr()

    assert (found.out, found.err) == ("", "log done\nbar done\n")
