"""Files that many rows share, given to the Files API once and remembered by what they hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from claude_batch_pandas.blocks import NOT_UPLOADED, Upload
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.patience import patiently
from claude_batch_pandas.records import Scope
from claude_batch_pandas.scopes import find_scope


@dataclass(slots=True)
class Uploads:
    """Answers under which id the API knows a file; call it with one.

    Parameters
    ----------
    engine : callable
        Returns the engine.
    may_send : bool
        Whether a file that is not there yet is sent.

    Raises
    ------
    APIError
        When the API refuses a file. A file is free, and one that was sent twice does no harm.
    """

    engine: Callable[[], Engine]
    may_send: bool = True
    _scope: Scope | None = field(default=None)

    def __call__(self, file: Upload) -> str:
        """Return the id of a file, which is sent when the ledger does not know it."""
        engine = self.engine()
        if self._scope is None:
            self._scope = find_scope(engine)
        known = engine.store.file_id(self._scope, file.sha256)
        if known is not None:
            return known
        if not self.may_send:
            return NOT_UPLOADED
        send = partial(engine.client.upload, file.name, file.data, file.media_type)
        file_id = patiently(engine, send)
        engine.store.remember_file(self._scope, file.sha256, file_id, engine.clock.now())
        return file_id
