"""Rows -> encoded requests, block by block, with the reason for every row that is never sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from claude_batch_pandas.abilities import Abilities, shipped
from claude_batch_pandas.blocks import Loader, Media
from claude_batch_pandas.exceptions import InputError, MissingValueError
from claude_batch_pandas.outputs import Output
from claude_batch_pandas.records import RowStatus
from claude_batch_pandas.refusals import refusal
from claude_batch_pandas.rendered import Reason, Rendered
from claude_batch_pandas.requests import LINE_FRAME, Encoder, check_params
from claude_batch_pandas.sharding import ENVELOPE, MAX_BATCH_BYTES
from claude_batch_pandas.slots import MESSAGES, Column, History, UnfitError, encode_value
from claude_batch_pandas.sources import Block, Rows, Source
from claude_batch_pandas.templates import Prompt, Text, columns_of, parse_prompt, slots_in
from claude_batch_pandas.votes import replicated

BLOCK = 1024  # rows at a time; larger blocks only page-fault
MEDIA_BLOCK = 16  # rows with images or documents, of some megabytes each
COLUMN, MEDIA = "claude_batch_pandas.col", "claude_batch_pandas.media"  # in a kept recipe
ON_MISSING = ("skip", "error", "empty")
LARGEST_PARAMS = MAX_BATCH_BYTES - ENVELOPE - LINE_FRAME

Know = Callable[[str], Abilities]


class Renders(Protocol):
    """What makes the requests of one run: a `Renderer`, or one like it."""

    @property
    def source(self) -> Rows:
        """What is asked about."""

    @property
    def recipe(self) -> Recipe:
        """What is asked of every row."""

    @property
    def head(self) -> bytes:
        """What the params of every request begin with."""

    @property
    def columns(self) -> Sequence[str]:
        """What it is known to read of a row."""

    @property
    def is_constant(self) -> bool:
        """Whether every row asks the same."""

    @property
    def is_uniform(self) -> bool:
        """Whether the requests differ in texts alone."""

    @property
    def remark(self) -> str:
        """What to tell about the rows once they are rendered; often empty."""

    def holds(self, size: int) -> bool:
        """Tell whether a request of that many bytes may fit the model's window."""

    def blocks(self, size: int = BLOCK) -> Iterator[Rendered]:
        """Yield, block by block, the request of each row or the reason why there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What was asked of every row. It holds prompt text: private spool only."""

    template: Any
    params: Mapping[str, Any]  # every Messages parameter but messages and system
    system: Any = None
    betas: tuple[str, ...] = ()
    on_missing: str = "skip"
    output: Output = field(default_factory=lambda: Output("answer"))
    force: bool = False  # send what the model will refuse, too
    history: str = ""  # the run whose conversations go on
    earlier: Recipe | None = None  # of that run, where this process knows it; not kept on disk
    shared: int = 0  # bytes before the mark for the prompt cache; not kept either

    @property
    def common(self) -> Mapping[str, Any]:
        """The parameters that every request has; a function may return others for a row."""
        return {} if callable(self.template) else self.params

    def __post_init__(self) -> None:
        """Refuse what no renderer knows."""
        if self.on_missing not in ON_MISSING:
            msg = f"on_missing must be one of {', '.join(ON_MISSING)}, not {self.on_missing!r}."
            raise InputError(msg)

    def asks_like(self, other: Recipe) -> bool:
        """Tell whether another recipe makes the same requests."""
        mine, its = (
            (recipe.template, recipe.system, recipe.params, recipe.betas)
            for recipe in (self, other)
        )
        return mine == its

    def dump(self) -> bytes:
        """Return the recipe as JSON; of a template that is a function, nothing can be kept."""
        kept = {
            "template": None if callable(self.template) else self.template,
            "params": self.params,
            "system": self.system,
            "betas": self.betas,
            "on_missing": self.on_missing,
            "output": self.output.name,
            "schema": self.output.dump(),
            "force": self.force,
            "history": self.history,
        }
        return json.dumps(kept, ensure_ascii=False, default=_spell).encode()

    @classmethod
    def load(cls, data: bytes) -> Recipe:
        """Return the recipe that `dump` wrote."""
        values = json.loads(data, object_hook=_unspell)
        values["betas"] = tuple(values["betas"])
        values["output"] = Output.load(values.get("output", "answer"), values.pop("schema", None))
        return cls(**values)


def _spell(value: Any) -> dict[str, Any]:
    """Return what stands for a part of a recipe that is no JSON."""
    if isinstance(value, Column):
        return {COLUMN: value.column}
    if isinstance(value, Media):
        return {MEDIA: [value.kind, value.column, value.upload]}
    msg = f"{type(value).__name__} cannot be kept"
    raise TypeError(msg)


def _unspell(value: dict[str, Any]) -> Any:
    if COLUMN in value:
        return Column(value[COLUMN])
    if MEDIA in value:
        kind, column, upload = value[MEDIA]
        return Media(kind, column, upload=upload)
    return value


@dataclass(slots=True)
class Renderer:
    """Renders the rows of one frame by one recipe.

    Parameters
    ----------
    source : Source
    recipe : Recipe
    loader : Loader, optional
        Of images and documents.
    know : callable, optional
        Returns what a model accepts, by its name; asked where rows name theirs.
    history : History, optional
        What was said before in the conversation of each row.

    Raises
    ------
    InputError
        For whatever is wrong with the recipe or does not fit the frame.
    """

    source: Source
    recipe: Recipe
    loader: Loader = field(default_factory=lambda: Loader(shipped("").sight))
    know: Know = shipped
    history: History | None = None
    prompt: Prompt = field(init=False)
    encoder: Encoder = field(init=False)
    columns: Sequence[str] = field(init=False)  # that anything reads
    _values: list[int] = field(init=False)  # the places of what is no text
    _refusals: dict[tuple[bytes, ...], str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        recipe = self.recipe
        params = check_params(recipe.params, least=int(not recipe.force))
        self.recipe = replace(recipe, params=params)
        self.prompt = parse_prompt(recipe.template, recipe.system, self.source.names)
        if self.history is not None:
            self.prompt = self.prompt.after(self.history)
        self.encoder = Encoder(params, self.prompt, recipe.betas)
        slots = [place.slot for place in self.encoder.places]
        self.columns = columns_of(slots)
        self._values = [i for i, slot in enumerate(slots) if not isinstance(slot, Text)]
        self.source.check(self.columns)

    @property
    def head(self) -> bytes:
        """What the params of every request begin with."""
        return self.encoder.head

    @property
    def is_constant(self) -> bool:
        """Whether every row asks the same."""
        return not self.encoder.places

    @property
    def is_uniform(self) -> bool:
        """Whether the requests differ in texts alone."""
        return not self._values

    @property
    def remark(self) -> str:
        """What to tell about the rows once they are rendered; often empty."""
        count = self.loader.scaled
        if not count:
            return ""
        images = "1 image was" if count == 1 else f"{count:,} images were"
        edge = self.loader.sight.edge
        model = self.recipe.params["model"]
        return (
            f"{images} larger than {model} sees (at most {edge:,} pixels a side, and "
            f"{self.loader.sight.tokens:,} tokens), and scaled down before sending."
        )

    def blocks(self, size: int = BLOCK) -> Iterator[Rendered]:
        """Yield, block by block, the request of each row or the reason why there is none."""
        for block in self._blocks(size):
            yield replicated(block, self.recipe.output.votes)

    def _blocks(self, size: int) -> Iterator[Rendered]:
        if self.is_constant:
            yield from self._constant_blocks(size)
            return
        slots = [self.encoder.places[i].slot for i in self._values]
        if any(isinstance(slot, Media) for slot in slots):
            size = min(size, MEDIA_BLOCK)
        raw = columns_of(slots)
        for block in self.source.blocks(self.columns, size, raw=raw):
            reasons = self._gaps(block)
            values = self._encode_values(block, reasons)
            places: Sequence[int] = range(block.length)
            if reasons:
                places = [i for i in places if i not in reasons]
            encoded = self._encode(block, values, places)
            if not reasons and not encoded.reasons:
                yield encoded
            else:
                yield encoded.spread(reasons, block.length)

    def _constant_blocks(self, size: int) -> Iterator[Rendered]:
        tails, digests = self.encoder.constant()
        if len(self.encoder.head) > LARGEST_PARAMS:
            msg = (
                f"The prompt is too large: {TOO_LARGE.format(len(self.encoder.head))}. Shorten it."
            )
            raise InputError(msg)
        for start in range(0, len(self.source), size):
            length = min(size, len(self.source) - start)
            yield Rendered(tails * length, digests * length, {})

    def _gaps(self, block: Block) -> dict[int, Reason]:
        """Return why some rows are not sent: they lack what they need."""
        reasons: dict[int, Reason] = {}
        needed = set(self.columns)
        if self.recipe.on_missing == "empty":  # a text can be empty, an image cannot
            needed = set(columns_of([self.encoder.places[i].slot for i in self._values]))
        for column, gaps in block.missing.items():
            if column not in needed:
                continue
            for i, is_gap in enumerate(gaps):
                if is_gap:
                    how = self.recipe.on_missing
                    reasons.setdefault(i, missing_value(how, column, block.start + i))
        return reasons

    def _encode_values(self, block: Block, reasons: dict[int, Reason]) -> dict[int, list[bytes]]:
        """Return the JSON of what is no text, by place; rows that it does not fit get a reason."""
        if not self._values:
            return {}
        rows = {
            i: self._row_values(block, i, reasons) for i in range(block.length) if i not in reasons
        }
        kept = [found for i, found in rows.items() if i not in reasons]
        return {place: [row[k] for row in kept] for k, place in enumerate(self._values)}

    def _row_values(self, block: Block, i: int, reasons: dict[int, Reason]) -> list[bytes]:
        found: list[bytes] = []
        params: dict[str, Any] = {}
        key: list[bytes] = []
        for place in self._values:
            param, slot = self.encoder.places[place]
            assert not isinstance(slot, Text), "texts are no values"
            if isinstance(slot, History):
                said = slot.said[block.start + i]
                if isinstance(said, Reason):
                    reasons[i] = said
                    return found
                found.append(said)
                continue
            cell = block.values[slot.column or ""][i]
            try:
                if isinstance(slot, Media):
                    found.append(self.loader.block(slot, cell))
                    continue
                value, data = encode_value(self._name(param), cell)
                if isinstance(value, str) and param == MESSAGES and not value.strip():
                    reasons[i] = EMPTY
                    return found
            except UnfitError as error:
                why = f"column {slot.column!r}: {str(error).removesuffix('.')}"
                reasons[i] = Reason(RowStatus.INVALID, why + AT.format(block.start + i))
                return found
            found.append(data)
            params[slot.column or ""] = value
            key += (data,)
        if params and not self.recipe.force:
            self._check_row(params, tuple(key), i, block.start + i, reasons)
        return found

    def _name(self, param: str) -> str:
        """Return what a column is checked as: all messages, or the content of one."""
        is_content = param == MESSAGES and not isinstance(self.prompt.messages, Column)
        return "content" if is_content else param

    def _check_row(
        self,
        values: Mapping[str, Any],
        key: tuple[bytes, ...],
        i: int,
        position: int,
        reasons: dict[int, Reason],
    ) -> None:
        """Give a row that its model will refuse its reason."""
        recipe = self.recipe
        why = self._refusals.get(key)
        if why is None:
            whole = {**recipe.params, MESSAGES: self.prompt.messages}
            params = _filled(whole, values)
            why = refusal(params, self.know(str(params["model"])), recipe.betas)
            texts = [self.prompt.messages, self.prompt.system]
            if not any(isinstance(slot, Column) for slot in slots_in(texts)):
                self._refusals[key] = why  # of whole conversations, there are too many
        if why:
            reasons[i] = Reason(RowStatus.INVALID, why + AT.format(position))

    def _encode(
        self, block: Block, values: Mapping[int, list[bytes]], rows: Sequence[int]
    ) -> Rendered:
        """Encode rows that have all they need; some may still be empty, too large or not UTF-8."""
        positions: Sequence[int] = range(block.start, block.start + block.length)
        cells: Mapping[str, Sequence[Any]] = block.values
        missing: Mapping[str, Sequence[bool]] = block.missing
        if len(rows) < block.length:
            positions = [block.start + i for i in rows]
            cells = {name: [column[i] for i in rows] for name, column in cells.items()}
            missing = {name: [gaps[i] for i in rows] for name, gaps in missing.items()}
        parts: list[Sequence[Any]] = []
        texts: list[list[str]] = []
        for i, place in enumerate(self.encoder.places):
            if not isinstance(place.slot, Text):
                parts.append(values[i])
            elif self.recipe.on_missing == "empty" and missing:
                texts.append(place.slot.render_with_gaps(cells, missing, positions))
                parts.append(texts[-1])
            else:
                texts.append(place.slot.render(cells, positions))
                parts.append(texts[-1])
        tails, digests = self.encoder.encode(parts)
        return Rendered(tails, digests, self._faults(tails, texts, positions))

    def _faults(
        self,
        tails: Sequence[bytes | None],
        texts: Sequence[Sequence[str]],
        positions: Sequence[int],
    ) -> dict[int, Reason]:
        """Return why some encoded rows are not sent all the same."""
        largest = LARGEST_PARAMS - len(self.encoder.head)
        longest = self._window() * LOOSE - len(self.encoder.head)
        reasons: dict[int, Reason] = {}
        for column in texts:
            if "" in column or any(map(str.isspace, column)):
                reasons.update((i, EMPTY) for i, text in enumerate(column) if not text.strip())
        most = max(map(len, filter(None, tails)), default=0)
        if None in tails or most > min(largest, longest):
            for i, tail in enumerate(tails):
                if tail is None:
                    why = NOT_UTF8.format(positions[i])
                    reasons.setdefault(i, Reason(RowStatus.INVALID, why))
                elif len(tail) > largest:
                    reasons[i] = too_large(len(tail) + len(self.head), positions[i])
                elif len(tail) > longest:
                    size = len(tail) + len(self.head)
                    why = TOO_LONG.format(size, self.recipe.params["model"], self._window())
                    reasons[i] = Reason(RowStatus.INVALID, why + AT.format(positions[i]))
        return reasons

    def holds(self, size: int) -> bool:
        """Tell whether a request of that many bytes may fit into what the model reads."""
        return size <= self._window() * LOOSE

    def _window(self) -> int:
        """Return the tokens that the model reads, where that is known and texts alone count."""
        model = self.recipe.params["model"]
        has_files = any(isinstance(place.slot, Media) for place in self.encoder.places)
        if self.recipe.force or has_files or not isinstance(model, str):
            return ENDLESS
        return self.know(model).max_input_tokens or ENDLESS


def _filled(part: Any, values: Mapping[str, Any]) -> Any:
    """Return a part of a request with the values of one row in place of their columns."""
    if isinstance(part, Column):
        return values[part.column]
    if isinstance(part, Mapping):
        return {name: _filled(value, values) for name, value in part.items()}
    if isinstance(part, list | tuple):
        return [_filled(value, values) for value in part]
    return part


def missing_value(on_missing: str, column: str, position: int) -> Reason:
    """Return why a row that lacks a value is not sent.

    Raises
    ------
    MissingValueError
        When `on_missing` is ``"error"``.
    """
    if on_missing == "error":
        msg = (
            f"Column {column!r} is missing a value at position {position}. "
            'Fill it, drop the row, or pass on_missing="skip" or "empty".'
        )
        raise MissingValueError(msg)
    return Reason(RowStatus.SKIPPED, f"column {column!r} is missing a value")


def too_large(size: int, position: int) -> Reason:
    """Return why a row whose request has that many bytes is not sent."""
    return Reason(RowStatus.INVALID, TOO_LARGE.format(size) + AT.format(position))


EMPTY = Reason(RowStatus.SKIPPED, "the rendered text is empty")
AT = " (the row at position {})"
LOOSE = 8  # bytes of text that a token never holds on average
ENDLESS = 2**40
TOO_LONG = "the request has {:,} bytes, more than {} can read ({:,} tokens)"
NOT_UTF8 = "the text holds a lone surrogate, which UTF-8 cannot encode" + AT
TOO_LARGE = f"the request has {{:,}} bytes; a batch holds at most {MAX_BATCH_BYTES:,}"
