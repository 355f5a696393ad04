"""The arguments of one call, checked and turned into a recipe and the record of a run."""

from __future__ import annotations

import difflib
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from claude_batch_pandas.abilities import cache_minimum
from claude_batch_pandas.caching import BYTES_PER_TOKEN, mark
from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.outputs import Output, output_of
from claude_batch_pandas.planning import NO_SCOPE
from claude_batch_pandas.records import ON_UNKNOWN, RunRecord
from claude_batch_pandas.rendering import Recipe
from claude_batch_pandas.settings import options

if TYPE_CHECKING:
    import anthropic

ELSEWHERE = {
    "messages": "give them as template=[...] instead",
    "system": "give it as system=, which takes blocks too, and in which {columns} work",
    "stream": "a batch has no streams; leave it out",
}
BETA = re.compile(r"[A-Za-z0-9._-]+")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # Windows
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # no look-alikes in what people type


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The arguments of one call; ``df.claude.batch`` documents them."""

    template: Any
    system: Any = None
    output: str = "answer"
    schema: Any = None
    expand: bool = True
    flags: tuple[str, ...] = ()  # of a verb: choices that become a column each
    replace: bool = False
    cache: Any = None
    model: str | None = None
    max_tokens: int | None = None
    name: str | None = None
    reuse: bool = True
    on_missing: str = "skip"
    shard_size: int | None = None
    on_unknown: str | None = None
    keep_requests: bool = True
    params: Mapping[str, Any] | None = None
    client: anthropic.Anthropic | None = None
    progress: Any = None


def make_call(template: Any, options_: Mapping[str, Any]) -> Call:
    """Return a call, or say which of its arguments does not exist.

    Raises
    ------
    InputError
    """
    known = [field.name for field in fields(Call) if field.name != "flags"]
    unknown = [name for name in options_ if name not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        msg = f"There is no argument {unknown[0]!r}. There are: {', '.join(known)}.{hint}"
        raise InputError(msg)
    return Call(template=template, **options_)


def recipe_of(call: Call) -> Recipe:
    """Return what a call asks of every row.

    Raises
    ------
    InputError
    """
    for name in ("reuse", "replace", "keep_requests", "expand"):
        if not isinstance(getattr(call, name), bool):
            msg = f"{name} must be True or False, not {getattr(call, name)!r}."
            raise InputError(msg)
    if call.on_unknown is not None and call.on_unknown not in ON_UNKNOWN:
        msg = f"on_unknown must be one of {', '.join(ON_UNKNOWN)}, not {call.on_unknown!r}."
        raise InputError(msg)
    if call.params is not None and not isinstance(call.params, Mapping):
        msg = f"params must be a dict of Messages parameters, not a {type(call.params).__name__}."
        raise InputError(msg)
    extra = dict(call.params or {})
    betas = extra.pop("betas", ())
    is_names = isinstance(betas, list | tuple) and all(
        isinstance(beta, str) and BETA.fullmatch(beta) for beta in betas
    )
    if not is_names:
        msg = f"params['betas'] must be a list of names such as 'context-1m-2025-08-07', not {betas!r}."
        raise InputError(msg)
    for name, instead in ELSEWHERE.items():
        if name in extra:
            msg = f"params holds {name!r}; {instead}."
            raise InputError(msg)
    merged = {
        "model": options.model if call.model is None else call.model,
        "max_tokens": options.max_tokens if call.max_tokens is None else call.max_tokens,
        **extra,
    }
    template, system = call.template, call.system
    if _is_cached(call):
        template, system, _ = mark(template, system, call.cache)
    output = output_of(call.output, call.schema, expand=call.expand, flags=call.flags)
    return Recipe(
        template=template,
        system=system,
        params=_with_format(merged, output),
        betas=tuple(betas),
        on_missing=call.on_missing,
        output=output,
    )


def cache_warning(call: Call) -> str:
    """Say that what a call wants cached is too short for its model; empty when it is not."""
    if not _is_cached(call):
        return ""
    model = str(call.model or options.model)
    least = cache_minimum(model)
    tokens = int(mark(call.template, call.system, call.cache).size / BYTES_PER_TOKEN)
    if least is None or tokens >= least:
        return ""
    return (
        f"What all rows share has about {tokens:,} tokens, and {model} caches from {least:,} on: "
        "cache= will most likely do nothing, and cost nothing."
    )


def _is_cached(call: Call) -> bool:
    return call.cache is not None and call.cache is not False and call.template is not None


def _with_format(params: dict[str, Any], output: Output) -> dict[str, Any]:
    """Return params that ask for what the schema says."""
    if output.schema is None:
        return params
    config = params.get("output_config", {})
    if not isinstance(config, Mapping) or config.get("format") is not None:
        msg = "params has an output_config with a format, and there is schema=; give one of them."
        raise InputError(msg)
    form = {"type": "json_schema", "schema": output.schema.asked()}
    return {**params, "output_config": {**config, "format": form}}


def record_of(recipe: Recipe, call: Call, now: float) -> RunRecord:
    """Return what is known of a run before it is planned.

    Raises
    ------
    InputError
    """
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
        on_unknown=call.on_unknown or options.on_unknown,
        max_attempts=options.max_attempts,
        keep_requests=call.keep_requests,
    )
