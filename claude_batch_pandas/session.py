"""Puts the parts together: builds client, ledger, clock and hooks, and hands them to a run.

Every door (accessor, command line, functions) comes through here.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from claude_batch_pandas import consent, frames, indexes, locks, reserving
from claude_batch_pandas.abilities import Abilities, shipped
from claude_batch_pandas.accounts import estimate_of
from claude_batch_pandas.calls import (
    Call,
    cache_warning,
    dollars_of,
    exact,
    outlook_of,
    recipe_of,
    record_of,
)
from claude_batch_pandas.catalog import Catalog
from claude_batch_pandas.client import Client
from claude_batch_pandas.clock import Clock, SystemClock
from claude_batch_pandas.displays import hook_for
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import InputError, OutputExistsError
from claude_batch_pandas.folders import place_warning
from claude_batch_pandas.handles import Run
from claude_batch_pandas.knowledge import Knowledge
from claude_batch_pandas.loops import patch_warning
from claude_batch_pandas.matching import history_of
from claude_batch_pandas.outputs import Output
from claude_batch_pandas.planning import INDEX, Draft, Live, Planner
from claude_batch_pandas.preparing import check_output, index_of, prepare
from claude_batch_pandas.records import RunRecord, RunState, Scope, ShardState
from claude_batch_pandas.refusals import LONG
from claude_batch_pandas.rendered import Rendered
from claude_batch_pandas.rendering import AT, Know, Recipe, Renders
from claude_batch_pandas.report import Preview
from claude_batch_pandas.scopes import find_scope
from claude_batch_pandas.settings import options
from claude_batch_pandas.sharding import check_shard_size
from claude_batch_pandas.spool import Spool, write_sealed
from claude_batch_pandas.store import Store
from claude_batch_pandas.templates import slots_in
from claude_batch_pandas.tracebacks import warn
from claude_batch_pandas.uploads import Uploads
from claude_batch_pandas.workers import Crew

if TYPE_CHECKING:
    import pandas as pd

PREVIEW_BLOCK = 16  # rows; a preview of three shall not render a thousand
SOON_SECONDS = 60 * 86_400.0  # before its retirement, a model is warned of
LEAVE_SECONDS = 60.0  # at most, for a script's last submissions
EPHEMERAL = {"COLAB_RELEASE_TAG": "Colab", "KAGGLE_KERNEL_RUN_TYPE": "Kaggle"}

clock: Clock = SystemClock()
crew = Crew()
_clients: dict[bytes, Client] = {}  # by `_environment`
_warned_of: set[Path] = set()  # ledgers in bad places, each told of once
_told: set[str] = set()  # warnings that are given once
_SALT = secrets.token_bytes(32)


def submit(data: Any, call: Call, live: Live | None = None) -> Run:
    """Plan a call over rows, begin to send it, and return at once.

    Parameters
    ----------
    data : pandas.DataFrame, pandas.Series or RequestFile
    call : Call
    live : Live, optional
        What is asked at the live price. Default: a canary, as the call says.
    """
    desk = _Desk(call.client)
    renderer, blocks, asks = _ready(data, call, desk)
    recipe = renderer.recipe
    _remark(renderer)
    engine = desk.engine()
    record = record_of(recipe, call, engine.clock.now())
    labels = index_of(data)
    index = indexes.dump(labels)
    with locks.held(engine.store.home / locks.PLANNING):
        engine.spool.sweep({run.id for run in engine.store.runs()})
        planner = Planner(
            renderer,
            blocks,
            engine.spool,
            record,
            lambda: look_up(engine, reuse=call.reuse),
            call.shard_size,
            engine.max_in_flight,
            indexes.digest(labels),
            live or live_of(call),
            engine.store.has_passed,
            outlook_of(recipe, call),
        )
        run_id = settle(planner.plan(), engine, index, lambda draft: _approve(draft, call, engine))
        _apply(call, engine, run_id, live or live_of(call))
    if asks and (words := _retirement(recipe, desk)):
        warn(words)
    if renderer.remark:
        warn(renderer.remark)
    run = Run(run_id, engine, crew, lambda: hook_for(call.progress), recipe, index=labels)
    return run.start()


def _ready(data: Any, call: Call, desk: _Desk) -> tuple[Renders, Iterator[Rendered], int]:
    """Return what renders a call, its blocks, and how much they ask: nothing when it is 0."""
    recipe = recipe_of(call)  # what is wrong with it by the shipped table is told of at once
    check_output(data, recipe.output, replace=call.replace)
    check_shard_size(call.shard_size)
    hook_for(call.progress)  # a wrong one is told of before anything is sent
    know = _Knowing()
    renderer, blocks, asks = _prepared(data, recipe, desk, know)
    if asks:
        desk.connect()  # without credentials, nothing is written either
        know.know = Knowledge(desk.engine)
        known = recipe_of(call, know, Uploads(desk.engine))
        varies = next(slots_in(recipe.params), None) is not None
        # As the API itself tells of the models.
        if varies or not recipe.asks_like(known) or not renderer.holds(asks):
            renderer, blocks, asks = _prepared(data, known, desk, know)
    return renderer, blocks, asks


class _Knowing:
    """What a model accepts: by the shipped table, until it is clear that something is asked."""

    def __init__(self) -> None:
        self.know: Know = shipped

    def __call__(self, model: str) -> Abilities:
        return self.know(model)


def _remark(renderer: Renders) -> None:
    """Warn of what is odd about a call."""
    if renderer.is_constant:
        warn(
            "The template uses no column, so every row asks the same. "
            f"Write {{column}} where a value belongs; there are: {renderer.source.names[:9]}."
        )
    if (words := patch_warning()) and words not in _told:
        _told.add(words)
        warn(words)
    if words := cache_warning(renderer.recipe):
        warn(words)


def _apply(call: Call, engine: Engine, run_id: str, live: Live) -> None:
    """Let a run that exists be as this call says."""
    if call.on_unknown is not None:  # as the answer of one who was asked
        for asked in (run_id, *engine.store.run(run_id).sources):
            engine.store.set_policy(asked, call.on_unknown)
    if not call.keep_requests:
        engine.store.drop_requests(run_id)
    caps = dollars_of(call), engine.max_cost_per_day
    record = engine.store.run(run_id)
    if caps != (record.max_cost, record.max_cost_per_day):
        engine.store.set_max_cost(run_id, *caps)
    if caps != (None, None):  # what others have planned for these rows is sent for this call, too
        for asked in record.sources:
            if reserving.planned(engine.store.shards(asked)):
                engine.store.set_max_cost(asked, *caps)
    if live is Live.NONE:
        _let_go(engine, run_id)


class _Desk:
    """The engine of one call, built when it is first needed.

    Parameters
    ----------
    sdk : anthropic.Anthropic or None
    """

    def __init__(self, sdk: Any) -> None:
        self._sdk = sdk
        self.connect = _connector(sdk)
        self._engine: Engine | None = None

    def engine(self) -> Engine:
        """Return the engine."""
        if self._engine is None:
            self._engine = build_engine(self._sdk)
        return self._engine

    def signed(self) -> Engine:
        """Return the engine when there is something to sign with; else nothing is written."""
        self.connect()
        return self.engine()


def _prepared(
    data: Any, recipe: Recipe, desk: _Desk, know: Know
) -> tuple[Renders, Iterator[Rendered], int]:
    """Return what renders the rows, its blocks, and how much they ask."""
    history = None
    if recipe.history:
        history, recipe = history_of(data, recipe, desk.engine())
    renderer = prepare(data, recipe, know, Uploads(desk.signed), history)
    _refuse_own_output(renderer, recipe.output)
    blocks, asks = _peek(renderer.blocks())
    return renderer, blocks, asks


def batch(data: Any, call: Call) -> pd.DataFrame:
    """Submit a call, wait for it, and join its answers."""
    return submit(data, call).wait().columns(data)


def _retirement(recipe: Recipe, desk: _Desk) -> str:
    """Say when the model goes, if that is soon; as far as the ledger knows."""
    model = recipe.params["model"]
    if not isinstance(model, str):
        return ""
    until = Knowledge(desk.engine, desk.engine().client.origin)(model).retires_at
    today = time.strftime("%Y-%m-%d", time.gmtime(desk.engine().clock.now() + SOON_SECONDS))
    if not until or until > today:
        return ""
    return f"{model} is to be retired on {until}; the same call will need another model then."


def _let_go(engine: Engine, run_id: str) -> None:
    """Plan the canaries of a run that exists as parts of batches: the caller wants none."""
    for shard in engine.store.shards(run_id):
        if shard.live and shard.shape and shard.state is ShardState.PLANNED:
            engine.store.mark_unlive(shard, lost=False)


def live_of(call: Call) -> Live:
    """Return what a call wants to be asked at once."""
    betas = (call.params or {}).get("betas", ())
    wants = options.canary if call.canary is None else call.canary
    wants = wants and LONG not in betas  # which batches alone take
    return Live.CANARY if wants else Live.NONE


def sample(data: Any, call: Call, n: Any) -> pd.DataFrame:
    """Ask some rows of a call now, at the live price, and join the answers.

    Parameters
    ----------
    data : pandas.DataFrame or pandas.Series
    call : Call
    n : int
        How many rows, spread evenly.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        msg = f"n must be a whole number of at least 1, not {n!r}."
        raise InputError(msg)
    part = frames.spread(data, n)
    call = replace(call, shard_size=None, warm=False)
    return submit(part, call, Live.ALL).wait().columns(part)


def preview(data: Any, call: Call, n: Any) -> Preview:
    """Render the first `n` requests of a call; nothing is sent or written."""
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        msg = f"n must be a whole number of at least 1, not {n!r}."
        raise InputError(msg)
    df = frames.as_frame(data)
    recipe, history = recipe_of(call), None
    if recipe.history:
        history, recipe = history_of(data, recipe, build_engine(call.client))
    renderer = prepare(data, recipe, history=history)
    requests: list[dict[str, Any]] = []
    notes: list[str] = []
    position = 0
    for block in renderer.blocks(PREVIEW_BLOCK):
        for i, tail in enumerate(block.tails):
            if tail is None or i in block.reasons:
                status, why = block.reasons[i]
                reason = why.removesuffix(AT.format(position + i))
                notes.append(f"The row at position {position + i} is {status}: {reason}.")
            elif len(requests) < n:
                requests.append(orjson.loads(renderer.head + tail))
        position += len(block)
        if len(requests) == n:
            break
    return Preview(requests, len(df), notes)


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
            warn(
                f"The ledger {home} goes when this {place} machine goes. Set CLAUDE_BATCH_HOME to "
                "a mounted drive to keep it."
            )
    return home


def _refuse_own_output(renderer: Renders, output: Output) -> None:
    """Refuse to rewrite a column that the template reads: a rerun would ask about the answers."""
    read = [name for name in output.columns if name in renderer.columns]
    if read:
        msg = (
            f"The template reads the column {read[0]!r}, which output={output.name!r} would rewrite: "
            "running the cell again would ask about its own answers. Choose another output=."
        )
        raise OutputExistsError(msg)


def _peek(blocks: Iterator[Rendered]) -> tuple[Iterator[Rendered], int]:
    """Render until a row asks something; return every block all the same, and how much it asks.

    That is the bytes of the longest request so far, at least 1; 0 when no row asks anything.

    Most often it is the first; a template function is called once per row, so none is rendered
    twice.
    """
    seen: list[Rendered] = []
    for block in blocks:
        seen.append(block)
        asked = [tail for i, tail in enumerate(block.tails) if i not in block.reasons]
        longest = max((len(tail) + 1 for tail in asked if tail is not None), default=0)
        if longest:
            return chain(seen, blocks), longest
    return iter(seen), 0


def _connector(sdk: Any) -> Callable[[], Client]:
    """Return what makes the client; a wrong one is told of at once, a missing key when called."""
    if sdk is None:
        return _client
    given = Client(sdk, allow_http=options.allow_http)
    return lambda: given


def build_engine(sdk: Any) -> Engine:
    """Return what drives runs, over a client that the user built or over the environment's."""
    home = ledger_home()
    words = place_warning(home)
    if words and home not in _warned_of:
        _warned_of.add(home)
        warn(words)
    return Engine(
        connect=_connector(sdk),
        store=Store(home),
        spool=Spool(home),
        clock=clock,
        max_in_flight=options.max_in_flight,
        poll_seconds=options.poll_seconds,
        settle_seconds=options.settle_seconds,
        max_cost_per_day=exact(options.max_cost_per_day),
    )


def _client() -> Client:
    """Return the client of the environment as it is now; one that failed is tried anew."""
    mark = _environment()
    if mark not in _clients:
        _clients[mark] = Client(allow_http=options.allow_http)
    return _clients[mark]


def _environment() -> bytes:
    """Return what tells one environment from another, and shows no key in a traceback."""
    found = sorted(item for item in os.environ.items() if item[0].startswith("ANTHROPIC_"))
    seen = repr((found, options.allow_http)).encode(errors="surrogateescape")
    return hashlib.blake2b(seen, key=_SALT).digest()


def look_up(engine: Engine, *, reuse: bool) -> tuple[Scope, Catalog]:
    """Return who the key belongs to, and what is known there."""
    scope = find_scope(engine)
    return scope, Catalog(engine.spool, engine.store.history(scope) if reuse else [])


def settle(
    draft: Draft, engine: Engine, index: bytes | None, approve: Callable[[Draft], None]
) -> str:
    """Make a draft a run, or find the run that it is; return the run's id.

    Parameters
    ----------
    draft : Draft
    engine : Engine
    index : bytes or None
        The frame's, as far as it can be saved.
    approve : callable
        Refuses a draft, which is deleted then.
    """
    record, store, spool = draft.record, engine.store, engine.spool
    existing = store.find(record.key, prefer_whole=record.reuse)
    if existing is not None and any(
        store.run(source).state is RunState.PURGED for source in existing.sources
    ):
        existing = None  # some of its answers are gone; ask those anew
    if existing is not None and (record.reuse or _was_cut_short(existing)):
        spool.discard(record.id)
        return existing.id
    try:
        approve(draft)
    except BaseException:
        spool.discard(record.id)
        raise
    if index is not None:
        write_sealed(spool.draft(record.id) / INDEX, index)
    spool.publish(record.id)
    store.add_run(record, draft.shards)
    return record.id


def _approve(draft: Draft, call: Call, engine: Engine) -> None:
    """Refuse what may pass a cap, or what a person does not want; nothing was sent yet."""
    reserving.check(draft.record, draft.shards, draft.outlook, engine)
    if call.confirm and draft.outlook is not None:
        consent.ask(estimate_of(draft.record, draft.shards, draft.outlook), options.confirm_above)


def _was_cut_short(existing: RunRecord) -> bool:
    """Tell whether a call with reuse=False is the rerun of one that was cut short.

    Not when that one was paused with the advice to make this very call.
    """
    is_stuck = existing.state is RunState.PAUSED and "reuse=False" in existing.note
    return not existing.reuse and existing.state is not RunState.ENDED and not is_stuck


def _after_fork() -> None:
    crew.forget()
    _clients.clear()


atexit.register(crew.leave, LEAVE_SECONDS)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
