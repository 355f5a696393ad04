"""A row in a function's hand: what it has, and nothing that is missing."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from claude_batch_pandas.exceptions import InputError, MissingColumnError
from claude_batch_pandas.rows import MissingCellError, Row

NAMES = ["text", "Order ID", "items", "0", "gap"]
CELLS: dict[str, Any] = {"text": "hi", "Order ID": 7, "items": [1], "0": "zero"}


@pytest.fixture
def row() -> Row:
    """Return a row whose last cell is missing."""
    return Row(NAMES, CELLS)


def test_cells_are_found_by_name_attribute_and_integer(row: Row) -> None:
    """An integer column is named by itself or by its digits; a method's name wants brackets."""
    assert (row["text"], row.text, row["Order ID"], row[0], row["0"]) == (
        "hi",
        "hi",
        7,
        "zero",
        "zero",
    )
    assert row["items"] == [1]
    assert callable(row.items)


def test_a_missing_cell_is_not_there(row: Row) -> None:
    """It can be asked for, and read only with something in its place."""
    assert "gap" not in row
    assert row.get("gap") is None
    assert row.get("gap", "none") == "none"
    assert dict(row) == CELLS
    with pytest.raises(MissingCellError, match="column 'gap' is missing a value"):
        _ = row["gap"]
    with pytest.raises(MissingCellError, match="column 'gap' is missing a value"):
        _ = row.gap


def test_a_missing_cell_can_be_asked_for_in_any_way(row: Row) -> None:
    """It is absent to whoever asks politely, and a row can be copied."""
    assert getattr(row, "gap", "none") == "none"
    assert not hasattr(row, "gap")
    assert dict(copy.copy(row)) == dict(pickle.loads(pickle.dumps(row))) == CELLS  # noqa: S301


def test_a_column_that_does_not_exist_is_no_missing_value(row: Row) -> None:
    """A typo never looks like a gap, and the error names the near miss."""
    with pytest.raises(MissingColumnError, match=r"lacks: 'txt'.*Did you mean 'text'"):
        _ = row["txt"]
    with pytest.raises(MissingColumnError, match="lacks: 'txt'"):
        row.get("txt")
    with pytest.raises(AttributeError, match=r"no column 'txt'\. Did you mean 'text'"):
        _ = row.txt


def test_a_row_is_read_only(row: Row) -> None:
    """What it is asked is no place to keep things."""
    with pytest.raises(InputError, match="read-only, so 'text' cannot be set"):
        row.text = "other"
    with pytest.raises(TypeError, match="does not support item assignment"):
        row["text"] = "other"


def test_a_column_that_stands_twice_cannot_be_read() -> None:
    """Which of the two was meant cannot be known."""
    row = Row(["a", "b"], {"b": 1}, frozenset({"a"}))

    assert row.b == 1
    with pytest.raises(InputError, match="several columns named 'a'"):
        _ = row["a"]


def test_the_repr_tells_names_and_no_cells(row: Row) -> None:
    """A traceback that shows a row shows no prompt."""
    assert repr(row) == "<Row of 'text', 'Order ID', 'items', '0', 'gap'>"
