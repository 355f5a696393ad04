"""Who a key belongs to: the scope in which answers are reused, asked of the API once a key."""

from __future__ import annotations

from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import NOT_FOUND, APIError, PausedError
from claude_batch_pandas.patience import patiently
from claude_batch_pandas.polling import NO_LIST, has_no_list
from claude_batch_pandas.records import KEY_WORKSPACE, RunRecord, Scope, key_workspace

# What a person can do about a submission whose fate cannot be found out. A run that was paused with
# these words is over for `reuse=False`: the call asks anew.
ANEW = "run the cell with reuse=False to ask anew, at the price of asking twice"


def find_scope(engine: Engine) -> Scope:
    """Return who the client's key belongs to; the API is asked at most once a key.

    Raises
    ------
    APIError
    """
    scope = known_scope(engine)
    if scope is not None:
        return scope
    store = engine.store
    fingerprint = engine.client.fingerprint(store.secret())
    scope = _ask(engine)
    if not scope.workspace:
        scope = scope._replace(workspace=key_workspace(fingerprint))
    if fingerprint and scope.organization:  # told by the server, not guessed from an error
        store.remember_scope(fingerprint, scope)
    return scope


def known_scope(engine: Engine) -> Scope | None:
    """Return who the client's key belongs to, as far as this ledger knows; nobody is asked.

    Raises
    ------
    CredentialsError
        When there is nothing to sign with.
    """
    client, store = engine.client, engine.store
    fingerprint = client.fingerprint(store.secret())
    return store.scope(client.origin, fingerprint) if fingerprint else None


def _ask(engine: Engine) -> Scope:
    """Ask the API who the key belongs to; a server without a list of batches does not tell."""
    client = engine.client
    try:
        # A 404 is a hiccup, or a relay that has no list of batches.
        return patiently(engine, client.scope, NO_LIST - {NOT_FOUND})
    except APIError as error:
        if has_no_list(error):
            return Scope(client.origin, "", "")
        raise


def check_scope(here: Scope, there: Scope) -> None:
    """Never look for a batch in another workspace's list, nor send one there.

    Parameters
    ----------
    here : Scope
        Of the server's answer.
    there : Scope
        Of the run.

    Raises
    ------
    PausedError
    """
    pairs = [(here.organization, there.organization)]
    if not there.workspace.startswith(KEY_WORKSPACE):
        pairs.append((here.workspace, there.workspace))
    if any(seen and known and seen != known for seen, known in pairs):
        msg = (
            f"The key belongs to the workspace {here.workspace!r}, but the run to "
            f"{there.workspace!r}. Use a key of that workspace, then call again."
        )
        raise PausedError(msg)


def is_same_scope(here: Scope, there: Scope) -> bool:
    """Tell whether a server's answer says that it is of the run's organization and workspace.

    Parameters
    ----------
    here : Scope
        Of the server's answer.
    there : Scope
        Of the run; what its server never told cannot be asked for.
    """
    is_told = not there.workspace.startswith(KEY_WORKSPACE)
    return there.organization in {"", here.organization} and (
        not is_told or here.workspace == there.workspace
    )


def check_key(record: RunRecord, engine: Engine, number: int) -> None:
    """Where no workspace is named, only the key that sent a batch surely sees it.

    Raises
    ------
    PausedError
        When it is another one.
    """
    if not is_same_key(record, engine):
        msg = (
            f"The answer to the submission of shard {number} was lost, and only the key that sent "
            f"it can see what became of it. Use that key, then call again; or {ANEW}."
        )
        raise PausedError(msg)


def is_same_key(record: RunRecord, engine: Engine) -> bool:
    """Tell whether the key is the one that sent a run, as far as that is known by its key alone."""
    workspace = record.scope.workspace
    if not workspace.startswith(KEY_WORKSPACE):
        return True
    return workspace == key_workspace(engine.client.fingerprint(engine.store.secret()))


def check_origin(record: RunRecord, engine: Engine) -> None:
    """Never ask one server about the batches of another.

    Raises
    ------
    PausedError
    """
    origin = engine.client.origin
    if origin != record.scope.origin:
        msg = (
            f"Run {record.id} was sent to {record.scope.origin}, but the client talks to {origin}. "
            "Set ANTHROPIC_BASE_URL or pass client= to reach the first, then call again."
        )
        raise PausedError(msg)
