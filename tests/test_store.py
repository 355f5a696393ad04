"""The ledger: durable, private, one transaction a step, and honest about what it cannot use."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_batch_pandas.exceptions import LedgerError, RunNotFoundError
from claude_batch_pandas.records import (
    Batch,
    Counts,
    RunRecord,
    RunState,
    Scope,
    Shard,
    ShardState,
    Twin,
)
from claude_batch_pandas.store import FILE, Store
from claude_batch_pandas.tables import MIGRATIONS
from tests.strategies import texts

SCOPE = Scope("https://api.example", "org_1", "wrkspc_1")
OTHER = Scope("https://api.example", "org_1", "wrkspc_2")
NOW = 1_800_000_000.0
BATCH = Batch(
    id="msgbatch_1",
    processing_status="in_progress",
    counts=Counts(processing=10),
    created_at=NOW,
    expires_at=NOW + 86_400,
)


def run_of(run_id: str = "r", **values: Any) -> RunRecord:
    """Return a run with plain values where none are given."""
    plain: dict[str, Any] = {
        "name": run_id,
        "key": f"key of {run_id}",
        "scope": SCOPE,
        "nonce": f"nonce of {run_id}",
        "model": "m",
        "output": "answer",
        "rows": 10,
        "requests": 10,
        "created_at": NOW,
    }
    return RunRecord(id=run_id, **(plain | values))


def shard_of(run_id: str = "r", number: int = 0, **values: Any) -> Shard:
    """Return a planned shard with plain values where none are given."""
    plain: dict[str, Any] = {"attempt": 1, "total": 10, "size": 100, "sha256": "00"}
    return Shard(run_id=run_id, number=number, **(plain | values))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.fixture
def shard(store: Store) -> Shard:
    """Return the one shard of the one run of the store."""
    store.add_run(run_of(), [shard_of()])
    return shard_of()


def version_of(path: Path) -> int:
    """Return the version number inside a database."""
    database = sqlite3.connect(path)
    try:
        return int(database.execute("PRAGMA user_version").fetchone()[0])
    finally:
        database.close()


def set_version(path: Path, version: int) -> None:
    """Write a version number into a database."""
    database = sqlite3.connect(path)
    try:
        database.execute(f"PRAGMA user_version = {version}")
    finally:
        database.close()


# Durability and privacy


def test_commits_wait_for_the_disk(store: Store) -> None:
    """Every connection syncs at every commit, and the journal is one that makes this hold."""
    with store._database.reading() as database:
        synchronous = database.execute("PRAGMA synchronous").fetchone()[0]
        journal = database.execute("PRAGMA journal_mode").fetchone()[0]

    assert synchronous == 2
    assert journal in {"delete", "truncate", "persist", "wal"}


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_the_database_is_for_its_owner(umask: int, tmp_path: Path) -> None:
    """Folder 0700 and file 0600 whatever the umask."""
    old = os.umask(umask)
    try:
        Store(tmp_path / "home").add_run(run_of(), [])
    finally:
        os.umask(old)

    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "home" / FILE).stat().st_mode & 0o777 == 0o600


def test_what_was_written_is_there_for_the_next_process(store: Store, shard: Shard) -> None:
    """Another store over the same folder reads what this one wrote."""
    store.mark_submitting(shard, "fence", NOW)
    other = Store(store.home)

    assert other.run("r") == store.run("r")
    assert other.shards("r") == store.shards("r")


def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    """A run whose second shard is refused is not there at all."""
    with pytest.raises(LedgerError, match="UNIQUE constraint failed: shards"):
        store.add_run(run_of(), [shard_of(), shard_of()])

    assert store.runs() == []
    assert store.shards("r") == []


def test_no_key_prompt_or_answer_is_in_the_database(
    queries: pd.DataFrame, client: Any, home: Path
) -> None:
    """What rows ask and what is answered stands in the spool; the key stands nowhere."""
    queries.claude.batch("Whisper: {text}", system="A private system", client=client)
    data = b"".join(path.read_bytes() for path in home.glob(f"{FILE}*"))

    assert b"answer" in data
    for private in (b"card", b"Whisper", b"private system", b"[simulated]", b"key-of-a-test"):
        assert private not in data


# Records


counts = st.builds(Counts, **{name: st.integers(0, 100_000) for name in Counts.__slots__})
times = st.floats(0, 1e11, allow_nan=False)
names = texts.filter(lambda text: "\0" not in text)
numbers = st.integers(0, 2**31)
runs = st.builds(
    RunRecord,
    id=names,
    name=names,
    key=names,
    scope=st.builds(Scope, names, names, names),
    nonce=names,
    model=names,
    output=names,
    rows=numbers,
    requests=numbers,
    created_at=times,
    ended_at=st.none() | times,
    reuse=st.booleans(),
    sources=st.lists(names, max_size=3).map(tuple),
    reasons=st.lists(st.tuples(names, names), max_size=3).map(tuple),
    state=st.sampled_from(RunState),
    note=names,
    cancel=st.booleans(),
)
shards = st.builds(
    Shard,
    run_id=st.just(""),
    number=numbers,
    attempt=st.integers(1, 99),
    total=numbers,
    size=st.integers(0, 256_000_000),
    sha256=names,
    betas=st.lists(names, max_size=3).map(tuple),
)


@given(runs, shards, counts, times, times, st.text("0123456789", min_size=1))
@settings(deadline=None, max_examples=30)
def test_records_come_back_as_they_went_in(
    run: RunRecord, shard: Shard, seen: Counts, start: float, end: float, batch_id: str
) -> None:
    """Any run, any shard and any description of a batch survives the disk."""
    shard = replace(shard, run_id=run.id)
    batch = Batch(
        id=batch_id, processing_status="ended", counts=seen, created_at=start, expires_at=end
    )
    with TemporaryDirectory() as folder:
        store = Store(Path(folder))
        store.add_run(run, [shard])
        planned = store.shards(run.id)
        is_sent = store.mark_submitting(shard, "fence", start)
        store.mark_submitted(shard, batch)
        found = (store.run(run.id), store.runs(), planned, store.shards(run.id))

    assert is_sent is not run.cancel
    assert found == (
        run,
        [run],
        [shard],
        [
            replace(
                shard,
                state=ShardState.ENDED,
                fence=None if run.cancel else "fence",
                intended_at=None if run.cancel else start,
                batch_id=batch_id,
                created_at=start,
                expires_at=end,
                counts=seen,
            )
        ],
    )


def test_runs_are_listed_newest_first(store: Store) -> None:
    """The order is that of creation, whatever the order of writing."""
    for name, created in {"b": 2.0, "c": 3.0, "a": 1.0}.items():
        store.add_run(run_of(name, created_at=created), [])

    assert [run.id for run in store.runs()] == ["c", "b", "a"]


def test_shards_are_listed_by_number(store: Store) -> None:
    """The order of the shards is theirs, whatever the order of writing."""
    store.add_run(run_of(), [shard_of(number=i) for i in (2, 0, 1)])

    assert [shard.number for shard in store.shards("r")] == [0, 1, 2]


@pytest.mark.parametrize("known", [0, 7])
def test_unknown_run_is_told_with_the_latest(known: int, store: Store) -> None:
    """The error names at most five runs, newest first, or says that there are none."""
    for i in range(known):
        store.add_run(run_of(f"r{i}", created_at=float(i)), [])
    words = r"latest are: r6, r5, r4, r3, r2\.$" if known else r"It holds no runs\.$"

    with pytest.raises(RunNotFoundError, match=rf"There is no run 'nope' in .*{words}"):
        store.run("nope")


def test_find_returns_the_newest_run_that_was_not_purged(store: Store) -> None:
    """A purged run no longer answers its cell; a clock that was set back makes nothing older."""
    for name, created in {"old": 1.0, "mid": 3.0, "new": 2.0}.items():
        store.add_run(run_of(name, key="k", created_at=created), [])
    found = []
    for name in ("new", "mid", "old"):
        found.append(store.find("k", prefer_whole=False))
        store.set_state(name, RunState.PURGED)

    assert [run.id for run in found if run is not None] == ["new", "mid", "old"]
    assert store.find("k", prefer_whole=False) is None
    assert store.find("another key", prefer_whole=False) is None


def test_history_is_of_one_scope_and_of_runs_that_sent_something(store: Store) -> None:
    """Purged runs, runs of other scopes and runs without shards have nothing to reuse."""
    for name, scope in {"a": SCOPE, "b": SCOPE, "elsewhere": OTHER, "gone": SCOPE}.items():
        store.add_run(run_of(name, scope=scope, created_at=float(ord(name[0]))), [shard_of(name)])
    store.add_run(run_of("borrows all"), [])
    store.set_state("gone", RunState.PURGED)

    assert store.history(SCOPE) == ["b", "a"]
    assert store.history(OTHER) == ["elsewhere"]
    assert store.history(SCOPE._replace(origin="https://elsewhere.example")) == []
    assert store.history(SCOPE._replace(organization="org_2")) == []


# Steps of a shard


def test_an_intent_is_durable(store: Store, shard: Shard) -> None:
    """The fence and the time of the intent are there before anything is sent."""
    assert store.mark_submitting(shard, "msgbatch_0", NOW)
    assert store.shards("r") == [
        replace(shard, state=ShardState.SUBMITTING, fence="msgbatch_0", intended_at=NOW)
    ]


def test_an_intent_is_made_once(store: Store, shard: Shard) -> None:
    """The second one is refused, also through the shard that was read before the first."""
    first = store.mark_submitting(shard, "a", NOW)

    assert first
    assert not store.mark_submitting(shard, "b", NOW + 1)
    assert not store.mark_submitting(replace(shard, attempt=2), "b", NOW + 1)
    assert store.shards("r")[0].fence == "a"


def test_one_of_many_wins_a_race_for_an_intent(store: Store) -> None:
    """Stores of several threads try to send the same shards; each is won by exactly one."""
    planned = [shard_of(number=i) for i in range(10)]
    store.add_run(run_of(), planned)
    start = threading.Barrier(4)
    won: list[int] = []

    def race() -> None:
        mine = Store(store.home)
        start.wait()
        won.extend(shard.number for shard in planned if mine.mark_submitting(shard, "", NOW))

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(won) == list(range(10))


def test_a_batch_is_remembered(store: Store, shard: Shard) -> None:
    """What the API calls the batch, and how it describes it then and later."""
    store.mark_submitting(shard, "", NOW)
    store.mark_submitted(shard, BATCH)
    submitted = store.shards("r")[0]
    ended = replace(BATCH, processing_status="ended", counts=Counts(succeeded=9, errored=1))
    store.mark_seen(shard, ended)
    seen = store.shards("r")[0]

    assert (submitted.state, submitted.batch_id) == (ShardState.IN_PROGRESS, "msgbatch_1")
    assert (submitted.created_at, submitted.expires_at) == (NOW, NOW + 86_400)
    assert submitted.counts == Counts(processing=10)
    assert seen == replace(submitted, state=ShardState.ENDED, counts=ended.counts)
    assert store.batch_ids() == {"msgbatch_1"}


def test_a_batch_belongs_to_one_shard(store: Store) -> None:
    """The same batch is never adopted twice."""
    store.add_run(run_of(), [shard_of(number=0), shard_of(number=1)])
    store.mark_submitted(shard_of(number=0), BATCH)

    with pytest.raises(LedgerError, match=r"UNIQUE constraint failed: shards\.batch_id"):
        store.mark_submitted(shard_of(number=1), BATCH)


def test_an_intent_can_be_taken_back(store: Store, shard: Shard) -> None:
    """Proof that nothing was created leaves the shard as it was planned."""
    store.mark_submitting(shard, "a", NOW)
    store.mark_planned(shard)

    assert store.shards("r") == [shard]
    assert store.mark_submitting(shard, "b", NOW)


def test_replanning_is_another_attempt(store: Store, shard: Shard) -> None:
    """The old attempt can no longer be touched; the new one has the new body's hash."""
    store.mark_submitting(shard, "a", NOW)
    store.mark_replanned(shard, "11")

    assert store.shards("r") == [replace(shard, attempt=2, sha256="11")]
    with pytest.raises(LedgerError, match="attempt 1 is gone"):
        store.mark_submitted(shard, BATCH)


def test_a_refused_intent_leaves_a_twin(store: Store, shard: Shard) -> None:
    """The shard is planned again; what was sent is remembered, as it was sent."""
    store.mark_submitting(shard, "a", NOW)
    store.mark_doubted(store.shard("r", 0), refused=True)

    assert store.shards("r") == [shard]
    assert store.twins("r") == [
        Twin(run_id="r", number=0, attempt=1, fence="a", intended_at=NOW, refused=True)
    ]


@pytest.mark.parametrize("lose", ["doubted", "replanned"])
def test_a_twin_of_two_submissions_is_looked_for_from_the_first_on(
    lose: str, store: Store, shard: Shard
) -> None:
    """And for as long as the answer of one that was lost is worth."""
    store.mark_submitting(shard, "a", NOW)
    store.mark_doubted(store.shard("r", 0), refused=True)
    store.mark_submitting(shard, "b", NOW + 9)
    if lose == "doubted":
        store.mark_doubted(store.shard("r", 0), refused=False)
    else:
        store.mark_replanned(store.shard("r", 0), "11")

    assert store.twins("r") == [
        Twin(run_id="r", number=0, attempt=1, fence="a", intended_at=NOW + 9)
    ]


def test_a_twin_takes_the_place_of_the_shards_batch(store: Store, shard: Shard) -> None:
    """Each is then described as the other was, and nothing of old results is believed."""
    store.mark_submitting(shard, "a", NOW)
    store.mark_replanned(store.shard("r", 0), "11")
    second = store.shard("r", 0)
    store.mark_submitting(second, "b", NOW + 1)
    store.mark_submitted(second, BATCH)
    store.mark_collected(second, "22", complete=False)
    store.set_spent(second, Decimal("0.25"))
    [twin] = store.twins("r")
    counts = Counts(succeeded=9, errored=1)
    late = replace(BATCH, id="msgbatch_0", processing_status="ended", counts=counts)
    store.swap(store.shard("r", 0), twin, late)

    assert store.shard("r", 0) == replace(
        second,
        attempt=1,
        state=ShardState.ENDED,
        fence="a",
        intended_at=NOW,
        batch_id="msgbatch_0",
        created_at=NOW,
        expires_at=NOW + 86_400,
        counts=counts,
    )
    assert store.twins("r") == [
        Twin(
            run_id="r",
            number=0,
            attempt=2,
            fence="b",
            intended_at=NOW + 1,
            batch_id="msgbatch_1",
            unpriced=10,
        )
    ]


@pytest.mark.parametrize(("lost", "shape"), [(True, "lost"), (False, "")])
def test_a_canary_becomes_a_part_of_a_batch(*, lost: bool, shape: str, store: Store) -> None:
    """Of its shape nothing is known; nothing of its own submission is left but that it was lost."""
    canary = shard_of(live=True, shape="a shape")
    store.add_run(run_of(), [canary])
    store.mark_submitting(canary, "a", NOW)
    store.mark_unlive(canary, lost=lost)

    assert store.shard("r", 0) == replace(canary, live=False, shape=shape)


@pytest.mark.parametrize("state", [ShardState.PLANNED, ShardState.WITHDRAWN])
def test_what_was_never_sent_is_no_twin(state: ShardState, store: Store, shard: Shard) -> None:
    store.mark_submitting(shard, "a", NOW)
    store.mark_doubted(shard, refused=False)
    if state is ShardState.WITHDRAWN:
        store.mark_withdrawn(shard)
    [twin] = store.twins("r")
    store.swap(store.shard("r", 0), twin, BATCH)

    assert store.shard("r", 0).batch_id == BATCH.id
    assert store.twins("r") == []


def test_what_became_of_a_twin_is_remembered(store: Store, shard: Shard) -> None:
    store.mark_submitting(shard, "a", NOW)
    store.mark_replanned(shard, "11")
    [twin] = store.twins("r")
    settled = replace(twin, batch_id="late", settled=True, dollars=Decimal("0.1234"), unpriced=2)
    store.mark_twin(settled)

    assert store.twins("r") == [settled]
    assert store.batch_ids() == {"late"}
    assert store.owner("late") == "r"
    store.purge("r")
    assert store.twins("r") == [replace(settled, batch_id=None)]  # its dollars stay spent
    assert store.owner("late") is None


def test_fences_are_those_of_submissions_that_are_looked_into(store: Store) -> None:
    store.add_run(run_of(), [shard_of(number=number) for number in range(4)])
    for number, fence in enumerate(["a", "", None]):
        store.mark_submitting(store.shard("r", number), fence, NOW)
    assert store.fences() == {"a": "r"}
    store.mark_submitted(store.shard("r", 0), BATCH)
    assert store.fences() == {}


def test_what_a_run_shall_do_is_remembered(store: Store, shard: Shard) -> None:
    """About one run; the others stay as they are."""
    store.add_run(run_of("other"), [])
    store.set_policy("r", "wait")
    store.set_cancel("r")
    store.drop_requests("r")

    changed = store.run("r")
    assert (changed.on_unknown, changed.cancel, changed.state, changed.keep_requests) == (
        "wait",
        True,
        RunState.CANCELING,
        False,
    )
    assert store.run("other") == run_of("other")


@pytest.mark.parametrize("complete", [True, False])
def test_collected_results_are_remembered(complete: bool, store: Store, shard: Shard) -> None:
    """The hash of the file, and whether every row has its result."""
    store.mark_collected(shard, "22", complete=complete)

    assert store.shards("r") == [
        replace(shard, state=ShardState.COLLECTED, results_sha256="22", complete=complete)
    ]


def test_other_results_may_have_cost_something_else(store: Store, shard: Shard) -> None:
    """What was added up is of the results that were there; it is reckoned anew."""
    store.set_spent(shard, Decimal("0.25"))
    (before,) = store.shards("r")
    store.mark_collected(shard, "22", complete=True)
    (after,) = store.shards("r")

    assert before.spent == Decimal("0.25")
    assert after.spent is None


def test_withdrawing_is_remembered(store: Store, shard: Shard) -> None:
    """A shard that was canceled before it was sent is settled."""
    store.mark_withdrawn(shard)

    assert store.shards("r") == [replace(shard, state=ShardState.WITHDRAWN)]
    assert not store.mark_submitting(shard, "", NOW)


CHANGES: dict[str, Callable[[Store, Shard], object]] = {
    "submitted": lambda store, shard: store.mark_submitted(shard, BATCH),
    "seen": lambda store, shard: store.mark_seen(shard, BATCH),
    "planned": lambda store, shard: store.mark_planned(shard),
    "replanned": lambda store, shard: store.mark_replanned(shard, "33"),
    "collected": lambda store, shard: store.mark_collected(shard, "33", complete=True),
    "withdrawn": lambda store, shard: store.mark_withdrawn(shard),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("gone", [{"attempt": 2}, {"number": 1}, {"run_id": "other"}], ids=str)
def test_a_shard_that_is_gone_is_not_changed(
    change: Callable[[Store, Shard], object], gone: dict[str, Any], store: Store, shard: Shard
) -> None:
    """A process that was overtaken is told so, and changes nothing."""
    with pytest.raises(
        LedgerError, match=r"changed under us: attempt . is gone.* it is done, call again\.$"
    ):
        change(store, replace(shard, **gone))

    assert store.shards("r") == [shard]


# Steps of a run


def test_states_of_a_run_are_remembered(store: Store, shard: Shard) -> None:
    """Paused with its reason, going on without it, canceled, ended with its time, and reopened."""
    store.set_state("r", RunState.PAUSED, "why")
    paused = store.run("r")
    store.set_state("r", RunState.SUBMITTING)
    going_on = store.run("r")
    store.set_state("r", RunState.PAUSED, "why")
    store.set_cancel("r")
    canceled = store.run("r")
    refused = store.mark_ended("r", NOW + 60)
    store.mark_withdrawn(shard)
    accepted = store.mark_ended("r", NOW + 60)
    ended = store.run("r")
    store.reopen("r")

    assert (refused, accepted) == (False, True)
    assert (paused.state, paused.note) == (RunState.PAUSED, "why")
    assert going_on == replace(paused, state=RunState.SUBMITTING, note="")
    assert canceled == replace(paused, cancel=True, state=RunState.CANCELING)
    assert ended == replace(canceled, state=RunState.ENDED, note="", ended_at=NOW + 60)
    assert store.run("r") == replace(ended, state=RunState.SUBMITTING, cancel=False, ended_at=None)


def test_further_shards_make_a_run_go_on(store: Store, shard: Shard) -> None:
    """A retry takes back the end, and a cancel that is through; the old shards stay."""
    store.set_cancel("r")
    again = [shard_of(number=1, attempt=2)]
    is_taken_back = store.add_shards(again)
    store.reopen("r")
    canceled = store.run("r")
    store.mark_withdrawn(shard)
    store.mark_ended("r", NOW + 60)

    assert not is_taken_back
    assert (canceled.cancel, canceled.state) == (True, RunState.CANCELING)
    assert not store.add_shards(again, by_itself=True)
    assert store.add_shards(again)
    assert store.run("r") == run_of()
    assert store.shards("r") == [replace(shard, state=ShardState.WITHDRAWN), *again]


# Scopes and secrets


def test_scopes_are_remembered_by_fingerprint_and_origin(store: Store) -> None:
    """The last word counts; another origin or fingerprint is another credential."""
    store.remember_scope("f", OTHER)
    store.remember_scope("f", SCOPE)

    assert store.scope(SCOPE.origin, "f") == SCOPE
    assert store.scope(SCOPE.origin, "g") is None
    assert store.scope("https://elsewhere.example", "f") is None


def test_the_secret_is_random_and_stays(tmp_path: Path) -> None:
    """It is the same in every process of one ledger, and another in every ledger."""
    first, second = (Store(tmp_path / name).secret() for name in "ab")

    assert len(first) == 32
    assert first != second
    assert Store(tmp_path / "a").secret() == first


# Versions and damage


def test_an_old_ledger_is_brought_up(tmp_path: Path) -> None:
    """A database of version 0 gets every table; one that is current is left alone."""
    path = tmp_path / FILE
    path.touch()
    before = version_of(path)
    Store(tmp_path).add_run(run_of(), [])
    Store(tmp_path)

    assert before == 0
    assert version_of(path) == len(MIGRATIONS)
    assert [run.id for run in Store(tmp_path).runs()] == ["r"]


def test_two_processes_may_bring_it_up_at_once(tmp_path: Path) -> None:
    """Who comes second finds the work done."""
    start = threading.Barrier(4)
    failures: list[BaseException] = []

    def open_it() -> None:
        start.wait()
        try:
            Store(tmp_path)
        except BaseException as error:  # noqa: BLE001 - shown below
            failures.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert version_of(tmp_path / FILE) == len(MIGRATIONS)


def test_a_newer_ledger_is_refused_and_left_alone(store: Store) -> None:
    """An older package never writes into what it does not understand."""
    path = store.home / FILE
    newer = len(MIGRATIONS) + 1
    set_version(path, newer)
    words = rf"is of version {newer}, newer than this package \({len(MIGRATIONS)}\)\. Upgrade"
    with pytest.raises(LedgerError, match=words):
        Store(store.home)

    assert version_of(path) == newer


@pytest.mark.parametrize("damage", [b"not a database at all" * 100, b"SQLite format 3\0 cut"])
def test_a_damaged_ledger_is_told(damage: bytes, tmp_path: Path) -> None:
    """The error names the file; the file is left for somebody to look at."""
    path = tmp_path / FILE
    path.write_bytes(damage)
    with pytest.raises(LedgerError, match=r"ledger\.sqlite3 cannot be used: .*Check the disk"):
        Store(tmp_path)

    assert path.read_bytes() == damage


def test_a_ledger_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A file where the folder should be, or a folder where the file should be."""
    (tmp_path / "file").touch()
    (tmp_path / "home").mkdir(mode=0o700)
    (tmp_path / "home" / FILE).mkdir()

    with pytest.raises(LedgerError, match="set CLAUDE_BATCH_HOME to one you can write"):
        Store(tmp_path / "file" / "home")
    with pytest.raises(LedgerError, match="unable to open database file"):
        Store(tmp_path / "home")


def test_a_database_that_goes_away_is_told(store: Store) -> None:
    """A ledger deleted under a running process is an error, not an empty ledger."""
    (store.home / FILE).unlink()

    with pytest.raises(LedgerError, match="No such file"):
        store.runs()


def test_a_name_that_is_no_text_is_no_run(store: Store) -> None:
    """Half of a letter, as a broken terminal gives it."""
    with pytest.raises(RunNotFoundError, match="no run"):
        store.run("\ud800")
