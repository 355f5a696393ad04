"""Rows -> encoded requests, block by block, with the reason for every row that is never sent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Protocol

from claude_batch_pandas.exceptions import InputError, MissingValueError
from claude_batch_pandas.records import RowStatus
from claude_batch_pandas.requests import ID_HEAD, ID_TAIL, Encoded, Encoder, check_params
from claude_batch_pandas.sharding import ENVELOPE, MAX_BATCH_BYTES
from claude_batch_pandas.templates import Prompt, Text, parse_prompt

BLOCK = 1024  # rows at a time; larger blocks only page-fault
ON_MISSING = ("skip", "error", "empty")
ID_SIZE = 45  # bytes of a custom_id


class Reason(NamedTuple):
    """Why a row is never sent."""

    status: RowStatus
    why: str


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

    def __len__(self) -> int:
        """Return the number of rows."""

    def check(self, columns: Sequence[str]) -> None:
        """Refuse columns that are missing or stand twice."""

    def blocks(self, columns: Sequence[str], size: int) -> Iterator[Block]:
        """Yield the rows in order, `size` at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What was asked of every row. It holds prompt text: private spool only."""

    template: Any
    params: Mapping[str, Any]  # every Messages parameter but messages and system
    system: Any = None
    betas: tuple[str, ...] = ()
    on_missing: str = "skip"

    def dump(self) -> bytes:
        """Return the recipe as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False).encode()

    @classmethod
    def load(cls, data: bytes) -> Recipe:
        """Return the recipe that `dump` wrote."""
        values = json.loads(data)
        values["betas"] = tuple(values["betas"])
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
        if recipe.on_missing not in ON_MISSING:
            msg = f"on_missing must be one of {', '.join(ON_MISSING)}, not {recipe.on_missing!r}."
            raise InputError(msg)
        params = check_params(recipe.params)
        self.prompt = parse_prompt(recipe.template, recipe.system, self.source.names)
        self.source.check(self.prompt.columns)
        self.encoder = Encoder(params, self.prompt, recipe.betas)

    def blocks(self) -> Iterator[list[Encoded | Reason]]:
        """Yield, block by block, the request of each row or the reason why there is none."""
        texts = self.prompt.texts
        if not texts:
            yield from self._constant_blocks()
            return
        largest = MAX_BATCH_BYTES - ENVELOPE - len(self.encoder.head) - ID_SIZE
        largest -= len(ID_HEAD) + len(ID_TAIL) + 1
        for block in self.source.blocks(self.prompt.columns, BLOCK):
            rendered, reasons = self._render(texts, block)
            yield list(self._encode(rendered, reasons, largest))

    def _constant_blocks(self) -> Iterator[list[Encoded | Reason]]:
        request = self.encoder.constant()
        for start in range(0, len(self.source), BLOCK):
            yield [request] * min(BLOCK, len(self.source) - start)

    def _render(
        self, texts: Sequence[Text], block: Block
    ) -> tuple[list[list[str]], list[Reason | None]]:
        """Return the texts of the rows that have all they need, and the reasons of the others."""
        start, missing = block.start, block.missing
        reasons: list[Reason | None] = [None] * block.length
        present: Sequence[int] = range(start, start + block.length)
        if missing and self.recipe.on_missing == "empty":
            filled = [text.render_with_gaps(block.values, missing, present) for text in texts]
            return filled, reasons
        values = block.values
        if missing:
            for column, gaps in missing.items():
                for i, is_gap in enumerate(gaps):
                    if is_gap:
                        reasons[i] = self._gap(column, start + i)
            present = [start + i for i, reason in enumerate(reasons) if reason is None]
            values = {
                name: [cell for cell, reason in zip(cells, reasons, strict=True) if reason is None]
                for name, cells in values.items()
            }
        return [text.render(values, present) for text in texts], reasons

    def _gap(self, column: str, position: int) -> Reason:
        if self.recipe.on_missing == "error":
            msg = (
                f"Column {column!r} is missing a value at position {position}. "
                'Fill it, drop the row, or pass on_missing="skip" or "empty".'
            )
            raise MissingValueError(msg)
        return Reason(RowStatus.SKIPPED, f"column {column!r} is missing a value")

    def _encode(
        self, rendered: list[list[str]], reasons: list[Reason | None], largest: int
    ) -> Iterator[Encoded | Reason]:
        blanks = [
            any(not text or text.isspace() for text in row) for row in zip(*rendered, strict=True)
        ]
        requests = iter(zip(blanks, self.encoder.encode(rendered), strict=True))
        for reason in reasons:
            if reason is not None:
                yield reason
                continue
            is_blank, request = next(requests)
            if is_blank:
                yield EMPTY
            elif request is None:
                yield NOT_UTF8
            elif len(request.tail) > largest:
                size = len(request.tail) + len(self.encoder.head)
                yield Reason(
                    RowStatus.INVALID,
                    f"the request has {size:,} bytes; a batch holds at most {MAX_BATCH_BYTES:,}",
                )
            else:
                yield request


EMPTY = Reason(RowStatus.SKIPPED, "the rendered text is empty")
NOT_UTF8 = Reason(RowStatus.INVALID, "the text holds a lone surrogate, which UTF-8 cannot encode")
