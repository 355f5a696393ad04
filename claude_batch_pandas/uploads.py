"""Files that many rows share, given to the Files API once and remembered by what they hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from claude_batch_pandas.blocks import NOT_UPLOADED, Upload
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.memory import SentFile
from claude_batch_pandas.patience import patiently
from claude_batch_pandas.records import Scope
from claude_batch_pandas.scopes import find_scope

TRUSTED_SECONDS = 3_600.0  # after which a file is looked for before it is referred to


@dataclass(slots=True)
class Uploads:
    """Answers under which id the API knows a file; call it with one.

    Parameters
    ----------
    engine : callable
        Returns the engine.
    scope : Scope, optional
        Whose files; then the ledger alone is asked, and nothing is sent.

    Raises
    ------
    APIError
        When the API refuses a file. A file is free, and one that was sent twice does no harm.
    """

    engine: Callable[[], Engine]
    scope: Scope | None = None
    _found: Scope | None = field(default=None)
    _seen: set[str] = field(default_factory=set)  # ids that are there

    def __call__(self, file: Upload) -> str:
        """Return the id of a file, which is sent when the ledger does not know it."""
        engine = self.engine()
        if self.scope is not None:
            known = engine.store.file_id(self.scope, file.sha256)
            return NOT_UPLOADED if known is None else known.id
        if self._found is None:
            self._found = find_scope(engine)
        known = engine.store.file_id(self._found, file.sha256)
        if known is not None and self._is_there(known):
            return known.id
        send = partial(engine.client.upload, file.name, file.data, file.media_type)
        file_id = patiently(engine, send)
        engine.store.remember_file(self._found, file.sha256, file_id, engine.clock.now())
        return file_id

    def _is_there(self, known: SentFile) -> bool:
        """Tell whether a file is still at the API; people delete files, and files expire."""
        engine = self.engine()
        is_fresh = 0 <= engine.clock.now() - known.sent_at < TRUSTED_SECONDS
        if not is_fresh and known.id not in self._seen:
            if not patiently(engine, partial(engine.client.has_file, known.id)):
                return False
            self._seen.add(known.id)
        return True
