"""Puts the parts together: builds client, ledger, clock and hooks, and hands them to a run.

Every door (accessor, command line, functions) comes through here.
"""

from __future__ import annotations

import atexit
import difflib
import os
import re
import secrets
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from claude_batch_pandas import frames, locks
from claude_batch_pandas.catalog import Catalog
from claude_batch_pandas.client import Client, has_no_list
from claude_batch_pandas.clock import Clock, SystemClock
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import APIError, InputError
from claude_batch_pandas.handles import Run
from claude_batch_pandas.planning import INDEX, NO_SCOPE, Draft, Planner
from claude_batch_pandas.polling import Pace, Verdict, judge
from claude_batch_pandas.progress import Hook, Lines, TerminalBar, silent
from claude_batch_pandas.records import KEY_WORKSPACE, RunRecord, RunState, Scope
from claude_batch_pandas.rendering import Recipe, Renderer
from claude_batch_pandas.report import Preview
from claude_batch_pandas.settings import PROGRESS, options
from claude_batch_pandas.sharding import check_shard_size
from claude_batch_pandas.spool import Spool, write
from claude_batch_pandas.store import Store
from claude_batch_pandas.workers import Crew

if TYPE_CHECKING:
    import anthropic
    import pandas as pd

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LISTED = {
    "id": "text",
    "name": "text",
    "state": "text",
    "rows": "count",
    "shards": "count",
    "created": "time",
    "expires": "time",
}
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # Windows
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # no look-alikes in what people type
SCOPE_PACE = (0.5, 8.0)  # seconds between two tries to learn who a new key belongs to
NOT_FOUND = 404  # a hiccup, or a relay that has no list of batches
SCOPE_SECONDS = 60.0  # and when to give up; nothing is planned yet
LEAVE_SECONDS = 60.0  # at most, for a script's last submissions
EPHEMERAL = {"COLAB_RELEASE_TAG": "Colab", "KAGGLE_KERNEL_RUN_TYPE": "Kaggle"}

clock: Clock = SystemClock()
crew = Crew()
_clients: dict[tuple[tuple[str, str], ...], Client] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The arguments of one call; ``df.claude.batch`` documents them."""

    template: Any
    system: Any = None
    output: str = "answer"
    replace: bool = False
    model: str | None = None
    max_tokens: int | None = None
    name: str | None = None
    reuse: bool = True
    on_missing: str = "skip"
    shard_size: int | None = None
    params: Mapping[str, Any] | None = None
    client: anthropic.Anthropic | None = None
    progress: Any = None


def make_call(template: Any, options_: Mapping[str, Any]) -> Call:
    """Return a call, or say which of its arguments does not exist.

    Raises
    ------
    InputError
    """
    known = [field.name for field in fields(Call)]
    unknown = [name for name in options_ if name not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        msg = f"There is no argument {unknown[0]!r}. There are: {', '.join(known)}.{hint}"
        raise InputError(msg)
    return Call(template=template, **options_)


def submit(data: Any, call: Call) -> Run:
    """Plan a call over a frame or Series, begin to send it, and return at once."""
    df = frames.as_frame(data)
    frames.check_output(df if df is data else None, call.output, replace=call.replace)
    check_shard_size(call.shard_size)
    hook_for(call.progress)  # a wrong one is told of before anything is sent
    recipe = _recipe(call)
    renderer = Renderer(frames.Source(df), recipe)
    if not renderer.prompt.texts:
        warnings.warn(
            "The template uses no column, so every row asks the same. "
            f"Write {{column}} where a value belongs; there are: {renderer.source.names[:9]}.",
            UserWarning,
            stacklevel=4,
        )
    if _has_requests(renderer):
        _connector(call.client)()  # without credentials, nothing is written either
    engine = _engine(call.client)
    record = _record(recipe, call, engine)
    with locks.held(engine.store.home / locks.PLANNING):
        engine.spool.sweep({run.id for run in engine.store.runs()})
        planner = Planner(
            renderer,
            engine.spool,
            record,
            lambda: _look_up(engine, reuse=call.reuse),
            call.shard_size,
            engine.max_in_flight,
        )
        run_id = _settle(planner.plan(), engine, data)
    run = Run(run_id, engine, crew, lambda: hook_for(call.progress))
    return run.start()


def batch(data: Any, call: Call) -> pd.DataFrame:
    """Submit a call, wait for it, and join its answers."""
    return submit(data, call).wait().columns(data)


def preview(data: Any, call: Call, n: Any) -> Preview:
    """Render the first `n` requests of a call; nothing is sent or written."""
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        msg = f"n must be a whole number of at least 1, not {n!r}."
        raise InputError(msg)
    df = frames.as_frame(data)
    renderer = Renderer(frames.Source(df), _recipe(call))
    requests: list[dict[str, Any]] = []
    notes: list[str] = []
    position = 0
    for block in renderer.blocks():
        for i, tail in enumerate(block.tails):
            if tail is None or i in block.reasons:
                status, why = block.reasons[i]
                notes.append(f"The row at position {position + i} is {status}: {why}.")
            elif len(requests) < n:
                requests.append(orjson.loads(renderer.encoder.head + tail))
        position += len(block)
        if len(requests) == n:
            break
    return Preview(requests, len(df), notes)


def run(run_id: str, *, client: anthropic.Anthropic | None = None, progress: Any = None) -> Run:
    """Return a run of this ledger, in whichever kernel it was made.

    Parameters
    ----------
    run_id : str
        As `runs` lists it.
    client, progress
        As for `batch`.

    Raises
    ------
    RunNotFoundError
    """
    engine = _engine(client)
    engine.store.run(run_id)
    hook_for(progress)
    return Run(run_id, engine, crew, lambda: hook_for(progress))


def runs() -> pd.DataFrame:
    """Return every run in this ledger, newest first.

    Returns
    -------
    pandas.DataFrame
        ``id``, ``name``, ``state``, ``rows``, ``shards``, ``created`` and ``expires`` (UTC; the
        latter missing when nothing is open).
    """
    store = Store(ledger_home())
    rows = []
    for record in store.runs():
        shards = store.shards(record.id)
        ends = [shard.expires_at for shard in shards if shard.is_open and shard.expires_at]
        rows.append(
            {
                "id": record.id,
                "name": record.name,
                "state": str(record.state),
                "rows": record.rows,
                "shards": len(shards),
                "created": record.created_at,
                "expires": min(ends, default=None),
            }
        )
    return frames.table(rows, LISTED)


def ledger_home() -> Path:
    """Return the ledger's folder: ``CLAUDE_BATCH_HOME``, or the platform's user data folder."""
    chosen = os.environ.get("CLAUDE_BATCH_HOME")
    if chosen:
        home = Path(chosen).expanduser()
        if not home.is_absolute():
            msg = (
                f"CLAUDE_BATCH_HOME={chosen!r} is relative: it would be another ledger in every "
                f"folder. Use an absolute path, such as {str(home.absolute())!r}."
            )
            raise InputError(msg)
        return home
    import platformdirs

    home = platformdirs.user_data_path("claude-batch-pandas", appauthor=False)
    for variable, place in EPHEMERAL.items():
        if variable in os.environ:
            warnings.warn(
                f"The ledger {home} goes when this {place} machine goes. Set CLAUDE_BATCH_HOME to "
                "a mounted drive to keep it.",
                UserWarning,
                stacklevel=4,
            )
    return home


def _has_requests(renderer: Renderer) -> bool:
    """Tell whether any row asks something; most often the first does."""
    return any(
        tail is not None and i not in block.reasons
        for block in renderer.blocks()
        for i, tail in enumerate(block.tails)
    )


def _connector(sdk: Any) -> Callable[[], Client]:
    """Return what makes the client; a wrong one is told of at once, a missing key when called."""
    if sdk is None:
        return _client
    given = Client(sdk)
    return lambda: given


def _engine(sdk: Any) -> Engine:
    home = ledger_home()
    return Engine(
        connect=_connector(sdk),
        store=Store(home),
        spool=Spool(home),
        clock=clock,
        max_in_flight=options.max_in_flight,
        poll_seconds=options.poll_seconds,
        settle_seconds=options.settle_seconds,
    )


def _client() -> Client:
    """Return the client of the environment as it is now; one that failed is tried anew."""
    key = tuple(sorted(item for item in os.environ.items() if item[0].startswith("ANTHROPIC_")))
    if key not in _clients:
        _clients[key] = Client()
    return _clients[key]


def _look_up(engine: Engine, *, reuse: bool) -> tuple[Scope, Catalog]:
    """Return who the key belongs to, and what is known there; asks the API at most once a key."""
    client, store = engine.client, engine.store
    fingerprint = client.fingerprint(store.secret())
    scope = store.scope(client.origin, fingerprint) if fingerprint else None
    if scope is None:
        scope = _ask_scope(engine)
        if not scope.workspace:  # a server that does not say: the key itself is the border
            scope = scope._replace(workspace=f"{KEY_WORKSPACE}{fingerprint or 'rotating'}")
        if fingerprint:
            store.remember_scope(fingerprint, scope)
    return scope, Catalog(engine.spool, store.history(scope) if reuse else [])


def _ask_scope(engine: Engine) -> Scope:
    """Ask the API who the key belongs to; a hiccup is waited out, for a while."""
    client = engine.client
    pace = Pace(*SCOPE_PACE, engine.dice)
    deadline = engine.clock.monotonic() + SCOPE_SECONDS
    while True:
        try:
            return client.scope()
        except APIError as error:
            is_late = engine.clock.monotonic() >= deadline
            if has_no_list(error) and (is_late or error.status != NOT_FOUND):
                return Scope(client.origin, "", "")
            is_passing = judge(error, 0.0) is Verdict.WAIT and error.code != "unsent"
            if not is_passing or is_late:
                raise
            engine.clock.wait(threading.Event(), error.retry_after or pace.next())


def _settle(draft: Draft, engine: Engine, data: Any) -> str:
    """Make a draft a run, or find the run that it is; return the run's id."""
    record, store, spool = draft.record, engine.store, engine.spool
    existing = store.find(record.key)
    if existing is not None and any(
        store.run(source).state is RunState.PURGED for source in existing.sources
    ):
        existing = None  # some of its answers are gone; ask those anew
    if existing is not None and (record.reuse or _is_unfinished_twin(existing)):
        spool.discard(record.id)
        return existing.id
    index = frames.dump_index(data.index)
    if index is not None:
        write(spool.draft(record.id) / INDEX, index)
    spool.publish(record.id)
    store.add_run(record, draft.shards)
    return record.id


def _is_unfinished_twin(existing: RunRecord) -> bool:
    """Tell whether a call with reuse=False is the rerun of one that was cut short."""
    return not existing.reuse and existing.state is not RunState.ENDED


def _recipe(call: Call) -> Recipe:
    for name in ("reuse", "replace"):
        if not isinstance(getattr(call, name), bool):
            msg = f"{name} must be True or False, not {getattr(call, name)!r}."
            raise InputError(msg)
    if call.params is not None and not isinstance(call.params, Mapping):
        msg = f"params must be a dict of Messages parameters, not a {type(call.params).__name__}."
        raise InputError(msg)
    extra = dict(call.params or {})
    betas = extra.pop("betas", ())
    if isinstance(betas, str) or not all(isinstance(beta, str) for beta in betas):
        msg = f"params['betas'] must be a list of names, not {betas!r}."
        raise InputError(msg)
    if "messages" in extra:
        msg = "params holds 'messages'; give them as template=[...] instead."
        raise InputError(msg)
    if "system" in extra and call.system is not None:
        msg = "params holds 'system' and so does the call; give system= only once."
        raise InputError(msg)
    merged = {
        "model": options.model if call.model is None else call.model,
        "max_tokens": options.max_tokens if call.max_tokens is None else call.max_tokens,
        **extra,
    }
    return Recipe(
        template=call.template,
        system=call.system,
        params=merged,
        betas=tuple(betas),
        on_missing=call.on_missing,
    )


def _record(recipe: Recipe, call: Call, engine: Engine) -> RunRecord:
    name: Any = call.name
    if name is not None and (
        not isinstance(name, str) or not NAME.fullmatch(name) or RESERVED.fullmatch(name)
    ):
        msg = (
            f"name={name!r} cannot name a run: use up to 64 letters, digits, '.', '_' or '-', "
            "beginning with a letter or digit."
        )
        raise InputError(msg)
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name or call.output).strip("-._")[:40] or "run"
    now = engine.clock.now()
    day = time.strftime("%Y%m%d", time.localtime(now))
    tail = "".join(secrets.choice(LETTERS) for _ in range(4))
    return RunRecord(
        id=f"{day}-{slug}-{tail}",
        name=name or call.output,
        key="",
        scope=NO_SCOPE,
        nonce=secrets.token_hex(8),
        model=str(recipe.params["model"]),
        output=call.output,
        rows=0,
        requests=0,
        created_at=now,
        reuse=call.reuse,
    )


def hook_for(progress: Any) -> Hook:
    """Return what shows progress where we are: a notebook, a terminal, a log.

    Raises
    ------
    InputError
    """
    chosen = options.progress if progress is None else progress
    if callable(chosen):
        return chosen  # type: ignore[no-any-return]
    if chosen is False:
        chosen = "none"
    if chosen not in PROGRESS:
        msg = f"progress must be one of {', '.join(PROGRESS)} or a function, not {chosen!r}."
        raise InputError(msg)
    if chosen == "none":
        return silent
    if chosen == "log":
        return Lines()
    from claude_batch_pandas.widgets import NotebookBar, in_notebook

    if in_notebook():
        return NotebookBar()
    return TerminalBar() if chosen == "bar" or sys.stderr.isatty() else Lines()


def _after_fork() -> None:
    crew.forget()
    _clients.clear()


atexit.register(crew.leave, LEAVE_SECONDS)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
