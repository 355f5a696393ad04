"""Who a key belongs to: the scope in which answers are reused, asked of the API once a key."""

from __future__ import annotations

import threading

from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import UNSENT, APIError
from claude_batch_pandas.polling import Pace, Verdict, explain, has_no_list, judge
from claude_batch_pandas.records import Scope, key_workspace

PACE = (0.5, 8.0)  # seconds between two tries to learn who a new key belongs to
NOT_FOUND = 404  # a hiccup, or a relay that has no list of batches
SECONDS = 60.0  # and when to give up; nothing is planned yet


def find_scope(engine: Engine) -> Scope:
    """Return who the client's key belongs to; the API is asked at most once a key.

    Raises
    ------
    APIError
    """
    client, store = engine.client, engine.store
    fingerprint = client.fingerprint(store.secret())
    scope = store.scope(client.origin, fingerprint) if fingerprint else None
    if scope is not None:
        return scope
    scope = _ask(engine)
    if not scope.workspace:
        scope = scope._replace(workspace=key_workspace(fingerprint))
    if fingerprint and scope.organization:  # told by the server, not guessed from an error
        store.remember_scope(fingerprint, scope)
    return scope


def _ask(engine: Engine) -> Scope:
    """Ask the API who the key belongs to; a hiccup is waited out, for a while."""
    client = engine.client
    pace = Pace(*PACE, engine.dice)
    deadline = engine.clock.monotonic() + SECONDS
    while True:
        try:
            return client.scope()
        except APIError as error:
            is_late = engine.clock.monotonic() >= deadline
            if has_no_list(error) and (is_late or error.status != NOT_FOUND):
                return Scope(client.origin, "", "")
            is_passing = judge(error, 0.0) is Verdict.WAIT and error.code != UNSENT
            if not is_passing or is_late:
                raise error.because(explain(error)) from None
            engine.clock.wait(threading.Event(), error.retry_after or pace.next())
