"""What is spent or reserved, as rows of the ledger tell it."""

from __future__ import annotations

from decimal import Decimal

from claude_batch_pandas.caps import Cap, Charge, Committed
from claude_batch_pandas.database import Connection
from claude_batch_pandas.memory import Memory
from claude_batch_pandas.records import LOST, Shard, ShardState
from claude_batch_pandas.tables import dollars_of, read_shard

UNSENT = (ShardState.PLANNED, ShardState.WITHDRAWN)
# A lost live answer may have been paid, wherever its shard is now. A twin that the API said it refused counts from when it shows up all the same.
CHARGES = """
    SELECT spent, reserved FROM shards WHERE (state NOT IN (?, ?) OR shape = ?) AND {which}
    UNION ALL
    SELECT CASE WHEN settled AND NOT unpriced THEN dollars END, reserved FROM twins
    WHERE (batch_id IS NOT NULL OR NOT refused OR dollars != '0') AND {which}
"""


class Till(Memory):
    """The part of the ledger that knows what is spent or reserved."""

    def set_max_cost(self, run_id: str, dollars: Decimal | None, per_day: Decimal | None) -> None:
        """Remember what a run, and all runs of a day, may cost at most, in US dollars."""
        with self._database.writing() as database:
            told = [None if most is None else str(most) for most in (dollars, per_day)]
            database.execute(
                "UPDATE runs SET max_cost = ?, max_cost_per_day = ? WHERE id = ?", (*told, run_id)
            )

    def committed(self, run_id: str, moment: float) -> tuple[Committed, Committed]:
        """Return what is spent or reserved: by a run, and by all since a moment."""
        with self._database.reading() as database:
            return _of_run(database, run_id), _since(database, moment)

    def unsettled(self, run_id: str, moment: float) -> list[Shard]:
        """Return shards of a run, or sent since a moment, whose results are here but not priced."""
        with self._database.reading() as database:
            rows = database.execute(
                "SELECT * FROM shards WHERE state = ? AND spent IS NULL "
                "AND (run_id = ? OR reserved_at >= ?)",
                (ShardState.COLLECTED, run_id, moment),
            )
            return [read_shard(row) for row in rows]

    def set_spent(self, shard: Shard, dollars: Decimal) -> None:
        """Remember what a shard did cost, in US dollars."""
        mark = (shard.run_id, shard.number, shard.attempt)
        with self._database.writing() as database:
            database.execute(
                "UPDATE shards SET spent = ? WHERE run_id = ? AND number = ? AND attempt = ?",
                (str(dollars), *mark),
            )


def refusal(database: Connection, run_id: str, cap: Cap) -> str:
    """Return why something of a run may not be sent, within a transaction; empty when it may."""
    found = database.execute("SELECT max_cost FROM runs WHERE id = ?", (run_id,)).fetchone()
    per_run = dollars_of(found["max_cost"])
    if per_run is None and cap.per_day is None:
        return ""
    return cap.refusal(per_run, _of_run(database, run_id), _since(database, cap.since))


def _of_run(database: Connection, run_id: str) -> Committed:
    """Return what the submissions of a run come to."""
    return _committed(database, "run_id = ?", run_id)


def _since(database: Connection, moment: float) -> Committed:
    """Return what all submissions since a moment (seconds since 1970) come to."""
    return _committed(database, "reserved_at >= ?", moment)


def _committed(database: Connection, which: str, value: str | float) -> Committed:
    rows = database.execute(CHARGES.format(which=which), (*UNSENT, LOST, value, value))
    return Committed.of(Charge(dollars_of(spent), dollars_of(reserved)) for spent, reserved in rows)
