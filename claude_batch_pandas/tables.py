"""The ledger's tables, and our records as their rows. It knows the columns, not the database."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

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

Row = Any  # whatever dict() makes columns and values of; sqlite3.Row, to the store

FIRST_SEALED = ("runs", "shards", "twins", "scopes", "secrets")
REMEMBERED = ("models", "files", "shapes")
SEALED = FIRST_SEALED + REMEMBERED  # tables whose rows carry their own hash
SEALS = 3  # the version from which they do


def _sealing(table: str) -> Sequence[str]:
    """Return what gives a table its seals; whatever changes a row breaks the seal of it."""
    return (
        f"ALTER TABLE {table} ADD COLUMN seal TEXT",
        f"CREATE INDEX {table}_unsealed ON {table} (seal) WHERE seal IS NULL",
        f"""
        CREATE TRIGGER {table}_unseal AFTER UPDATE ON {table} WHEN OLD.seal IS NEW.seal
        BEGIN UPDATE {table} SET seal = NULL WHERE rowid = NEW.rowid; END
        """,  # noqa: S608 - our own names
    )


# Each entry brings a ledger one version up, in one transaction with the version number itself.
MIGRATIONS: Sequence[Sequence[str]] = (
    (
        """
        CREATE TABLE runs (
            id TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            key TEXT NOT NULL,
            origin TEXT NOT NULL,
            organization TEXT NOT NULL,
            workspace TEXT NOT NULL,
            nonce TEXT NOT NULL UNIQUE,
            model TEXT NOT NULL,
            output TEXT NOT NULL,
            rows INTEGER NOT NULL,
            requests INTEGER NOT NULL,
            created_at REAL NOT NULL,
            ended_at REAL,
            reuse INTEGER NOT NULL,
            sources TEXT NOT NULL,
            reasons TEXT NOT NULL,
            state TEXT NOT NULL,
            note TEXT NOT NULL,
            cancel INTEGER NOT NULL
        ) STRICT
        """,
        "CREATE INDEX runs_by_key ON runs (key, created_at)",
        """
        CREATE TABLE shards (
            run_id TEXT NOT NULL REFERENCES runs (id),
            number INTEGER NOT NULL,
            attempt INTEGER NOT NULL,
            total INTEGER NOT NULL,
            size INTEGER NOT NULL,
            sha256 TEXT NOT NULL,
            betas TEXT NOT NULL,
            state TEXT NOT NULL,
            fence TEXT,
            intended_at REAL,
            batch_id TEXT UNIQUE,
            created_at REAL,
            expires_at REAL,
            counts TEXT,
            results_sha256 TEXT,
            complete INTEGER NOT NULL,
            PRIMARY KEY (run_id, number)
        ) STRICT
        """,
        """
        CREATE TABLE scopes (
            origin TEXT NOT NULL,
            fingerprint TEXT NOT NULL,
            organization TEXT NOT NULL,
            workspace TEXT NOT NULL,
            PRIMARY KEY (origin, fingerprint)
        ) STRICT
        """,
        "CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT",
    ),
    ("ALTER TABLE runs ADD COLUMN attached INTEGER NOT NULL DEFAULT 0",),
    (
        "ALTER TABLE runs ADD COLUMN on_unknown TEXT NOT NULL DEFAULT 'resend'",
        "ALTER TABLE runs ADD COLUMN max_attempts INTEGER NOT NULL DEFAULT 3",
        "ALTER TABLE runs ADD COLUMN keep_requests INTEGER NOT NULL DEFAULT 1",
        """
        CREATE TABLE twins (
            run_id TEXT NOT NULL REFERENCES runs (id),
            number INTEGER NOT NULL,
            attempt INTEGER NOT NULL,
            fence TEXT,
            intended_at REAL,
            batch_id TEXT UNIQUE,
            refused INTEGER NOT NULL,
            settled INTEGER NOT NULL,
            dollars TEXT NOT NULL,
            unpriced INTEGER NOT NULL,
            PRIMARY KEY (run_id, number, attempt)
        ) STRICT
        """,
        *(statement for table in FIRST_SEALED for statement in _sealing(table)),
    ),
    (
        "ALTER TABLE shards ADD COLUMN live INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE shards ADD COLUMN shape TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE runs ADD COLUMN warm INTEGER NOT NULL DEFAULT 0",
        # A column more is another hash.
        "UPDATE shards SET seal = NULL",
        "UPDATE runs SET seal = NULL",
        """
        CREATE TABLE models (
            origin TEXT NOT NULL,
            model TEXT NOT NULL,
            told_at REAL NOT NULL,
            info TEXT NOT NULL,
            PRIMARY KEY (origin, model)
        ) STRICT
        """,
        """
        CREATE TABLE files (
            origin TEXT NOT NULL,
            organization TEXT NOT NULL,
            workspace TEXT NOT NULL,
            sha256 TEXT NOT NULL,
            file_id TEXT NOT NULL,
            sent_at REAL NOT NULL,
            PRIMARY KEY (origin, organization, workspace, sha256)
        ) STRICT
        """,
        """
        CREATE TABLE shapes (
            origin TEXT NOT NULL,
            organization TEXT NOT NULL,
            workspace TEXT NOT NULL,
            shape TEXT NOT NULL,
            passed_at REAL NOT NULL,
            PRIMARY KEY (origin, organization, workspace, shape)
        ) STRICT
        """,
        *(statement for table in REMEMBERED for statement in _sealing(table)),
    ),
    (
        "ALTER TABLE runs ADD COLUMN max_cost TEXT",
        "ALTER TABLE shards ADD COLUMN load TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE shards ADD COLUMN reserved_at REAL",
        "ALTER TABLE shards ADD COLUMN reserved TEXT",
        "ALTER TABLE shards ADD COLUMN spent TEXT",
        "ALTER TABLE twins ADD COLUMN reserved_at REAL",
        "ALTER TABLE twins ADD COLUMN reserved TEXT",
        "UPDATE runs SET seal = NULL",
        "UPDATE shards SET seal = NULL",
        "UPDATE twins SET seal = NULL",
    ),
    ("ALTER TABLE runs ADD COLUMN max_cost_per_day TEXT", "UPDATE runs SET seal = NULL"),
)


def seal_of(row: Row) -> str:
    """Return the hash of a row that its column `seal` should hold."""
    values = [
        [name, value.hex() if isinstance(value, bytes) else value]
        for name, value in dict(row).items()
        if name not in {"seal", "rowid"}
    ]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def run_row(run: RunRecord) -> dict[str, Any]:
    """Return the columns of a run."""
    return {
        "id": run.id,
        "name": run.name,
        "key": run.key,
        **run.scope._asdict(),
        "nonce": run.nonce,
        "model": run.model,
        "output": run.output,
        "rows": run.rows,
        "requests": run.requests,
        "created_at": run.created_at,
        "ended_at": run.ended_at,
        "reuse": int(run.reuse),
        "sources": json.dumps(run.sources),
        "reasons": json.dumps(run.reasons),
        "state": run.state,
        "note": run.note,
        "cancel": int(run.cancel),
        "attached": int(run.attached),
        "on_unknown": run.on_unknown,
        "max_attempts": run.max_attempts,
        "keep_requests": int(run.keep_requests),
        "warm": int(run.warm),
        "max_cost": _text(run.max_cost),
        "max_cost_per_day": _text(run.max_cost_per_day),
    }


def read_run(row: Row) -> RunRecord:
    """Return the run of a row."""
    values = _unsealed(row)
    scope = Scope(values.pop("origin"), values.pop("organization"), values.pop("workspace"))
    values["sources"] = tuple(json.loads(values["sources"]))
    values["reasons"] = tuple((status, why) for status, why in json.loads(values["reasons"]))
    values["state"] = RunState(values["state"])
    values["reuse"] = bool(values["reuse"])
    values["cancel"] = bool(values["cancel"])
    values["attached"] = bool(values["attached"])
    values["keep_requests"] = bool(values["keep_requests"])
    values["warm"] = bool(values["warm"])
    for name in ("max_cost", "max_cost_per_day"):
        values[name] = dollars_of(values[name])
    return RunRecord(scope=scope, **values)


def shard_row(shard: Shard) -> dict[str, Any]:
    """Return the columns of a shard that was planned, or whose batch was attached."""
    return {
        "run_id": shard.run_id,
        "number": shard.number,
        "attempt": shard.attempt,
        "total": shard.total,
        "size": shard.size,
        "sha256": shard.sha256,
        "betas": json.dumps(shard.betas),
        "state": shard.state,
        "batch_id": shard.batch_id,
        "created_at": shard.created_at,
        "expires_at": shard.expires_at,
        "complete": int(shard.complete),
        "live": int(shard.live),
        "shape": shard.shape,
        "load": shard.load,
    }


def read_shard(row: Row) -> Shard:
    """Return the shard of a row."""
    values = _unsealed(row)
    values["betas"] = tuple(json.loads(values["betas"]))
    values["state"] = ShardState(values["state"])
    values["complete"] = bool(values["complete"])
    values["live"] = bool(values["live"])
    values["reserved"] = dollars_of(values["reserved"])
    values["spent"] = dollars_of(values["spent"])
    counts = values["counts"]
    values["counts"] = None if counts is None else Counts(**json.loads(counts))
    return Shard(**values)


def _unsealed(row: Row) -> dict[str, Any]:
    return {name: value for name, value in dict(row).items() if name != "seal"}


def twin_of(shard: Shard, *, refused: bool = False) -> Twin:
    """Return the present attempt of a shard as a twin of what will take its place.

    What it cost is unknown until its results are read.
    """
    return Twin(
        run_id=shard.run_id,
        number=shard.number,
        attempt=shard.attempt,
        fence=shard.fence,
        intended_at=shard.intended_at,
        batch_id=shard.batch_id,
        refused=refused,
        unpriced=0 if shard.batch_id is None else shard.total,
        reserved_at=shard.reserved_at,
        reserved=shard.reserved,
    )


def twin_row(twin: Twin) -> dict[str, Any]:
    """Return the columns of a twin."""
    values = {name: getattr(twin, name) for name in Twin.__slots__}
    return {
        **values,
        "refused": int(twin.refused),
        "settled": int(twin.settled),
        "dollars": str(twin.dollars),
        "reserved": _text(twin.reserved),
    }


def read_twin(row: Row) -> Twin:
    """Return the twin of a row."""
    values = _unsealed(row)
    values["refused"] = bool(values["refused"])
    values["settled"] = bool(values["settled"])
    values["dollars"] = Decimal(values["dollars"])
    values["reserved"] = dollars_of(values["reserved"])
    return Twin(**values)


def dollars_of(text: str | None) -> Decimal | None:
    """Return US dollars as they were before they were written; exact, and None when unknown."""
    return None if text is None else Decimal(text)


def _text(dollars: Decimal | None) -> str | None:
    return None if dollars is None else str(dollars)


def batch_values(batch: Batch) -> dict[str, Any]:
    """Return the columns of a shard that a look at its batch changes."""
    counts = {name: getattr(batch.counts, name) for name in Counts.__slots__}
    return {
        "state": ShardState(batch.processing_status),
        "created_at": batch.created_at,
        "expires_at": batch.expires_at,
        "counts": json.dumps(counts),
    }
