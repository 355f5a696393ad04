"""A function as the template: one row in, a prompt out.

It returns text, a list of messages, or a dict of Messages parameters; None when there is nothing to
ask. It is called once per row. What it returns is final: braces in it are braces.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from claude_batch_pandas.abilities import shipped
from claude_batch_pandas.blocks import Loader, Media
from claude_batch_pandas.exceptions import BatchError, InputError, TemplateError
from claude_batch_pandas.records import RowStatus
from claude_batch_pandas.refusals import refusal
from claude_batch_pandas.rendered import Reason, Rendered
from claude_batch_pandas.rendering import (
    AT,
    BLOCK,
    EMPTY,
    LARGEST_PARAMS,
    NOT_UTF8,
    Know,
    Recipe,
    Renderer,
    missing_value,
    too_large,
)
from claude_batch_pandas.requests import WholeEncoder, check_params
from claude_batch_pandas.rows import MissingCellError, Row
from claude_batch_pandas.slots import History, UnfitError, check_messages, texts_of
from claude_batch_pandas.sources import Block, Source
from claude_batch_pandas.templates import as_messages, parse_prompt, slots_in
from claude_batch_pandas.tracebacks import warn
from claude_batch_pandas.votes import replicated

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
    is_uniform: bool = field(init=False, default=False)
    columns: Sequence[str] = ()  # what a function reads is not known before it is called
    know: Know = shipped
    history: History | None = None
    loader: Loader = field(default_factory=lambda: Loader(shipped("").sight))
    _encoder: WholeEncoder = field(init=False)
    _constant: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        recipe = self.recipe
        params = check_params(recipe.params, least=int(not recipe.force))
        if next(slots_in(params), None) is not None:
            msg = (
                "A parameter is a column (col), but template= is a function. Return it from the "
                'function: {"messages": ..., "max_tokens": ...}.'
            )
            raise TemplateError(msg)
        self.recipe = replace(recipe, params=params)
        hidden = sorted({"get", "items", "keys", "values"} & set(self.source.names))
        if hidden:
            warn(
                f"The columns {hidden} are called like methods of a row: in the template function, "
                f"read them as row[{hidden[0]!r}], not as row.{hidden[0]}.",
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

    def holds(self, size: int) -> bool:  # noqa: ARG002 - the other kind asks
        """Tell whether a request may fit the model's window: nobody knows, for a function."""
        return True

    @property
    def remark(self) -> str:
        """What to tell about the rows once they are rendered: nothing."""
        return ""

    def blocks(self, size: int = BLOCK) -> Iterator[Rendered]:
        """Yield, block by block, the request of each row or the reason why there is none."""
        names = [name for name in self.source.names if name not in self.source.ambiguous]
        for block in self.source.blocks(names, size, raw=names):
            yield replicated(self._render(block), self.recipe.output.votes)

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
        said = None if self.history is None else self.history.said[position]
        return said if isinstance(said, Reason) else self._encoded(asked, said, position)

    def _encoded(self, asked: Any, said: bytes | None, position: int) -> bytes | Reason:
        """Return the bytes of what the function asks, or why it is not sent."""
        try:
            params = self._params(asked, said)
            why = self._refusal(params, position)
            data = b"" if why else self._encoder.encode(params)
        except UnicodeEncodeError:
            return Reason(RowStatus.INVALID, NOT_UTF8.format(position))
        except UnfitError as error:
            why = str(error).removesuffix(".") + AT.format(position)
            return Reason(RowStatus.INVALID, why)
        except InputError as error:
            msg = (
                f"What the template function returned at position {position} is no prompt: {error}"
            )
            raise TemplateError(msg) from None
        if why:
            return Reason(RowStatus.INVALID, why)
        if any(not text.strip() for text in texts_of(params["messages"])):
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

    def _refusal(self, params: Mapping[str, Any], position: int) -> str:
        """Return why the row's model will refuse what the function asks; often empty."""
        if self.recipe.force:
            return ""
        why = refusal(params, self.know(str(params["model"])), self.recipe.betas)
        return why + AT.format(position) if why else ""

    def _params(self, asked: Any, said: bytes | None = None) -> dict[str, Any]:
        """Return the whole params of a request."""
        if isinstance(asked, str):
            own: Mapping[str, Any] = {"messages": [{"role": "user", "content": asked}]}
        elif isinstance(asked, list | tuple):
            own = {"messages": as_messages(asked)}
        elif isinstance(asked, Mapping):
            own = asked
        else:
            msg = (
                f"a {type(asked).__name__}. Return text, a list of messages, a dict of Messages "
                "parameters, or None for nothing to ask."
            )
            raise InputError(msg)
        if isinstance(own.get("messages"), list | tuple):
            own = {**own, "messages": self._with_files(own["messages"])}
        check_messages(own.get("messages"))
        if not own.keys() <= {"messages", "system"}:
            _check_own(own)
        if said is not None:
            own = {**own, "messages": [*json.loads(b"[%b]" % said), *own["messages"]]}
        whole = {**self._constant, **own}
        if whole.get("system", "") is None:  # as a function says that this row has none
            del whole["system"]
        return whole

    def _with_files(self, part: Any) -> Any:
        """Return messages with their images and documents; here, a name is a path."""
        if isinstance(part, Media):
            cell = part.shared if part.column is None else part.column
            return json.loads(self.loader.block(part, cell))
        if isinstance(part, Mapping):
            return {name: self._with_files(value) for name, value in part.items()}
        if isinstance(part, list | tuple):
            return [self._with_files(value) for value in part]
        return part


def renderer_for(
    source: Source,
    recipe: Recipe,
    loader: Loader | None = None,
    know: Know = shipped,
    history: History | None = None,
) -> Renderer | FunctionRenderer:
    """Return what renders the rows of a source by a recipe.

    Parameters
    ----------
    source : Source
    recipe : Recipe
    loader, know, history
        As of a `Renderer`.

    Raises
    ------
    InputError
    """
    chosen = Loader(shipped("").sight) if loader is None else loader
    if callable(recipe.template):
        return FunctionRenderer(source, recipe, (), know, history, chosen)
    return Renderer(source, recipe, chosen, know, history)


def _check_own(own: Mapping[str, Any]) -> None:
    """Refuse parameters that a row cannot have."""
    if "betas" in own:
        msg = "it has betas, which are a header of the whole batch; pass params={'betas': [...]}."
        raise InputError(msg)
    if own.get("stream"):
        msg = "it asks for a stream, which a batch has not; leave stream out."
        raise InputError(msg)
    check_params({"max_tokens": 1, "model": "-", **own})
