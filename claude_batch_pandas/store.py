"""The ledger: what was planned, what was sent, what came back. SQLite, one row per shard.

It only remembers; what to do after a crash is `reconcile`'s business. Every change is one
transaction, on disk before the call returns. It holds no prompt, no answer and no key.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from claude_batch_pandas.caps import Cap
from claude_batch_pandas.database import Connection, Database, insert
from claude_batch_pandas.exceptions import LedgerError, PausedError, RunNotFoundError
from claude_batch_pandas.folders import make_home
from claude_batch_pandas.records import (
    LOST,
    Batch,
    RunRecord,
    RunState,
    Scope,
    Shard,
    ShardState,
    Twin,
)
from claude_batch_pandas.reservations import Till, refusal
from claude_batch_pandas.tables import (
    batch_values,
    read_run,
    read_shard,
    read_twin,
    run_row,
    shard_row,
    twin_of,
    twin_row,
)

FILE = "ledger.sqlite3"
OWNED = "SELECT run_id, batch_id FROM shards UNION ALL SELECT run_id, batch_id FROM twins"


class Store(Till):
    """The ledger's database.

    Parameters
    ----------
    home : Path
        The ledger's folder; made when missing, owner-only.

    Raises
    ------
    LedgerError
        When the database cannot be opened, or is of a newer version than this package.
    """

    def __init__(self, home: Path) -> None:
        make_home(home)
        self.home = home
        super().__init__(Database(home / FILE))

    def check(self) -> None:
        """Refuse a database that was changed by anybody but SQLite, however recently.

        Raises
        ------
        LedgerError
        """
        self._database.check()

    # Runs

    def add_run(self, run: RunRecord, shards: Sequence[Shard]) -> None:
        """Remember a run and its shards: durable before any of it is sent."""
        with self._database.writing() as database:
            insert(database, "runs", run_row(run))
            for shard in shards:
                insert(database, "shards", shard_row(shard))

    def add_shards(self, shards: Sequence[Shard], *, by_itself: bool = False) -> bool:
        """Remember further shards of runs that exist, and that those runs go on.

        A person's retry takes back a cancel that is through; what would go out `by_itself` takes
        back none. When one came in between, nothing is remembered: False then.
        """
        runs = {shard.run_id for shard in shards}
        with self._database.writing() as database:
            for run_id in runs:
                asked = database.execute("SELECT cancel, state FROM runs WHERE id = ?", (run_id,))
                row = asked.fetchone()
                if row["cancel"] and (by_itself or row["state"] != RunState.ENDED):
                    return False
            for shard in shards:
                insert(database, "shards", shard_row(shard))
                database.execute(
                    "UPDATE runs SET state = ?, note = '', cancel = 0, ended_at = NULL WHERE id = ?",
                    (RunState.SUBMITTING, shard.run_id),
                )
        return True

    def run(self, run_id: str) -> RunRecord:
        """Return a run.

        Raises
        ------
        RunNotFoundError
        """
        with self._database.reading() as database:
            asked = (str(run_id).encode(errors="replace").decode(),)
            row = database.execute("SELECT * FROM runs WHERE id = ?", asked).fetchone()
            if row is None:
                latest = [
                    found["id"]
                    for found in database.execute(
                        "SELECT id FROM runs ORDER BY created_at DESC LIMIT 5"
                    )
                ]
                exist = f"The latest are: {', '.join(latest)}." if latest else "It holds no runs."
                msg = f"There is no run {run_id!r} in the ledger {self.home}. {exist}"
                raise RunNotFoundError(msg)
        return read_run(row)

    def runs(self) -> list[RunRecord]:
        """Return every run, newest first."""
        with self._database.reading() as database:
            rows = database.execute("SELECT * FROM runs ORDER BY created_at DESC, id DESC")
            return [read_run(row) for row in rows]

    def find(self, key: str, *, prefer_whole: bool) -> RunRecord | None:
        """Return the newest run of a key that was not purged, whatever its clock said.

        Parameters
        ----------
        key : str
        prefer_whole : bool
            Rather an older run than one that was canceled: it has the answers.
        """
        order = "cancel, rowid DESC" if prefer_whole else "rowid DESC"
        with self._database.reading() as database:
            row = database.execute(
                f"SELECT * FROM runs WHERE key = ? AND state != ? ORDER BY {order} LIMIT 1",  # noqa: S608 - our own
                (key, RunState.PURGED),
            ).fetchone()
        return None if row is None else read_run(row)

    def history(self, scope: Scope) -> list[str]:
        """Return the runs of a scope that sent requests of their own, newest first.

        Those that were canceled come last: what they did not ask, another may have answered.
        """
        with self._database.reading() as database:
            rows = database.execute(
                "SELECT id FROM runs WHERE origin = ? AND organization = ? AND workspace = ? "
                "AND state != ? AND EXISTS (SELECT 1 FROM shards WHERE run_id = runs.id) "
                "ORDER BY cancel, rowid DESC",
                (*scope, RunState.PURGED),
            )
            return [row["id"] for row in rows]

    def set_state(self, run_id: str, state: RunState, note: str = "") -> None:
        """Remember where a run is."""
        with self._database.writing() as database:
            database.execute(
                "UPDATE runs SET state = ?, note = ? WHERE id = ? AND state != 'purged'",
                (state, note, run_id),
            )

    def set_policy(self, run_id: str, on_unknown: str) -> None:
        """Remember what to do when a submission of a run cannot be found."""
        with self._database.writing() as database:
            database.execute("UPDATE runs SET on_unknown = ? WHERE id = ?", (on_unknown, run_id))

    def drop_requests(self, run_id: str) -> None:
        """Remember that the request bodies of a run are not to be kept."""
        with self._database.writing() as database:
            database.execute("UPDATE runs SET keep_requests = 0 WHERE id = ?", (run_id,))

    def purge(self, run_id: str) -> None:
        """Remember that a run's data is gone; its batches may be attached again."""
        with self._database.writing() as database:
            database.execute(
                "UPDATE runs SET state = ?, note = '' WHERE id = ?", (RunState.PURGED, run_id)
            )
            database.execute("UPDATE shards SET batch_id = NULL WHERE run_id = ?", (run_id,))
            # What they cost stays spent.
            database.execute("UPDATE twins SET batch_id = NULL WHERE run_id = ?", (run_id,))

    def mark_ended(self, run_id: str, now: float) -> bool:
        """Remember that every result of a run is here; False when a shard came in meanwhile."""
        settled = (ShardState.COLLECTED, ShardState.WITHDRAWN)
        with self._database.writing() as database:
            changed = database.execute(
                "UPDATE runs SET state = ?, note = '', ended_at = coalesce(ended_at, ?) "
                "WHERE id = ? AND state != 'purged' AND NOT EXISTS "
                "(SELECT 1 FROM shards WHERE run_id = runs.id AND state NOT IN (?, ?))",
                (RunState.ENDED, now, run_id, *settled),
            )
            return changed.rowcount == 1

    def reopen(self, run_id: str) -> None:
        """Remember that a run waits for answers again."""
        with self._database.writing() as database:
            database.execute(
                "UPDATE runs SET state = ?, note = '', cancel = 0, ended_at = NULL "
                "WHERE id = ? AND (cancel = 0 OR state = ?)",
                (RunState.SUBMITTING, run_id, RunState.ENDED),
            )

    def set_cancel(self, run_id: str) -> None:
        """Remember that a run shall be canceled."""
        with self._database.writing() as database:
            database.execute(
                "UPDATE runs SET cancel = 1, state = ? WHERE id = ?", (RunState.CANCELING, run_id)
            )

    # Shards

    def shards(self, run_id: str) -> list[Shard]:
        """Return the shards of a run in their order."""
        with self._database.reading() as database:
            rows = database.execute(
                "SELECT * FROM shards WHERE run_id = ? ORDER BY number", (run_id,)
            )
            return [read_shard(row) for row in rows]

    def shard(self, run_id: str, number: int) -> Shard:
        """Return one shard of a run."""
        with self._database.reading() as database:
            return _shard(database, run_id, number)

    def mark_submitting(
        self, shard: Shard, fence: str | None, now: float | None, cap: Cap | None = None
    ) -> bool:
        """Make the intent to send a shard durable; False when another process was first.

        False, too, when the run is to be canceled: that may have been asked for just now.

        Parameters
        ----------
        shard : Shard
        fence : str or None
            The newest batch id in the server's list, "" when it was empty, None without a list.
        now : float or None
            Seconds since 1970 by the server's clock, None when it does not tell.
        cap : Cap, optional
            What may not be passed, and what is reserved.

        Raises
        ------
        PausedError
            When it does not fit under a cap.
        """
        with self._database.writing() as database:
            if cap is not None and (why := refusal(database, shard.run_id, cap)):
                raise PausedError(why)
            changed = database.execute(
                "UPDATE shards SET state = ?, fence = ?, intended_at = ?, "
                "reserved_at = ?, reserved = ?, spent = NULL "
                "WHERE run_id = ? AND number = ? AND attempt = ? AND state = ? "
                "AND EXISTS (SELECT 1 FROM runs WHERE id = run_id AND cancel = 0)",
                (
                    ShardState.SUBMITTING,
                    fence,
                    now,
                    None if cap is None else cap.at,
                    None if cap is None or cap.reserve is None else str(cap.reserve),
                    shard.run_id,
                    shard.number,
                    shard.attempt,
                    ShardState.PLANNED,
                ),
            )
            return changed.rowcount == 1

    def mark_submitted(self, shard: Shard, batch: Batch) -> None:
        """Remember the batch a shard became."""
        self._update(shard, batch_id=batch.id, **batch_values(batch))

    def mark_seen(self, shard: Shard, batch: Batch) -> None:
        """Remember how the API describes the batch now."""
        self._update(shard, **batch_values(batch))

    def mark_planned(self, shard: Shard) -> None:
        """Take an intent back: it is proved that nothing was created."""
        self._update(shard, state=ShardState.PLANNED, fence=None, intended_at=None)

    def mark_doubted(self, shard: Shard, *, refused: bool) -> None:
        """Take an intent back without proof, and remember it as a twin, should it be a batch.

        Parameters
        ----------
        shard : Shard
        refused : bool
            Whether the API said that it did not take it; else its answer was lost.
        """
        with self._database.writing() as database:
            sent = _shard(database, shard.run_id, shard.number)  # with its fence and reservation
            _update(database, shard, state=ShardState.PLANNED, fence=None, intended_at=None)
            _add_twin(database, twin_of(sent, refused=refused))

    def mark_replanned(self, shard: Shard, sha256: str) -> None:
        """Plan a shard again as its next attempt, with the new body's hash.

        The old attempt may yet turn out to be a batch, so it is remembered as a twin.
        """
        with self._database.writing() as database:
            _update(
                database,
                shard,
                state=ShardState.PLANNED,
                fence=None,
                intended_at=None,
                attempt=shard.attempt + 1,
                sha256=sha256,
            )
            _add_twin(database, twin_of(shard))

    def mark_counted(self, shard: Shard, total: int) -> None:
        """Remember how many requests the batch of an attached run turned out to hold."""
        with self._database.writing() as database:
            database.execute(
                "UPDATE runs SET rows = ?, requests = ? WHERE id = ?", (total, total, shard.run_id)
            )
            database.execute(
                "UPDATE shards SET total = ? WHERE run_id = ? AND number = ?",
                (total, shard.run_id, shard.number),
            )

    def mark_collected(self, shard: Shard, sha256: str, *, complete: bool) -> None:
        """Remember that the results of a shard are on this disk."""
        self._update(
            shard,
            state=ShardState.COLLECTED,
            results_sha256=sha256,
            complete=int(complete),
            spent=None,
        )

    def mark_unlive(self, shard: Shard, *, lost: bool) -> None:
        """Plan a canary as part of a batch.

        Parameters
        ----------
        shard : Shard
        lost : bool
            Whether it may have been answered, and paid.
        """
        self._update(
            shard,
            state=ShardState.PLANNED,
            fence=None,
            intended_at=None,
            live=0,
            shape=LOST if lost else "",
        )

    def mark_withdrawn(self, shard: Shard) -> None:
        """Remember that a shard was canceled before it was sent."""
        self._update(shard, state=ShardState.WITHDRAWN)

    def batch_ids(self) -> set[str]:
        """Return every batch id this ledger owns, those of twins too."""
        with self._database.reading() as database:
            rows = database.execute(f"SELECT batch_id FROM ({OWNED}) WHERE batch_id IS NOT NULL")  # noqa: S608 - our own
            return {row["batch_id"] for row in rows}

    def owner(self, batch_id: str) -> str | None:
        """Return the run that a batch belongs to, None for one that this ledger does not know."""
        with self._database.reading() as database:
            row = database.execute(f"SELECT run_id FROM ({OWNED}) WHERE batch_id = ?", (batch_id,))  # noqa: S608 - our own
            found = row.fetchone()
        return None if found is None else str(found["run_id"])

    def fences(self) -> dict[str, str]:
        """Return the run ids of submissions whose fate is unknown, by their fences."""
        with self._database.reading() as database:
            rows = database.execute(
                "SELECT fence, run_id FROM shards WHERE state = ? AND fence != ''",
                (ShardState.SUBMITTING,),
            )
            return {row["fence"]: row["run_id"] for row in rows}

    # Twins

    def twins(self, run_id: str) -> list[Twin]:
        """Return the twins of a run's shards."""
        with self._database.reading() as database:
            rows = database.execute(
                "SELECT * FROM twins WHERE run_id = ? ORDER BY number, attempt", (run_id,)
            )
            return [read_twin(row) for row in rows]

    def mark_twin(self, twin: Twin) -> None:
        """Remember what became of a twin."""
        with self._database.writing() as database:
            insert(database, "twins", twin_row(twin), "INSERT OR REPLACE")

    def swap(self, shard: Shard, twin: Twin, batch: Batch) -> None:
        """Take a twin that showed up as the shard's batch, and the shard's own attempt as the twin.

        Parameters
        ----------
        shard : Shard
            As it is in the ledger.
        twin : Twin
        batch : Batch
            The twin's.
        """
        with self._database.writing() as database:
            gone = (twin.run_id, twin.number, twin.attempt)
            database.execute(
                "DELETE FROM twins WHERE run_id = ? AND number = ? AND attempt = ?", gone
            )
            _update(
                database,
                shard,
                attempt=twin.attempt,
                fence=twin.fence,
                intended_at=twin.intended_at,
                batch_id=batch.id,
                results_sha256=None,
                complete=1,
                spent=None,
                **batch_values(batch),
            )
            if shard.state not in {ShardState.PLANNED, ShardState.WITHDRAWN}:  # those were not sent
                insert(database, "twins", twin_row(twin_of(shard)))

    def _update(self, shard: Shard, **values: Any) -> None:
        with self._database.writing() as database:
            _update(database, shard, **values)


def _shard(database: Connection, run_id: str, number: int) -> Shard:
    found = database.execute(
        "SELECT * FROM shards WHERE run_id = ? AND number = ?", (run_id, number)
    )
    return read_shard(found.fetchone())


def _add_twin(database: Connection, twin: Twin) -> None:
    """Remember a twin; one of several submissions of an attempt is looked for from the first on."""
    insert(database, "twins", twin_row(twin), "INSERT OR IGNORE")
    database.execute(
        "UPDATE twins SET refused = min(refused, ?), intended_at = ?, reserved_at = ? "
        "WHERE run_id = ? AND number = ? AND attempt = ?",
        (
            int(twin.refused),
            twin.intended_at,
            twin.reserved_at,
            twin.run_id,
            twin.number,
            twin.attempt,
        ),
    )


def _update(database: Connection, shard: Shard, **values: Any) -> None:
    columns = ", ".join(f"{name} = ?" for name in values)
    changed = database.execute(
        f"UPDATE shards SET {columns} WHERE run_id = ? AND number = ? AND attempt = ?",  # noqa: S608 - our own names
        (*values.values(), shard.run_id, shard.number, shard.attempt),
    )
    if changed.rowcount != 1:
        msg = (
            f"Shard {shard.number} of run {shard.run_id} changed under us: attempt "
            f"{shard.attempt} is gone. Another process works on this run; when it is done, "
            "call again."
        )
        raise LedgerError(msg)
