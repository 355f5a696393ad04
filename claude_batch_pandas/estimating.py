"""``df.claude.estimate``: renders what a call would send, and asks the API only to count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from claude_batch_pandas import session
from claude_batch_pandas.calls import Call, outlook_of, recipe_of
from claude_batch_pandas.catalog import Catalog
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.estimates import Counted, Estimate, Rate, Sample, estimate, thinks
from claude_batch_pandas.exceptions import APIError, CredentialsError
from claude_batch_pandas.matching import history_of
from claude_batch_pandas.planning import CANARY_ROWS, Live
from claude_batch_pandas.preparing import check_output, prepare
from claude_batch_pandas.rendering import Recipe
from claude_batch_pandas.scopes import find_scope, known_scope
from claude_batch_pandas.settings import options
from claude_batch_pandas.sharding import batches, check_shard_size
from claude_batch_pandas.stretches import Stretch
from claude_batch_pandas.weights import Scale, weigh

UPLOADS = "With upload=True, what was asked before is not known before the files are sent."
# What the token counting endpoint takes of a request.
NONCE = "0" * 16  # nothing is sent
COUNTED = frozenset({"messages", "model", "system", "thinking", "tool_choice", "tools", "output_config"})  # fmt: skip


def estimate_call(data: Any, call: Call, *, offline: bool) -> Estimate:
    """Return what a call would send and cost; no row is sent to be answered.

    Parameters
    ----------
    data : pandas.DataFrame, pandas.Series or RequestFile
    call : Call
    offline : bool
        Ask nobody anything, not even to count tokens.

    Raises
    ------
    InputError
        For whatever is wrong with the call.
    """
    notes: list[str] = []
    if call.upload:
        notes.append(UPLOADS)
        call = replace(call, upload=False, reuse=False)  # it weighs the same, and sends no file
    recipe = recipe_of(call)
    check_shard_size(call.shard_size)
    check_output(data, recipe.output, replace=call.replace)
    engine = session.build_engine(call.client)
    history = None
    if recipe.history:
        history, recipe = history_of(data, recipe, engine)
    renderer = prepare(data, recipe, history=history)
    known = _known(engine, call, notes, offline=offline)
    scale, sample = Scale(renderer.recipe.common, renderer.is_uniform), Sample()
    seen: set[bytes] = set()
    rows = answered = size = 0
    for block in renderer.blocks():
        rows += len(block)
        fresh = block.fresh(seen)
        seen.update(fresh)
        new = _unanswered(fresh, known)
        answered += len(fresh) - len(new)
        lines = Stretch.of(NONCE, 1, 0, renderer.head, new)
        scale.add(lines, lines.sizes)
        size += sum(map(len, new.values())) + len(renderer.head) * len(new)
        for digest, tail in new.items():
            sample.add(digest, renderer.head, tail)
    new_requests = len(seen) - answered
    rate = Rate() if offline else _count(engine, sample, recipe, notes)
    votes = recipe.output.votes
    return estimate(
        scale.loads,
        rate,
        outlook_of(recipe, call)._replace(live=int(_has_canary(call, new_requests))),
        rows=rows // votes,
        requests=len(seen),
        answered=answered,
        shards=batches(rows, new_requests, size, call.shard_size, options.max_in_flight),
        notes=[*notes, *_remarks(recipe, scale)],
    )


def _known(engine: Engine, call: Call, notes: list[str], *, offline: bool) -> Catalog | None:
    """Return what was asked before with this key; None when that cannot be said."""
    if not call.reuse:
        return None
    try:
        scope = known_scope(engine) if offline else find_scope(engine)
    except (APIError, CredentialsError) as error:
        notes.append(f"What was asked before is not known: {_why(error)}")
        return None
    return None if scope is None else Catalog(engine.spool, engine.store.history(scope))


def _unanswered(fresh: Mapping[bytes, bytes], known: Catalog | None) -> dict[bytes, bytes]:
    if known is None:
        return dict(fresh)
    places = known.find(list(fresh))
    return {
        digest: tail
        for (digest, tail), place in zip(fresh.items(), places, strict=True)
        if place is None
    }


def _count(engine: Engine, sample: Sample, recipe: Recipe, notes: list[str]) -> Rate:
    """Have the API count the tokens of a sample; without it, guess."""
    counted: list[Counted] = []
    try:
        for request in sample.requests:
            params = orjson.loads(request)
            body = {name: value for name, value in params.items() if name in COUNTED}
            tokens = engine.client.count(orjson.dumps(body), recipe.betas)
            counted.append(Counted(weigh(request)[1], tokens))
    except (APIError, CredentialsError) as error:
        notes.append(f"Tokens are guessed from bytes, not counted: {_why(error)}")
        return Rate()
    return Rate.of(counted)


def _why(error: Exception) -> str:
    return "there is no key." if isinstance(error, CredentialsError) else str(error)


def _has_canary(call: Call, requests: int) -> bool:
    return requests >= CANARY_ROWS and session.live_of(call) is Live.CANARY


def _remarks(recipe: Recipe, scale: Scale) -> list[str]:
    """Say what the numbers do not."""
    notes = []
    if thinks(recipe.params):
        notes.append(
            f"{recipe.params['model']} thinks before it answers, which is output, too; "
            "thinking={'type': 'disabled'} or a low effort= makes it less, where the model allows."
        )
    if any(load.media for load in scale.loads.values()):
        notes.append(
            "An image that is not in its request counts as the largest there is, a document whose "
            "pages cannot be seen as one page."
        )
    return notes
