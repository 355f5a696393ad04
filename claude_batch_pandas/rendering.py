"""Rows -> encoded requests, block by block, with the reason for every row that is never sent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from claude_batch_pandas.exceptions import InputError, MissingValueError
from claude_batch_pandas.outputs import Output
from claude_batch_pandas.records import RowStatus
from claude_batch_pandas.requests import ID_HEAD, ID_TAIL, Encoder, check_params
from claude_batch_pandas.sharding import ENVELOPE, MAX_BATCH_BYTES
from claude_batch_pandas.templates import Prompt, Text, parse_prompt

BLOCK = 1024  # rows at a time; larger blocks only page-fault
ON_MISSING = ("skip", "error", "empty")
ID_SIZE = 45  # bytes of a custom_id
LARGEST_PARAMS = MAX_BATCH_BYTES - ENVELOPE - len(ID_HEAD) - ID_SIZE - len(ID_TAIL) - 1


class Reason(NamedTuple):
    """Why a row is never sent."""

    status: RowStatus
    why: str


class Rendered(NamedTuple):
    """The requests of consecutive rows; a row without one has a reason."""

    tails: Sequence[bytes | None]
    digests: Sequence[bytes | None]
    reasons: Mapping[int, Reason]  # by offset in the block

    def __len__(self) -> int:
        return len(self.tails)


class Block(Protocol):
    """Consecutive rows of some columns, as plain values."""

    @property
    def start(self) -> int:
        """Position of the first row."""

    @property
    def length(self) -> int:
        """Number of rows."""

    @property
    def values(self) -> dict[str, list[Any]]:
        """Cells by column."""

    @property
    def missing(self) -> dict[str, list[bool]]:
        """Which cells are missing, for columns that have gaps here."""


class Source(Protocol):
    """A frame of any kind, as the engine reads it: by column and block."""

    @property
    def names(self) -> list[str]:
        """What a template may name."""

    @property
    def ambiguous(self) -> frozenset[str]:
        """Names that several columns have."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def check(self, columns: Sequence[str]) -> None:
        """Refuse columns that are missing or stand twice."""

    def blocks(
        self, columns: Sequence[str], size: int, *, refuse_bytes: bool = True
    ) -> Iterator[Block]:
        """Yield the rows in order, `size` at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What was asked of every row. It holds prompt text: private spool only."""

    template: Any
    params: Mapping[str, Any]  # every Messages parameter but messages and system
    system: Any = None
    betas: tuple[str, ...] = ()
    on_missing: str = "skip"
    output: Output = field(default_factory=lambda: Output("answer"))

    def __post_init__(self) -> None:
        """Refuse what no renderer knows."""
        if self.on_missing not in ON_MISSING:
            msg = f"on_missing must be one of {', '.join(ON_MISSING)}, not {self.on_missing!r}."
            raise InputError(msg)

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
        }
        return json.dumps(kept, ensure_ascii=False).encode()

    @classmethod
    def load(cls, data: bytes) -> Recipe:
        """Return the recipe that `dump` wrote."""
        values = json.loads(data)
        values["betas"] = tuple(values["betas"])
        values["output"] = Output.load(values.get("output", "answer"), values.pop("schema", None))
        return cls(**values)


@dataclass(slots=True)
class Renderer:
    """Renders the rows of one frame by one recipe.

    Raises
    ------
    InputError
        For whatever is wrong with the recipe or does not fit the frame.
    """

    source: Source
    recipe: Recipe
    prompt: Prompt = field(init=False)
    encoder: Encoder = field(init=False)

    def __post_init__(self) -> None:
        recipe = self.recipe
        params = check_params(recipe.params)
        self.recipe = replace(recipe, params=params)
        self.prompt = parse_prompt(recipe.template, recipe.system, self.source.names)
        self.source.check(self.prompt.columns)
        self.encoder = Encoder(params, self.prompt, recipe.betas)

    @property
    def head(self) -> bytes:
        """What the params of every request begin with."""
        return self.encoder.head

    @property
    def columns(self) -> Sequence[str]:
        """The columns that the template reads."""
        return self.prompt.columns

    @property
    def is_constant(self) -> bool:
        """Whether every row asks the same."""
        return not self.prompt.texts

    def blocks(self, size: int = BLOCK) -> Iterator[Rendered]:
        """Yield, block by block, the request of each row or the reason why there is none."""
        texts = self.prompt.texts
        if not texts:
            yield from self._constant_blocks(size)
            return
        for block in self.source.blocks(self.prompt.columns, size):
            columns, reasons, positions = self._render(texts, block)
            encoded = self._encode(columns, positions)
            if not reasons and not encoded.reasons:
                yield encoded
            else:
                yield _spread(encoded, reasons, block.length)

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

    def _render(
        self, texts: Sequence[Text], block: Block
    ) -> tuple[list[list[str]], dict[int, Reason], Sequence[int]]:
        """Return the texts and positions of rows that have all they need, and why others do not."""
        missing = block.missing
        positions: Sequence[int] = range(block.start, block.start + block.length)
        if not missing:
            return [text.render(block.values, positions) for text in texts], {}, positions
        if self.recipe.on_missing == "empty":
            filled = [text.render_with_gaps(block.values, missing, positions) for text in texts]
            return filled, {}, positions
        reasons: dict[int, Reason] = {}
        for column, gaps in missing.items():
            for i, is_gap in enumerate(gaps):
                if is_gap:
                    reason = missing_value(self.recipe.on_missing, column, block.start + i)
                    reasons.setdefault(i, reason)
        positions = [block.start + i for i in range(block.length) if i not in reasons]
        values = {
            name: [cell for i, cell in enumerate(cells) if i not in reasons]
            for name, cells in block.values.items()
        }
        return [text.render(values, positions) for text in texts], reasons, positions

    def _encode(self, columns: Sequence[Sequence[str]], positions: Sequence[int]) -> Rendered:
        """Encode rows that have all they need; some may still be empty, too large or not UTF-8."""
        tails, digests = self.encoder.encode(columns)
        largest = LARGEST_PARAMS - len(self.encoder.head)
        reasons: dict[int, Reason] = {}
        for column in columns:
            if "" in column or any(map(str.isspace, column)):
                reasons.update((i, EMPTY) for i, text in enumerate(column) if not text.strip())
        if None in tails or max(map(len, filter(None, tails)), default=0) > largest:
            for i, tail in enumerate(tails):
                if tail is None:
                    why = NOT_UTF8.format(positions[i])
                    reasons.setdefault(i, Reason(RowStatus.INVALID, why))
                elif len(tail) > largest:
                    reasons[i] = too_large(len(tail) + len(self.head), positions[i])
        return Rendered(tails, digests, reasons)


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


def _spread(encoded: Rendered, reasons: Mapping[int, Reason], length: int) -> Rendered:
    """Put encoded rows back where they stand among those that were left out before."""
    places = [i for i in range(length) if i not in reasons]
    tails: list[bytes | None] = [None] * length
    digests: list[bytes | None] = [None] * length
    whole = dict(reasons)
    for k, i in enumerate(places):
        if k in encoded.reasons:
            whole[i] = encoded.reasons[k]
        else:
            tails[i], digests[i] = encoded.tails[k], encoded.digests[k]
    return Rendered(tails, digests, whole)


EMPTY = Reason(RowStatus.SKIPPED, "the rendered text is empty")
AT = " (the row at position {})"
NOT_UTF8 = "the text holds a lone surrogate, which UTF-8 cannot encode" + AT
TOO_LARGE = f"the request has {{:,}} bytes; a batch holds at most {MAX_BATCH_BYTES:,}"
