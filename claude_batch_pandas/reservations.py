"""What is spent or reserved, as rows of the ledger tell it inside one of its transactions."""

from __future__ import annotations

from claude_batch_pandas.caps import Charge, Committed
from claude_batch_pandas.database import Connection
from claude_batch_pandas.records import ShardState
from claude_batch_pandas.tables import dollars_of

UNSENT = (ShardState.PLANNED, ShardState.WITHDRAWN)
# A twin that the API said it refused counts from when it shows up all the same.
CHARGES = """
    SELECT spent, reserved FROM shards WHERE state NOT IN (?, ?) AND {which}
    UNION ALL
    SELECT CASE WHEN settled AND NOT unpriced THEN dollars END, reserved FROM twins
    WHERE (batch_id IS NOT NULL OR NOT refused) AND {which}
"""


def of_run(database: Connection, run_id: str) -> Committed:
    """Return what the submissions of a run come to."""
    return _committed(database, "run_id = ?", run_id)


def since(database: Connection, moment: float) -> Committed:
    """Return what all submissions since a moment (seconds since 1970) come to."""
    return _committed(database, "reserved_at >= ?", moment)


def _committed(database: Connection, which: str, value: str | float) -> Committed:
    rows = database.execute(CHARGES.format(which=which), (*UNSENT, value, value))
    return Committed.of(Charge(dollars_of(spent), dollars_of(reserved)) for spent, reserved in rows)
