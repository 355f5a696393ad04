"""The arguments of one call, checked and turned into a recipe and the record of a run."""

from __future__ import annotations

import difflib
import math
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from claude_batch_pandas.abilities import Abilities, cache_minimum, shipped
from claude_batch_pandas.asking import ask_for
from claude_batch_pandas.blocks import Loader, Uploader, placed
from claude_batch_pandas.caching import BYTES_PER_TOKEN, mark
from claude_batch_pandas.estimates import Outlook, typical_tokens
from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.money import US_FACTOR
from claude_batch_pandas.outputs import output_of
from claude_batch_pandas.planning import NO_SCOPE
from claude_batch_pandas.records import RunRecord
from claude_batch_pandas.refusals import refusal
from claude_batch_pandas.rendering import Know, Recipe
from claude_batch_pandas.requests import check_params
from claude_batch_pandas.settings import ON_UNKNOWN, options
from claude_batch_pandas.shots import with_examples
from claude_batch_pandas.templates import as_messages
from claude_batch_pandas.weights import is_bounded

if TYPE_CHECKING:
    import anthropic

ELSEWHERE = {
    "messages": "give them as template=[...] instead",
    "system": "give it as system=, which takes blocks too, and in which {columns} work",
}
OWN = ("tools", "tool_choice", "thinking")  # parameters that are arguments, too
SERVER_TOOLS = ("web_search", "web_fetch", "code_execution", "tool_search", "mcp_")
KNOWN_PLACES = ("global",)  # elsewhere, or by what a workspace says, it may be the US
MOST_VOTES = 25
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
    examples: Any = None
    history: Any = None
    tools: Any = None
    tool_choice: Any = None
    thinking: Any = None
    effort: Any = None
    upload: bool = False
    cache: Any = None
    warm: bool = False
    votes: int = 1
    model: Any = None
    max_tokens: Any = None
    name: str | None = None
    reuse: bool = True
    on_missing: str = "skip"
    shard_size: int | None = None
    on_unknown: str | None = None
    keep_requests: bool = True
    canary: bool | None = None
    force: bool = False
    max_cost: Any = None
    confirm: bool = False
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


def recipe_of(call: Call, know: Know = shipped, send: Uploader | None = None) -> Recipe:
    """Return what a call asks of every row.

    Parameters
    ----------
    call : Call
    know : callable
        Returns what a model accepts, by its name.
    send : callable, optional
        Gives a file to the Files API.

    Raises
    ------
    InputError
    """
    _check(call)
    params, betas = _params(call)
    params = check_params(params, least=int(not call.force))
    model = know(params["model"]) if isinstance(params["model"], str) else shipped("")
    has_tools = any(_is_ours(tool) for tool in _tools(params))
    output = output_of(
        call.output,
        call.schema,
        expand=call.expand,
        flags=call.flags,
        has_tools=has_tools,
        votes=call.votes,
    )
    loader = Loader.of(model, send)
    template = placed(call.template, loader, upload=call.upload)
    system = call.system
    if call.examples is not None:
        template = with_examples(template, call.examples, output, loader)
    shared = 0
    if _is_cached(call):
        has_history = call.history is not None
        template, system, shared = mark(template, system, _ttl(call), has_history=has_history)
    params, system = ask_for(output, params, system, model)
    if not call.force:
        _refuse(template, params, model, betas)
    return Recipe(
        template=template,
        system=system,
        params=params,
        betas=betas,
        on_missing=call.on_missing,
        output=output,
        force=call.force,
        history="" if call.history is None else _run_id(call.history),
        earlier=getattr(call.history, "asked", None),
        shared=shared,
    )


def _check(call: Call) -> None:
    for name in (
        "reuse",
        "replace",
        "keep_requests",
        "expand",
        "upload",
        "warm",
        "force",
        "confirm",
    ):
        if not isinstance(getattr(call, name), bool):
            msg = f"{name} must be True or False, not {getattr(call, name)!r}."
            raise InputError(msg)
    if call.upload and callable(call.template):
        msg = (
            "upload=True is for a template, not for a function; return "
            "cbp.image(path, upload=True) or cbp.document(path, upload=True) from it."
        )
        raise InputError(msg)
    if call.canary is not None and not isinstance(call.canary, bool):
        msg = f"canary must be True or False, not {call.canary!r}."
        raise InputError(msg)
    if call.on_unknown is not None and call.on_unknown not in ON_UNKNOWN:
        msg = f"on_unknown must be one of {', '.join(ON_UNKNOWN)}, not {call.on_unknown!r}."
        raise InputError(msg)
    if call.params is not None and not isinstance(call.params, Mapping):
        msg = f"params must be a dict of Messages parameters, not a {type(call.params).__name__}."
        raise InputError(msg)
    given: Any = call.name
    if given is not None and (
        not isinstance(given, str) or not NAME.fullmatch(given) or RESERVED.fullmatch(given)
    ):
        msg = (
            f"name={given!r} cannot name a run: use up to 64 letters, digits, '.', '_' or '-', "
            "beginning with a letter or digit."
        )
        raise InputError(msg)
    dollars_of(call)
    votes: Any = call.votes
    if isinstance(votes, bool) or not isinstance(votes, int) or not 1 <= votes <= MOST_VOTES:
        msg = f"votes must be a whole number from 1 to {MOST_VOTES}, not {votes!r}."
        raise InputError(msg)
    if call.warm and not _is_cached(call):
        msg = "warm=True fills the prompt cache first, so it needs cache=True, '5m' or '1h'."
        raise InputError(msg)


def _params(call: Call) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return every parameter but messages and system, and the betas."""
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
    given = {name: getattr(call, name) for name in OWN if getattr(call, name) is not None}
    twice = [name for name in given if name in extra]
    if twice:
        msg = f"{twice[0]}= is given, and params holds it, too; give one of them."
        raise InputError(msg)
    if call.effort is not None:
        config = extra.get("output_config") or {}
        if not isinstance(config, Mapping) or "effort" in config:
            msg = "effort= is given, and params has an output_config with one; give one of them."
            raise InputError(msg)
        extra["output_config"] = {**config, "effort": call.effort}
    tools = given.get("tools")
    if tools is not None and (
        not isinstance(tools, list | tuple) or not all(isinstance(tool, Mapping) for tool in tools)
    ):
        msg = f"tools must be a list of tools, each a dict, not a {type(tools).__name__}."
        raise InputError(msg)
    default = {
        "model": options.model if call.model is None else call.model,
        "max_tokens": options.max_tokens if call.max_tokens is None else call.max_tokens,
    }
    return {**default, **given, **extra}, tuple(betas)


def _tools(params: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    tools = params.get("tools")
    if not isinstance(tools, list | tuple):
        return []
    return [tool for tool in tools if isinstance(tool, Mapping)]


def _is_ours(tool: Mapping[str, Any]) -> bool:
    """Tell whether we are the ones to run a tool, so that its input is an answer."""
    kind = str(tool.get("type") or "custom")
    return not kind.startswith(SERVER_TOOLS)


def _refuse(
    template: Any, params: Mapping[str, Any], model: Abilities, betas: Sequence[str]
) -> None:
    """Refuse what the model will refuse, as far as that is the same in every row."""
    messages = as_messages(template) if isinstance(template, list | tuple) else None
    why = refusal({**params, "messages": messages}, model, betas)
    if why:
        raise InputError(why)


def _run_id(history: Any) -> str:
    """Return the id of a run, which may be given itself."""
    found = history if isinstance(history, str) else getattr(history, "id", None)
    if not isinstance(found, str) or not found:
        msg = f"history must be a run, or the id of one, not a {type(history).__name__}."
        raise InputError(msg)
    return found


def _ttl(call: Call) -> Any:
    """Return how long a cache entry lives; what is filled first has to outlive a batch."""
    return "1h" if call.warm and call.cache is True else call.cache


def outlook_of(recipe: Recipe, call: Call) -> Outlook:
    """Return what an estimate of a call has to know beside its requests."""
    factor = US_FACTOR if recipe.params.get("inference_geo") == "us" else Decimal(1)
    by_row = callable(recipe.template)
    return Outlook(
        typical_tokens(recipe.output, recipe.params),
        recipe.shared,
        bool(_ttl(call) == "1h"),
        factor,
        # A function may return any parameter of its own.
        has_tools=by_row or bool(_tools(recipe.params)) or recipe.output.schema is not None,
        is_bounded=is_bounded(recipe.params),
        may_be_us=by_row or recipe.params.get("inference_geo") not in KNOWN_PLACES,
    )


def dollars_of(call: Call) -> Decimal | None:
    """Return the US dollars that a call may cost at most; None without a cap.

    Raises
    ------
    InputError
    """
    most = call.max_cost
    if most is None:
        return None
    is_number = isinstance(most, int | float | Decimal) and not isinstance(most, bool)
    if not is_number or not math.isfinite(most) or most <= 0:
        msg = f"max_cost must be a positive number of US dollars, such as 5.00, not {most!r}."
        raise InputError(msg)
    return exact(most)


def exact(dollars: float | Decimal | None) -> Decimal | None:
    """Return US dollars as they were written: 0.1 is a tenth."""
    return None if dollars is None else Decimal(str(dollars))


def cache_warning(recipe: Recipe) -> str:
    """Say that what a call wants cached is too short for its model; empty when it is not."""
    model = str(recipe.params["model"])
    least = cache_minimum(model)
    tokens = int(recipe.shared / BYTES_PER_TOKEN)
    if not recipe.shared or least is None or tokens >= least:
        return ""
    return (
        f"What all rows share has about {tokens:,} tokens, and {model} caches from {least:,} on: "
        "cache= will most likely do nothing, and cost nothing."
    )


def _is_cached(call: Call) -> bool:
    return call.cache is not None and call.cache is not False and call.template is not None


def record_of(recipe: Recipe, call: Call, now: float) -> RunRecord:
    """Return what is known of a run before it is planned."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", call.name or call.output).strip("-._")[:40] or "run"
    day = time.strftime("%Y%m%d", time.localtime(now))
    tail = "".join(secrets.choice(LETTERS) for _ in range(4))
    return RunRecord(
        id=f"{day}-{slug}-{tail}",
        name=call.name or call.output,
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
        warm=call.warm,
        max_cost=dollars_of(call),
    )
