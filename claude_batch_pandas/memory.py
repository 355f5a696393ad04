"""What the API told this ledger beside batches: who a key is, what models accept, ids of files."""

from __future__ import annotations

import secrets
from typing import NamedTuple

from claude_batch_pandas.database import Database, insert
from claude_batch_pandas.records import Scope


class SentFile(NamedTuple):
    """A file at the Files API, and when it was sent (seconds since 1970)."""

    id: str
    sent_at: float


class Memory:
    """What was asked of the API once and need not be asked again.

    Parameters
    ----------
    database : Database
        The ledger's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def scope(self, origin: str, fingerprint: str) -> Scope | None:
        """Return the scope a credential was last seen to belong to."""
        with self._database.reading() as database:
            row = database.execute(
                "SELECT origin, organization, workspace FROM scopes "
                "WHERE origin = ? AND fingerprint = ?",
                (origin, fingerprint),
            ).fetchone()
        return None if row is None else Scope(*row)

    def remember_scope(self, fingerprint: str, scope: Scope) -> None:
        """Remember the scope of a credential by the credential's keyed hash."""
        row = {**scope._asdict(), "fingerprint": fingerprint}
        with self._database.writing() as database:
            insert(database, "scopes", row, "INSERT OR REPLACE")

    def secret(self) -> bytes:
        """Return the random bytes that key this ledger's fingerprints."""
        asked = "SELECT value FROM secrets WHERE name = 'fingerprint'"
        with self._database.reading() as database:
            row = database.execute(asked).fetchone()
        if row is None:
            new = {"name": "fingerprint", "value": secrets.token_bytes(32)}
            with self._database.writing() as database:
                insert(database, "secrets", new, "INSERT OR IGNORE")  # another may be first
                row = database.execute(asked).fetchone()
        return bytes(row["value"])

    def model_info(self, origin: str, model: str) -> tuple[float, str] | None:
        """Return when an API told about a model (seconds since 1970) and what, as JSON."""
        with self._database.reading() as database:
            row = database.execute(
                "SELECT told_at, info FROM models WHERE origin = ? AND model = ?", (origin, model)
            ).fetchone()
        return None if row is None else (float(row["told_at"]), str(row["info"]))

    def remember_model(self, origin: str, model: str, info: str, now: float) -> None:
        """Remember what an API told about a model."""
        row = {"origin": origin, "model": model, "told_at": now, "info": info}
        with self._database.writing() as database:
            insert(database, "models", row, "INSERT OR REPLACE")

    def file_id(self, scope: Scope, sha256: str) -> SentFile | None:
        """Return the id under which a workspace has a file, None for one that was not sent."""
        with self._database.reading() as database:
            row = database.execute(
                "SELECT file_id, sent_at FROM files WHERE origin = ? AND organization = ? "
                "AND workspace = ? AND sha256 = ?",
                (*scope, sha256),
            ).fetchone()
        return None if row is None else SentFile(row["file_id"], row["sent_at"])

    def remember_file(self, scope: Scope, sha256: str, file_id: str, now: float) -> None:
        """Remember the id of a file that was sent."""
        row = {**scope._asdict(), "sha256": sha256, "file_id": file_id, "sent_at": now}
        with self._database.writing() as database:
            insert(database, "files", row, "INSERT OR REPLACE")

    def has_passed(self, scope: Scope, shape: str) -> bool:
        """Tell whether the API once answered a request of this shape."""
        with self._database.reading() as database:
            row = database.execute(
                "SELECT 1 FROM shapes WHERE origin = ? AND organization = ? AND workspace = ? "
                "AND shape = ?",
                (*scope, shape),
            ).fetchone()
        return row is not None

    def remember_passed(self, scope: Scope, shape: str, now: float) -> None:
        """Remember that the API answered a request of this shape."""
        row = {**scope._asdict(), "shape": shape, "passed_at": now}
        with self._database.writing() as database:
            insert(database, "shapes", row, "INSERT OR REPLACE")
