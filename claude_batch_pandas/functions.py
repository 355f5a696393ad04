"""A function as the template: one row in, a prompt out.

It returns text, a list of messages, or a dict of Messages parameters; None when there is nothing to
ask. It is called once per row. What it returns is final: braces in it are braces.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from claude_batch_pandas.exceptions import BatchError, InputError, TemplateError
from claude_batch_pandas.records import RowStatus
from claude_batch_pandas.rendering import (
    BLOCK,
    EMPTY,
    LARGEST_PARAMS,
    NOT_UTF8,
    Block,
    Reason,
    Recipe,
    Rendered,
    Renderer,
    Source,
    missing_value,
    too_large,
)
from claude_batch_pandas.requests import WholeEncoder, check_params
from claude_batch_pandas.rows import MissingCellError, Row
from claude_batch_pandas.templates import ROLES, parse_prompt

NOTHING = Reason(RowStatus.SKIPPED, "the template function returned None")


@dataclass(slots=True)
class FunctionRenderer:
    """Asks a function for the prompt of every row of one frame; use its blocks once.

    Raises
    ------
    InputError
        For whatever is wrong with the recipe.
    """

    source: Source
    recipe: Recipe
    head: bytes = field(init=False, default=b"")
    is_constant: bool = field(init=False, default=False)
    columns: Sequence[str] = ()  # what a function reads is not known before it is called
    _encoder: WholeEncoder = field(init=False)
    _constant: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        recipe = self.recipe
        params = check_params(recipe.params)
        self.recipe = replace(recipe, params=params)
        hidden = sorted({"get", "items", "keys", "values"} & set(self.source.names))
        if hidden:
            warnings.warn(
                f"The columns {hidden} are called like methods of a row: in the template function, "
                f"read them as row[{hidden[0]!r}], not as row.{hidden[0]}.",
                UserWarning,
                stacklevel=6,
            )
        self._encoder = WholeEncoder(recipe.betas)
        self._constant = dict(params)
        if recipe.system is not None:
            prompt = parse_prompt("-", recipe.system, self.source.names)  # for its system alone
            if prompt.columns:
                msg = (
                    f"system= uses the columns {prompt.columns}, but template= is a function. "
                    'Return {"system": ..., "messages": [...]} from the function instead.'
                )
                raise TemplateError(msg)
            self._constant["system"] = prompt.system

    def blocks(self, size: int = BLOCK) -> Iterator[Rendered]:
        """Yield, block by block, the request of each row or the reason why there is none."""
        names = [name for name in self.source.names if name not in self.source.ambiguous]
        for block in self.source.blocks(names, size, refuse_bytes=False):
            yield self._render(block)

    def _render(self, block: Block) -> Rendered:
        tails: list[bytes | None] = []
        reasons: dict[int, Reason] = {}
        for i in range(block.length):
            found = self._request(block, i)
            tails.append(found if isinstance(found, bytes) else None)
            if isinstance(found, Reason):
                reasons[i] = found
        return Rendered(tails, self._encoder.digests(tails), reasons)

    def _request(self, block: Block, i: int) -> bytes | Reason:
        """Return the bytes of one row's params, or why it has none."""
        position = block.start + i
        try:
            asked = self._call(self._row(block, i), position)
        except MissingCellError as gap:
            return missing_value(self.recipe.on_missing, gap.column, position)
        if asked is None:
            return NOTHING
        try:
            params = self._params(asked)
            data = self._encoder.encode(params)
        except UnicodeEncodeError:
            return Reason(RowStatus.INVALID, NOT_UTF8.format(position))
        except InputError as error:
            msg = (
                f"What the template function returned at position {position} is no prompt: {error}"
            )
            raise TemplateError(msg) from None
        if any(not text.strip() for text in _texts(params["messages"])):
            return EMPTY
        return too_large(len(data), position) if len(data) > LARGEST_PARAMS else data

    def _row(self, block: Block, i: int) -> Row:
        is_filled = self.recipe.on_missing == "empty"
        cells: dict[str, Any] = {}
        for name, column in block.values.items():
            gaps = block.missing.get(name)
            if gaps is None or not gaps[i]:
                cell = column[i]
                # Lists, dicts and arrays: what a function does to one stays out of the frame.
                cells[name] = copy.deepcopy(cell) if hasattr(cell, "copy") else cell
            elif is_filled:
                cells[name] = ""
        return Row(self.source.names, cells, self.source.ambiguous)

    def _call(self, row: Row, position: int) -> Any:
        try:
            return self.recipe.template(row)
        except MissingCellError:
            raise
        except BatchError as error:
            msg = f"The template function failed at position {position}: {error}"
            raise TemplateError(msg) from error
        except Exception as error:  # whatever it raises is told with the row it raised it for
            msg = (
                f"The template function raised {type(error).__name__} for the row at position "
                f"{position}; nothing was sent. Mend the function, or leave that row out."
            )
            raise TemplateError(msg) from error

    def _params(self, asked: Any) -> dict[str, Any]:
        """Return the whole params of a request."""
        if isinstance(asked, str):
            own: Mapping[str, Any] = {"messages": [{"role": "user", "content": asked}]}
        elif isinstance(asked, list | tuple):
            own = {"messages": asked}
        elif isinstance(asked, Mapping):
            own = asked
        else:
            msg = (
                f"a {type(asked).__name__}. Return text, a list of messages, a dict of Messages "
                "parameters, or None for nothing to ask."
            )
            raise InputError(msg)
        _check_messages(own.get("messages"))
        if not own.keys() <= {"messages", "system"}:
            _check_own(own)
        whole = {**self._constant, **own}
        if whole.get("system", "") is None:  # as a function says that this row has none
            del whole["system"]
        return whole


def renderer_for(source: Source, recipe: Recipe) -> Renderer | FunctionRenderer:
    """Return what renders the rows of a source by a recipe.

    Raises
    ------
    InputError
    """
    kind = FunctionRenderer if callable(recipe.template) else Renderer
    return kind(source, recipe)


def _check_own(own: Mapping[str, Any]) -> None:
    """Refuse parameters that a row cannot have."""
    if "betas" in own:
        msg = "it has betas, which are a header of the whole batch; pass params={'betas': [...]}."
        raise InputError(msg)
    if own.get("stream"):
        msg = "it asks for a stream, which a batch has not; leave stream out."
        raise InputError(msg)
    check_params({"max_tokens": 1, "model": "-", **own})


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list | tuple) or not messages:
        msg = "it has no messages. Return at least one."
        raise InputError(msg)
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping) or not {"role", "content"} <= message.keys():
            msg = f'message {i} is not {{"role": ..., "content": ...}}.'
            raise InputError(msg)
        if not isinstance(message["role"], str) or message["role"] not in ROLES:
            msg = f"message {i} has the role {message['role']!r}; use 'user' or 'assistant'."
            raise InputError(msg)
        content = message["content"]
        is_blocks = isinstance(content, list | tuple) and len(content) > 0
        if not isinstance(content, str) and not is_blocks:
            msg = f"the content of message {i} is neither text nor a list of blocks."
            raise InputError(msg)


def _texts(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for message in messages:
        content = message["content"]
        if isinstance(content, str):
            yield content
            continue
        for block in content:
            if isinstance(block, Mapping) and isinstance(block.get("text"), str):
                yield block["text"]
