"""An index on disk comes back as it was, or not at all."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from claude_batch_pandas import indexes
from tests.strategies import indexes as drawn_indexes

DAY = dt.datetime(2024, 2, 29)  # noqa: DTZ001 - an index may be naive


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_saved_index_comes_back(data: st.DataObject) -> None:
    """An index of any common kind survives the disk: labels, order, names and levels."""
    rows = data.draw(st.integers(0, 5))
    index = data.draw(drawn_indexes(rows))
    found = indexes.load(indexes.dump(index), rows)

    assert found.tolist() == index.tolist()
    assert list(found.names) == list(index.names)
    assert found.nlevels == index.nlevels


@pytest.mark.parametrize(
    "index",
    [
        pd.CategoricalIndex(["a", "b"], categories=["b", "a", "c"], ordered=True),
        pd.period_range("2024-01", periods=2, freq="M"),
        pd.interval_range(0, 2),
        pd.Index([1, None], dtype="int64[pyarrow]"),
        pd.Index([1, None], dtype="Int64"),
        pd.Index([True, False]),
        pd.Index([DAY.date(), DAY.date()]),
        pd.MultiIndex.from_tuples([(1, "b"), (1, "b")], names=["x", None]),
        pd.MultiIndex.from_arrays([[], []], names=["x", "y"]),
    ],
    ids=lambda index: f"{type(index).__name__} {index.dtype} {len(index)}",
)
def test_saved_index_keeps_its_dtype(index: pd.Index) -> None:
    """Categories, periods, intervals and Arrow types survive the disk as they are."""
    found = indexes.load(indexes.dump(index), len(index))

    pd.testing.assert_index_equal(found, index, exact=True)


@pytest.mark.parametrize(
    "names", [["a", "a"], [None, 0], ["0", 0]], ids=["twice", "number of the other", "digits"]
)
def test_saved_index_may_have_odd_level_names(names: list[Any]) -> None:
    """Level names may repeat, or look like a level's number."""
    index = pd.MultiIndex.from_tuples([(1, 2), (3, 4)], names=names)
    found = indexes.load(indexes.dump(index), 2)

    assert found.tolist() == index.tolist()
    assert list(found.names) == names


@pytest.mark.parametrize(
    "index",
    [
        pd.Index([1j, 2j]),
        pd.Index([object(), object()]),
        pd.Index([1, "a\ud800"]),
        pd.Index([uuid.UUID(int=1), uuid.UUID(int=2)]),
    ],
    ids=["complex", "object", "surrogate", "uuid"],
)
def test_index_that_cannot_be_saved_becomes_positions(index: pd.Index) -> None:
    """It never stops a run; positions stand in for it, under a name that says so."""
    saved = indexes.dump(index)
    found = indexes.load(saved, 2)

    assert found.equals(index) or (saved is None and found.name == "position")
    assert found.equals(index) or found.tolist() == [0, 1]


@pytest.mark.parametrize(
    "index",
    [
        pd.Index([1, 2.5, "total", None, True], name="line"),
        pd.Index([2**70, 1]),
        pd.MultiIndex.from_arrays([[1, "a"], [2.5, "b"]], names=["k", None]),
    ],
    ids=["kinds", "huge", "levels"],
)
def test_labels_of_many_kinds_come_back(index: pd.Index) -> None:
    """A column of numbers with a word at its end is what spreadsheets have."""
    found = indexes.load(indexes.dump(index), len(index))

    assert [repr(label) for label in found] == [repr(label) for label in index]
    assert list(found.names) == list(index.names)


@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_indexes_share_a_digest_exactly_when_their_labels_are_equal(data: st.DataObject) -> None:
    """A run belongs to its labels: the same rows under other ones are another run."""
    one, two = (data.draw(drawn_indexes(2)) for _ in range(2))
    assume(list(one.names) == list(two.names) and one.nlevels == two.nlevels)

    assert (indexes.digest(one) == indexes.digest(two)) is (labels_of(one) == labels_of(two))


def labels_of(index: pd.Index) -> list[list[str]]:
    """Return every label in words, all missing ones alike."""
    levels = [index.get_level_values(i) for i in range(index.nlevels)]
    return [["-" if pd.isna(label) else repr(label) for label in level] for level in levels]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (pd.RangeIndex(2), pd.Index([0, 1], dtype="Int64")),
        (pd.Index(["a", "b"], dtype=object), pd.Index(["a", "b"], dtype="string")),
        (pd.Index(["a", None], dtype=object), pd.Index(["a", None], dtype="string")),
        (pd.Index(["a", "b"]), pd.CategoricalIndex(["a", "b"], categories=["b", "a"])),
        (pd.Index([object()], dtype=object), pd.Index([object()], dtype=object)),
    ],
    ids=["integers", "text", "text with a gap", "categories", "objects"],
)
def test_equal_labels_of_other_dtypes_share_a_digest(one: pd.Index, two: pd.Index) -> None:
    """A file read again, perhaps by a newer pandas, is the same frame."""
    assert indexes.digest(one) == indexes.digest(two)


def test_a_name_and_the_levels_tell_indexes_apart() -> None:
    flat = pd.MultiIndex.from_arrays([["a", "b"], ["c", "d"]])
    turned = pd.MultiIndex.from_arrays([["a", "c"], ["b", "d"]])
    found = {indexes.digest(index) for index in (flat, turned, flat.set_names(["x", None]))}

    assert len(found) == 3


@pytest.mark.parametrize(
    "index",
    [
        pd.Index([(1, 2), (3, 4)], tupleize_cols=False),
        pd.Index(["a", b"b"]),
        pd.Index([1, None], dtype=object),
        pd.MultiIndex.from_arrays([["a", b"b"], [1, 2]]),
        pd.Index(pd.Series([[1], [2]], dtype=pd.ArrowDtype(pa.list_(pa.int64())))),
    ],
    ids=[
        "tuples",
        "text and bytes",
        "integer and None",
        "level of text and bytes",
        "lists of Arrow",
    ],
)
def test_saved_labels_are_never_changed(index: pd.Index) -> None:
    """Labels that the disk would change become positions; they never come back as others."""
    found = indexes.load(indexes.dump(index), 2)

    assert repr(found.tolist()) in {repr(index.tolist()), "[0, 1]"}


def test_a_name_that_is_not_utf8_costs_only_itself() -> None:
    """The labels come back, under a name that can be written."""
    found = indexes.load(indexes.dump(pd.Index([1, 2], name="a\ud800")), 2)

    pd.testing.assert_index_equal(found, pd.Index([1, 2], name="a?"))


@pytest.mark.parametrize("name", [("a", "b"), np.int64(3), 1.5, "text", 7])
def test_saved_index_keeps_its_name(name: Any) -> None:
    """Whatever an index is called, it is called so when it comes back."""
    found = indexes.load(indexes.dump(pd.Index([1, 2], name=name)), 2)

    assert found.name == name


@pytest.mark.parametrize("name", [None, "id", ("a", 1)])
def test_a_range_stays_a_range(name: Any) -> None:
    """However long it is, it is three numbers."""
    index = pd.RangeIndex(5, 3_000_000, 3, name=name)
    saved = indexes.dump(index)

    assert saved is not None
    assert len(saved) < 100
    found = indexes.load(saved, len(index))
    pd.testing.assert_index_equal(found, index, exact=True)


def test_labels_are_told_the_same_however_many_there_are() -> None:
    """A digest is made of parts, and one label more or another at the end of them makes another."""
    labels = [*range(2 * indexes.AT_ONCE + 1)]
    whole = pd.RangeIndex(len(labels))

    assert indexes.digest(pd.Index(labels)) == indexes.digest(whole)
    for other in ([*labels, 0], labels[:-1], [*labels[:-1], 0], [*labels[1:], labels[0]]):
        assert indexes.digest(pd.Index(other)) != indexes.digest(whole)
