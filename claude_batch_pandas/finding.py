"""Ways back to a run: by its id, by a batch's id, or by what its rows asked.

Nothing here sends anything new; a run of this ledger that was not all sent yet goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from claude_batch_pandas import (
    attaching,
    catalog,
    frames,
    indexes,
    locks,
    recovery,
)
from claude_batch_pandas.calls import Call, make_call, recipe_of, record_of
from claude_batch_pandas.displays import hook_for
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import NOT_FOUND, InputError, RunNotFoundError
from claude_batch_pandas.handles import Run
from claude_batch_pandas.knowledge import Knowledge
from claude_batch_pandas.listing import warn_of_deadline
from claude_batch_pandas.matching import history_of
from claude_batch_pandas.patience import patiently
from claude_batch_pandas.planning import Planner
from claude_batch_pandas.preparing import prepare
from claude_batch_pandas.records import Batch, RunState, Scope, ShardState
from claude_batch_pandas.rendered import Rendered
from claude_batch_pandas.replies import check_batch_id
from claude_batch_pandas.requests import check_params
from claude_batch_pandas.scopes import find_scope
from claude_batch_pandas.session import build_engine, crew, look_up, settle
from claude_batch_pandas.slots import Column
from claude_batch_pandas.spool import write_sealed
from claude_batch_pandas.templates import wrong_template
from claude_batch_pandas.tracebacks import Curtain, warn
from claude_batch_pandas.twins import LONGEST_SECONDS
from claude_batch_pandas.uploads import Uploads

if TYPE_CHECKING:
    import anthropic


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
    engine = build_engine(client)
    record = engine.store.run(run_id)
    hook_for(progress)
    warn_of_deadline(record, engine.store.shards(run_id))
    return Run(run_id, engine, crew, lambda: hook_for(progress))


def attach(
    batch_id: str,
    data: Any = None,
    template: Any = None,
    *,
    client: anthropic.Anthropic | None = None,
    progress: Any = None,
    **options_: Any,
) -> Run:
    """Return a batch as a run, with nothing but its id; nothing new is sent.

    A batch that this ledger sent is the run that sent it, which goes on where it is.

    Parameters
    ----------
    batch_id : str
        Such as ``"msgbatch_01..."``, of the workspace that the key belongs to.
    data : pandas.DataFrame or pandas.Series, optional
        The frame whose rows were sent, in any state it is in now; needs `template`.
    template : str, list of dict, or callable, optional
        What was asked of every row, as for ``df.claude.batch``.
    client, progress, **options_
        As for ``df.claude.batch``; what changes a request (model, max_tokens, system, params)
        has to be what it was.

    Returns
    -------
    Run
        ``result()`` joins the answers to the frame by what each row asks, or, without a frame, is
        indexed by custom_id.

    Raises
    ------
    InputError
        When the frame comes without a template.
    APIError
        When there is no such batch for this key.
    """
    with Curtain():
        if data is not None and template is None:
            msg = (
                "A frame needs template= too: rows are found by what they asked. Or pass no frame."
            )
            raise InputError(msg)
        is_known = isinstance(template, str | list | tuple | Column)
        if not (template is None or callable(template) or is_known):
            raise wrong_template(template)
        call = make_call(template, {"client": client, "progress": progress, **options_})
        recipe = recipe_of(call)
        if data is not None:
            frames.check_output(data, recipe.output, replace=call.replace)
            # What is wrong with it is told of at once.
            prepare(data, recipe)
        hook_for(progress)
        check_batch_id(batch_id)
        engine = build_engine(client)
        if template is not None:
            sent = Uploads(lambda: engine, find_scope(engine))
            recipe = recipe_of(call, Knowledge(lambda: engine), sent)
        run_id = engine.store.owner(batch_id)
        if run_id is None:
            retrieve = partial(engine.client.retrieve, batch_id)
            run_id = _attach(engine, call, patiently(engine, retrieve, {NOT_FOUND}))
        asked = None if template is None else recipe
        return Run(run_id, engine, crew, lambda: hook_for(progress), asked, data).start()


def recover(data: Any, template: Any, **options_: Any) -> Run:
    """Find the answers to a frame on the server, without a ledger; nothing new is sent.

    The server tells whose requests a batch holds only in its results, so results are read: all
    batches of the last 29 days that ended and that this ledger does not know. Rows that a run of
    this ledger asked are that run's, which goes on where it is.

    Parameters
    ----------
    data : pandas.DataFrame or pandas.Series
    template, **options_
        As they were given to ``df.claude.batch``: rows are found by what they asked. ``reuse`` and
        ``shard_size`` change nothing here.

    Returns
    -------
    Run
        ``result()`` joins what was found. Rows without an answer are ``skipped`` or tell what
        failed; the ordinary call sends those, and only those.

    Raises
    ------
    RunNotFoundError
        When no batch answers any row.
    APIError
    """
    with Curtain():
        call = make_call(template, options_)
        recipe = recipe_of(call)
        frames.check_output(data, recipe.output, replace=call.replace)
        engine = build_engine(call.client)
        sent = Uploads(lambda: engine, find_scope(engine))
        recipe = recipe_of(call, Knowledge(lambda: engine), sent)
        history, recipe = history_of(data, recipe, engine)
        renderer = prepare(data, recipe, Knowledge(lambda: engine), sent, history)
        blocks = [recovery.without_bodies(block) for block in renderer.blocks()]
        found = _harvest(engine, call, blocks)
        index = indexes.dump(data.index)
        with locks.held(engine.store.home / locks.PLANNING):
            planner = Planner(
                renderer,
                recovery.only_known(blocks, found),
                engine.spool,
                record_of(recipe, call, engine.clock.now()),
                lambda: (find_scope(engine), found),
                index=indexes.digest(data.index),
            )
            run_id = settle(planner.plan(), engine, index, lambda _: None)
        hook = partial(hook_for, call.progress)
        return Run(run_id, engine, crew, hook, recipe, index=data.index, planned=data).start()


def _harvest(engine: Engine, call: Call, blocks: Sequence[Rendered]) -> recovery.Harvest:
    """Attach and collect every batch that answers a row; say what was not found."""
    digests = recovery.digests_of(blocks)
    scope, known = look_up(engine, reuse=True)
    places = {
        digest: place
        for digest, place in zip(digests, known.find(digests), strict=True)
        if place is not None
    }
    wanted = {digest[: attaching.HASH_BYTES]: digest for digest in digests if digest not in places}
    search = recovery.search(engine, engine.store.batch_ids(), wanted)
    for batch in search.found:
        run_id = _attach(engine, call, batch)
        Run(run_id, engine, crew, lambda: hook_for(call.progress)).wait()
    # Batches that were attached before, too: by hand, or by a call like this that was cut short.
    store = engine.store
    _finish_attached(engine, call, scope)
    with locks.held(store.home / locks.PLANNING):  # two kernels shall not undo each other's
        attached = [run for run in store.runs() if run.attached and run.scope == scope]
        records = [run for run in attached if run.state is RunState.ENDED]
        records.sort(key=lambda run: store.shard(run.id, 0).created_at or 0.0, reverse=True)
        open_ = sum(run.state is not RunState.PURGED for run in attached) - len(records)
        found = recovery.harvest(engine.reader(), records, wanted, places)
    seen = search._replace(running=search.running + open_)
    if words := recovery.explain(seen, found, len(digests)):
        if not found.places:
            raise RunNotFoundError(words)
        warn(words)
    return found


def _finish_attached(engine: Engine, call: Call, scope: Scope) -> None:
    """Collect what was attached before and has ended since: by a call that was cut short, say."""
    over = {RunState.ENDED, RunState.PURGED}
    for record in engine.store.runs():
        if not record.attached or record.scope != scope or record.state in over:
            continue
        batch_id = engine.store.shard(record.id, 0).batch_id
        if not batch_id:
            continue
        batch = patiently(engine, partial(engine.client.retrieve, batch_id))
        if batch.processing_status == "ended":
            Run(record.id, engine, crew, partial(hook_for, call.progress)).wait()


def _refuse_unchecked(engine: Engine, scope: Scope, batch: Batch) -> None:
    """Refuse a batch that a submission of ours may have become: that run has to find it first."""
    for record in engine.store.runs():
        if record.scope != scope:
            continue
        given_up = {
            twin.number
            for twin in engine.store.twins(record.id)
            if twin.batch_id is None
            and batch.created_at - (twin.intended_at or 0.0) < LONGEST_SECONDS
        }
        for shard in engine.store.shards(record.id):
            is_open = shard.state is ShardState.SUBMITTING or shard.number in given_up
            if is_open and shard.total == batch.counts.total:
                msg = (
                    f"Batch {batch.id} may be what became of a submission of run {record.id}, whose "
                    "answer was lost. Let that run find it first: run its cell again, or "
                    f"claude_batch_pandas.run({record.id!r}).wait()."
                )
                raise InputError(msg)


def _attach(engine: Engine, call: Call, batch: Batch) -> str:
    """Make a run of a batch that the ledger does not know; return the run's id."""
    recipe = recipe_of(call)
    recipe = replace(recipe, params=check_params(recipe.params))
    named = replace(call, name=call.name or "attached")
    record = replace(
        record_of(recipe, named, engine.clock.now()),
        key=f"attached {batch.id}",
        scope=find_scope(engine),
        rows=batch.counts.total,
        requests=batch.counts.total,
        attached=True,
    )
    with locks.held(engine.store.home / locks.PLANNING):
        owner = engine.store.owner(batch.id)
        if owner is not None:
            return owner
        _refuse_unchecked(engine, record.scope, batch)
        folder = engine.spool.draft(record.id)
        attaching.prepare(folder, batch.counts.total)
        write_sealed(folder / catalog.RECIPE, recipe.dump())
        engine.spool.publish(record.id)
        engine.store.add_run(record, [attaching.shard_from(record, batch)])
    return record.id
