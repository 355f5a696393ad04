"""How a typed answer is asked for: by a JSON schema, a tool, or in words, as the model can. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from claude_batch_pandas.abilities import Abilities
from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.outputs import ANSWER_TOOL, Output

WORDS = "Answer with one JSON object and nothing else, by this JSON schema:\n{schema}"
USE = "Give the answer."


def ask_for(
    output: Output, params: Mapping[str, Any], system: Any, model: Abilities
) -> tuple[dict[str, Any], Any]:
    """Return params and system prompt that ask for what a schema says.

    Parameters
    ----------
    output : Output
    params : mapping
    system : str, list of dict or None
        A template.
    model : Abilities

    Raises
    ------
    InputError
        When there are two schemas.
    """
    if output.schema is None:
        return dict(params), system
    config = params.get("output_config", {})
    if not isinstance(config, Mapping) or config.get("format") is not None:
        msg = "params has an output_config with a format, and there is schema=; give one of them."
        raise InputError(msg)
    schema = output.schema.asked()
    if model.structured:
        form = {"type": "json_schema", "schema": schema}
        return {**params, "output_config": {**config, "format": form}}, system
    if model.forced_tools and "tools" not in params and _thinks_not(params):
        tool = {"name": ANSWER_TOOL, "description": USE, "input_schema": schema}
        choice = {"type": "tool", "name": ANSWER_TOOL}
        return {**params, "tools": [tool], "tool_choice": choice}, system
    words = WORDS.format(schema=json.dumps(schema, ensure_ascii=False))
    return dict(params), _with_words(system, words.replace("{", "{{").replace("}", "}}"))


def _thinks_not(params: Mapping[str, Any]) -> bool:
    """Tell whether a tool can be forced: a model that thinks chooses by itself."""
    thinking = params.get("thinking")
    return thinking is None or (
        isinstance(thinking, Mapping) and thinking.get("type") == "disabled"
    )


def _with_words(system: Any, words: str) -> Any:
    if system is None:
        return words
    if isinstance(system, str):
        return f"{system}\n\n{words}"
    return [*system, {"type": "text", "text": words}]
