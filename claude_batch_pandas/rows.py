"""A row, as a template function is handed it: a mapping of what the row has, and read-only.

A missing cell is not there: ``row["x"]`` and ``row.x`` end the call, and the row goes the way of
every row whose input is missing; ``row.get("x", "none")`` and ``"x" in row`` ask first. So no
missing value becomes text by accident. Pure.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from claude_batch_pandas.exceptions import InputError, MissingColumnError
from claude_batch_pandas.templates import missing_columns


class MissingCellError(KeyError, AttributeError):
    """A function asked for a cell that is missing; caught by whoever called the function.

    To the function the cell is simply not there, so ``getattr(row, "x", "none")`` works too.
    """

    __str__ = Exception.__str__

    def __init__(self, column: str) -> None:
        super().__init__(f"column {column!r} is missing a value")
        self.column = column


class Row(Mapping[str, Any]):
    """One row of a frame.

    Parameters
    ----------
    names : sequence of str
        Of all columns; an integer name is its digits.
    cells : mapping of str to object
        The cells that are not missing.
    ambiguous : frozenset of str
        Names of several columns, which cannot be read.
    """

    __slots__ = ("_ambiguous", "_cells", "_names")

    def __init__(
        self,
        names: Sequence[str],
        cells: Mapping[str, Any],
        ambiguous: frozenset[str] = frozenset(),
    ) -> None:
        object.__setattr__(self, "_names", names)
        object.__setattr__(self, "_cells", cells)
        object.__setattr__(self, "_ambiguous", ambiguous)

    def __getitem__(self, name: Any) -> Any:
        key = name if isinstance(name, str) else str(name)
        if key in self._cells:
            return self._cells[key]
        if key in self._ambiguous:
            msg = f"The DataFrame has several columns named {key!r}; rename them."
            raise InputError(msg)
        if key in self._names:
            raise MissingCellError(key)
        raise missing_columns([key], self._names)

    def __contains__(self, name: Any) -> bool:
        return (name if isinstance(name, str) else str(name)) in self._cells

    def get(self, name: Any, default: Any = None) -> Any:
        """Return a cell, or the default where it is missing.

        Raises
        ------
        MissingColumnError
            When there is no such column; that is no missing value.
        """
        try:
            return self[name]
        except MissingCellError:
            return default

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except MissingColumnError as error:
            near = difflib.get_close_matches(name, self._names, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            msg = f"The row has no column {name!r}.{hint}"
            raise AttributeError(msg) from error

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        msg = f"A row is read-only, so {name!r} cannot be set; return what shall be sent."
        raise InputError(msg)

    def __reduce__(self) -> tuple[type[Row], tuple[Any, ...]]:
        return Row, (self._names, self._cells, self._ambiguous)

    def __iter__(self) -> Iterator[str]:
        return iter(self._cells)

    def __len__(self) -> int:
        return len(self._cells)

    def __repr__(self) -> str:
        return f"<Row of {', '.join(map(repr, self._names))}>"  # never what it holds
