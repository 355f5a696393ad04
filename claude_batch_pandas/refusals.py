"""What a model will refuse, told in one sentence that names the fix, before anything is spent.

A batch checks its requests only when it ends: what is refused there costs the wait, and every row.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from claude_batch_pandas.abilities import Abilities, Version, version_of

SAMPLING = ("temperature", "top_p", "top_k")
NOT_IN_BATCHES = ("stream", "speed", "fallbacks", "thread")
LONG = "output-300k-2026-03-24"  # a beta with which batches may write more
LONG_TOKENS = 300_000
FORCE = "force=True sends it all the same."
FEWEST_THINKING = 1_024  # tokens of a thinking budget


def refusal(params: Mapping[str, Any], model: Abilities, betas: Sequence[str] = ()) -> str:
    """Return why the API will refuse a request; empty when nothing is known against it.

    Parameters
    ----------
    params : mapping
        Messages parameters; what varies by row may stand in for its value.
    model : Abilities
    betas : sequence of str
        The ``anthropic-beta`` header.
    """
    why = next(_reasons(params, model, betas), "")
    return f"{why} {FORCE}" if why else ""


def _reasons(params: Mapping[str, Any], model: Abilities, betas: Sequence[str]) -> Iterator[str]:
    name = model.model
    if model.retired:
        yield f"{name} is retired and answers nothing; choose another model."
    if not model.batches:
        yield f"{name} is not served in batches; choose another model."
    for given in (given for given in SAMPLING if given in params):
        yield (
            f"{given} is an error for every model since the API version 2026-10-21, which the SDK "
            "sends; leave it out, and ask for variety in the prompt."
        )
    for given in (given for given in NOT_IN_BATCHES if params.get(given)):
        yield f"{given} does not exist in batches; leave it out."
    yield from _limits(params, model, betas)
    yield from _thinking(params, model)
    yield from _tools(params, model)
    yield from _messages(params, model)


def _limits(params: Mapping[str, Any], model: Abilities, betas: Sequence[str]) -> Iterator[str]:
    limit = params.get("max_tokens")
    if not isinstance(limit, int) or isinstance(limit, bool):
        return
    if limit < 1:
        yield f"max_tokens={limit} asks for no answer, which batches refuse; use 1 or more."
    most = model.max_tokens
    if most is not None and LONG in betas:
        most = max(most, LONG_TOKENS)
    if most is not None and limit > most:
        yield (
            f"max_tokens={limit:,} is more than the {most:,} that {model.model} writes; use "
            f"max_tokens={most:_} or less."
        )


def _thinking(params: Mapping[str, Any], model: Abilities) -> Iterator[str]:
    thinking = _mapping(params.get("thinking"))
    config = _mapping(params.get("output_config"))
    kind, effort = thinking.get("type"), config.get("effort")
    if isinstance(kind, str) and model.thinking and kind not in model.thinking:
        yield (
            f"{model.model} does not take thinking of the type {kind!r}; use one of "
            f"{_listed(model.thinking)}, or leave it out."
        )
    budget, limit = thinking.get("budget_tokens"), params.get("max_tokens")
    if kind == "enabled" and isinstance(budget, int) and isinstance(limit, int):
        if budget < FEWEST_THINKING:
            yield f"budget_tokens={budget:,} is too little to think with; use 1,024 or more."
        if budget >= limit:
            yield (
                f"budget_tokens={budget:,} leaves nothing of max_tokens={limit:,} for the answer; "
                "raise max_tokens."
            )
    if isinstance(effort, str) and model.efforts and effort not in model.efforts:
        yield f"{model.model} does not know the effort {effort!r}; use one of {_listed(model.efforts)}."
    elif isinstance(effort, str) and _has_no_effort(model):
        yield f"{model.model} does not take an effort; leave it out."
    is_opus_5 = version_of(model.model) == Version("opus", (5, 0))
    if is_opus_5 and kind == "disabled" and effort in {"xhigh", "max"}:
        yield f"{model.model} does not turn thinking off at the effort {effort!r}; use 'high' or less."


def _has_no_effort(model: Abilities) -> bool:
    """Tell whether it is a model we know, and one without effort."""
    return not model.efforts and bool(model.thinking)


def _tools(params: Mapping[str, Any], model: Abilities) -> Iterator[str]:
    choice = _mapping(params.get("tool_choice")).get("type")
    if choice in {"any", "tool"} and not model.forced_tools:
        yield (
            f"{model.model} cannot be forced to use a tool (tool_choice {choice!r}); use "
            "{'type': 'auto'} and ask for the tool in the prompt, or schema= for typed answers."
        )
    form = _mapping(params.get("output_config")).get("format")
    if form is not None and not model.structured:
        yield (
            f"{model.model} gives no answers by a JSON schema; use schema= with this as the one "
            "model= of all rows, which is then asked in words."
        )
    names = [tool.get("name") for tool in _mappings(params.get("tools"))]
    if choice == "tool" and names:
        wanted = _mapping(params.get("tool_choice")).get("name")
        if isinstance(wanted, str) and wanted not in names:
            yield f"tool_choice names the tool {wanted!r}, and tools= has {names}; name one of them."
    if choice is not None and choice != "none" and "tools" not in params:
        yield "tool_choice is given without tools=; give both, or neither."


def _messages(params: Mapping[str, Any], model: Abilities) -> Iterator[str]:
    messages = params.get("messages")
    if not isinstance(messages, list | tuple):
        return
    last = messages[-1] if messages else None
    if isinstance(last, Mapping) and _begins_answer(last) and not model.prefill:
        yield (
            f"{model.model} does not go on from a message of the assistant (prefill); end with a "
            "user message, and say in it how the answer shall begin, or use schema=."
        )
    if isinstance(last, Mapping) and _begins_answer(last) and _has_format(params):
        yield "A schema cannot be combined with an answer that is begun (prefill); drop one of them."
    kinds = {block.get("type") for message in _mappings(messages) for block in _blocks(message)}
    if "image" in kinds and not model.images:
        yield f"{model.model} does not read images; choose another model."
    if "document" in kinds and not model.pdfs:
        yield f"{model.model} does not read documents; choose another model."


def _begins_answer(message: Mapping[str, Any]) -> bool:
    """Tell whether a last message begins the answer; a paused turn that is handed back does not."""
    if message.get("role") != "assistant":
        return False
    blocks = _blocks(message)
    return not blocks or blocks[-1].get("type") == "text"


def _has_format(params: Mapping[str, Any]) -> bool:
    return _mapping(params.get("output_config")).get("format") is not None


def _blocks(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return _mappings(message.get("content"))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    items: Iterable[Any] = value if isinstance(value, list | tuple) else ()
    return [item for item in items if isinstance(item, Mapping)]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names))
