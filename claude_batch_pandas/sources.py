"""What is asked about, as the engine reads it: rows, by column and block."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Protocol


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


class Rows(Protocol):
    """What is asked about."""

    @property
    def names(self) -> list[str]:
        """What a template may name."""

    def __len__(self) -> int:
        """Return the number of rows."""


class Source(Rows, Protocol):
    """A frame of any kind, as the engine reads it: by column and block."""

    @property
    def ambiguous(self) -> frozenset[str]:
        """Names that several columns have."""

    def check(self, columns: Sequence[str]) -> None:
        """Refuse columns that are missing or stand twice."""

    def blocks(
        self, columns: Sequence[str], size: int, *, raw: Collection[str] = ()
    ) -> Iterator[Block]:
        """Yield the rows in order, `size` at a time."""
