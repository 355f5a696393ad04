"""pandas in and out: what is read of a frame, and how answers come back."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_batch_pandas import frames
from claude_batch_pandas.answers import Answers, Origin
from claude_batch_pandas.exceptions import InputError, MissingColumnError, OutputExistsError
from claude_batch_pandas.frames import Source
from claude_batch_pandas.outputs import Output, output_of
from claude_batch_pandas.records import RowStatus
from claude_batch_pandas.results import Result
from tests.strategies import indexes, read_one, shown_texts, succeeded, usage

IS_3 = int(pd.__version__.split(".")[0]) >= 3
TEXT = "str" if IS_3 else "string"
ZONED: Any = ["2024-02-29", None]
INTERVALS: Any = [(0, 1), None]
DAY = dt.datetime(2024, 2, 29)  # noqa: DTZ001

WITH_GAPS = {
    "object None": pd.Series(["x", None], dtype=object),
    "object NaN": pd.Series(["x", float("nan")], dtype=object),
    "object NA": pd.Series(["x", pd.NA], dtype=object),
    "object NaT": pd.Series([DAY, pd.NaT], dtype=object),
    "object Decimal": pd.Series([Decimal(1), Decimal("NaN")], dtype=object),
    "float64": pd.Series([1.5, None], dtype="float64"),
    "float32": pd.Series([1.5, None], dtype="float32"),
    "Float64": pd.Series([1.5, None], dtype="Float64"),
    "Float32": pd.Series([1.5, None], dtype="Float32"),
    "Int64": pd.Series([1, None], dtype="Int64"),
    "boolean": pd.Series([True, None], dtype="boolean"),
    "string": pd.Series(["x", None], dtype="string"),
    "category": pd.Series(["x", None], dtype="category"),
    "category of numbers": pd.Series(pd.Categorical([1, None])),
    "datetime64": pd.Series([DAY, None], dtype="datetime64[ns]"),
    "datetime64 with zone": pd.Series(pd.DatetimeIndex(ZONED, tz="Europe/Berlin")),
    "timedelta64": pd.Series(pd.to_timedelta(["1s", None])),
    "period": pd.Series(pd.PeriodIndex(["2024-01", None], freq="M")),
    "interval": pd.Series(pd.IntervalIndex.from_tuples(INTERVALS)),
    "sparse": pd.Series(pd.arrays.SparseArray([1.5, np.nan])),
    "arrow integer": pd.Series([1, None], dtype="int64[pyarrow]"),
    "arrow float": pd.Series([1.5, None], dtype="double[pyarrow]"),
    "arrow string": pd.Series(["x", None], dtype="string[pyarrow]"),
    "arrow boolean": pd.Series([True, None], dtype="bool[pyarrow]"),
    "arrow timestamp": pd.Series([DAY, None], dtype="timestamp[ns][pyarrow]"),
    "arrow date": pd.Series([DAY.date(), None], dtype="date32[day][pyarrow]"),
}

statuses = st.sampled_from(list(RowStatus))
results = st.builds(
    Result,
    status=statuses,
    text=st.one_of(st.none(), st.just(""), shown_texts),
    error=st.one_of(st.none(), shown_texts),
)

X = Output("x")


def read(df: pd.DataFrame, column: str, size: int = 1024) -> tuple[list[Any], list[bool]]:
    """Return the cells of a column and which are missing, over all blocks."""
    cells: list[Any] = []
    gaps: list[bool] = []
    for block in Source(df).blocks([column], size):
        assert block.start == len(cells)
        cells += block.values[column]
        gaps += block.missing.get(column, [False] * block.length)
    return cells, gaps


def kept_text(result: Result) -> str | None:
    """Return what the answer column holds: an answer, or the part of one."""
    if result.status is RowStatus.TRUNCATED:
        return result.text or None
    return result.text if result.status is RowStatus.SUCCEEDED else None


def answered(count: int) -> list[Result]:
    return [Result(RowStatus.SUCCEEDED, f"answer {i}") for i in range(count)]


def test_names_are_strings_and_whole_numbers() -> None:
    """Columns are named by text, or by the digits of an integer; nothing else can be."""
    df = pd.DataFrame(
        [[1] * 6], columns=pd.Index(["a", 7, np.int64(8), True, 1.5, None], dtype=object)
    )

    assert Source(df).names == ["a", "7", "8"]


def test_a_number_and_its_digits_are_one_name() -> None:
    """With columns "7" and 7, {7} could mean either, so it is refused, not guessed."""
    df = pd.DataFrame([["number", "text"]], columns=pd.Index([7, "7"], dtype=object))

    with pytest.raises(InputError, match=r"several columns of the same name \(0 and '0'.*'7'"):
        Source(df).check(["7"])


def test_column_levels_are_refused() -> None:
    """MultiIndex columns have no one name; the error shows how to flatten them."""
    df = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")]))

    with pytest.raises(InputError, match=r"columns are a MultiIndex.*Flatten them first"):
        Source(df)


def test_unknown_column_is_refused() -> None:
    """A column that does not exist is refused with what exists."""
    with pytest.raises(MissingColumnError, match=r"lacks: 'tex'\. It has: 'text'"):
        Source(pd.DataFrame({"text": [1]})).check(["tex"])


def test_repeated_column_is_refused_only_when_used() -> None:
    """Two columns of one name are refused if the template uses it, and left alone otherwise."""
    df = pd.DataFrame([[1, 2, 3]], columns=["a", "b", "a"])
    source = Source(df)
    source.check(["b"])

    with pytest.raises(InputError, match=r"several columns of the same name.*\['a'\]"):
        source.check(["b", "a"])


@given(st.lists(st.one_of(st.text(max_size=3), st.integers(), st.none())), st.integers(1, 5))
@settings(deadline=None, max_examples=100)
def test_blocks_are_the_column_in_order(cells: list[Any], size: int) -> None:
    """Blocks of any size give every cell once, in order, and tell which are missing."""
    df = pd.DataFrame({"a": pd.Series(cells, dtype=object)})
    found, gaps = read(df, "a", size)

    assert found == cells
    assert gaps == [cell is None for cell in cells]


@pytest.mark.parametrize("name", WITH_GAPS)
def test_missing_is_seen_in_every_dtype(name: str) -> None:
    """None, NaN, NA and NaT are missing whatever the dtype; what is there is not."""
    _, gaps = read(pd.DataFrame({"a": WITH_GAPS[name]}), "a")

    assert gaps == [False, True]


@pytest.mark.parametrize("name", WITH_GAPS)
def test_column_without_gaps_has_no_mask(name: str) -> None:
    """A block in which nothing is missing carries no mask, whatever the dtype."""
    df = pd.DataFrame({"a": WITH_GAPS[name].iloc[:1]})
    [block] = Source(df).blocks(["a"], 10)

    assert block.missing == {}
    assert str(block.values["a"][0]) == str(WITH_GAPS[name].iloc[0])


@pytest.mark.parametrize("dtype", ["Float64", "Float32", "double[pyarrow]", "float[pyarrow]"])
def test_not_a_number_that_was_computed_is_missing(dtype: str) -> None:
    """Masked and Arrow columns can hold a NaN that pandas may not call missing; in any block."""
    name: Any = dtype
    cells: Any = pd.array([2.0, 1.0, 4.0, 0.0], dtype=name)

    assert read(pd.DataFrame({"a": cells / cells}), "a", 2)[1] == [False, False, False, True]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_integers_with_gaps_are_integers(dtype: str) -> None:
    """Integers that became floats only because of missing values are read as integers."""
    cells, gaps = read(pd.DataFrame({"a": pd.Series([3, None, -2, 0], dtype=dtype)}), "a", 2)

    assert [cell for cell, gap in zip(cells, gaps, strict=True) if not gap] == [3, -2, 0]
    assert [type(cell) for cell, gap in zip(cells, gaps, strict=True) if not gap] == [int] * 3


@pytest.mark.parametrize(
    "cells",
    [
        [3.0, 1.0],  # nothing is missing: the column was float by choice
        [3.0, None, 0.5],
        [3.0, None, float("inf")],
        [3.0, None, 2.0**60],
        [None, None],
    ],
)
def test_other_floats_stay_floats(cells: list[float | None]) -> None:
    """A float column that holds a fraction, or has no gaps, is read as floats."""
    found, gaps = read(pd.DataFrame({"a": pd.Series(cells, dtype="float64")}), "a")

    assert all(type(cell) is float for cell in found)
    assert gaps == [cell is None for cell in cells]


def test_whole_column_decides_not_the_block() -> None:
    """One fraction anywhere keeps the whole column float, so that all blocks agree."""
    df = pd.DataFrame({"a": [1.0, None, 2.0, 0.5]})
    [first, second] = Source(df).blocks(["a"], 2)

    assert (repr(first.values["a"][0]), repr(second.values["a"][0])) == ("1.0", "2.0")


@pytest.mark.parametrize("dtype", ["float32", "Float32", "float16", "float[pyarrow]"])
def test_short_floats_read_as_they_are_shown(dtype: Any) -> None:
    """A 32-bit 0.1 renders as 0.1, as pandas shows it, and not as 0.10000000149011612."""
    cells, _ = read(pd.DataFrame({"a": pd.Series([0.1]).astype(dtype)}), "a")

    assert [str(cell) for cell in cells] == ["0.1"]


def test_source_has_the_frame_s_length_and_index() -> None:
    """The engine asks a source for its rows and their index, without a copy."""
    df = pd.DataFrame({"a": [1, 2]}, index=["x", "x"])

    assert len(Source(df)) == 2
    assert Source(df).index is df.index


def test_bytes_are_refused() -> None:
    """Bytes would render as b'...'; the error shows how to decode them."""
    df = pd.DataFrame({"a": ["x", b"y"]})

    with pytest.raises(InputError, match=r"Column 'a' holds bytes.*str\.decode"):
        read(df, "a")


def test_empty_frame_has_no_blocks() -> None:
    """A frame without rows is read as nothing."""
    assert list(Source(pd.DataFrame({"a": []})).blocks(["a"], 10)) == []


def test_series_becomes_a_column_called_value() -> None:
    """The values of a Series are named value, whatever its own name; a frame stays itself."""
    series = pd.Series([1, 2], name="x", index=["b", "a"])
    df = pd.DataFrame({"a": [1]})

    assert frames.as_frame(series).columns.tolist() == ["value"]
    assert frames.as_frame(df) is df
    with pytest.raises(InputError, match="DataFrame or Series is needed, not a list"):
        frames.as_frame([1])


@pytest.mark.parametrize("output", ["", "  ", None, 3])
def test_impossible_output_is_refused(output: Any) -> None:
    """An output is a name."""
    with pytest.raises(InputError, match="output must be the name of the new column"):
        output_of(output)


@pytest.mark.parametrize("output", ["a\ud800", "two\nlines", "a\tb"])
def test_output_that_cannot_be_printed_is_refused(output: str) -> None:
    """A lone surrogate could not even be written to the ledger."""
    with pytest.raises(InputError, match="has characters that cannot be printed; use a plain"):
        output_of(output)


@pytest.mark.parametrize("existing", ["x", "x_status", "x_error"])
def test_output_that_exists_is_refused(existing: str) -> None:
    """None of the three columns is overwritten unless replace=True, which the error names."""
    df = pd.DataFrame({"a": [1], existing: [2]})
    frames.check_output(df, X, replace=True)
    frames.check_output(df["a"], X, replace=False)
    frames.check_output(df, Output("y"), replace=False)

    with pytest.raises(OutputExistsError, match=rf"columns \['{existing}'\].*replace=True"):
        frames.check_output(df, X, replace=False)


class Survey(pd.DataFrame):
    """A frame with something of its own, as geopandas' is."""

    _metadata: ClassVar[list[str]] = ["wave"]
    wave: int

    @property
    def _constructor(self) -> type[Survey]:
        return Survey


def test_a_subclass_keeps_its_type() -> None:
    """What comes back is what went in, with what it carries."""
    survey = Survey({"text": ["a"]})
    survey.wave = 3
    out = frames.join(survey, X, [Result(RowStatus.SUCCEEDED, "yes")])

    assert type(out) is Survey
    assert out.wave == 3
    assert out["x"].tolist() == ["yes"]
    assert list(survey.columns) == ["text"]


def test_output_that_stands_twice_cannot_be_replaced() -> None:
    """Which of two columns of a name to rewrite cannot be known."""
    df = pd.DataFrame([[1, 2]], columns=["x", "x"])

    with pytest.raises(InputError, match="several columns named 'x'"):
        frames.check_output(df, X, replace=True)


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_frame_comes_back_as_it_went_in(data: st.DataObject) -> None:
    """Index, order, columns and dtypes stay; answers stand beside their rows; the input is left."""
    rows = data.draw(st.integers(0, 6))
    index = data.draw(indexes(rows))
    found = data.draw(st.lists(results, min_size=rows, max_size=rows))
    df = pd.DataFrame(
        {
            "n": pd.array(range(rows), dtype="int64[pyarrow]"),
            "i": pd.array([None] * rows, dtype="Int8"),
            "s": pd.array(["x"] * rows, dtype="string[pyarrow]"),
            "c": pd.Categorical(["u"] * rows, categories=["v", "u"], ordered=True),
            "d": pd.to_datetime(["2024-02-29"] * rows).astype("datetime64[s]"),
            5: [[1]] * rows,
        },
        index=index,
    )
    df.columns.name = "kinds"
    before = df.copy(deep=True)
    out = frames.join(df, X, found)

    pd.testing.assert_frame_equal(df, before, check_freq=True)
    pd.testing.assert_frame_equal(out.iloc[:, :6], before, check_freq=True)
    pd.testing.assert_index_equal(out.index, index, exact=True)
    assert out.columns.tolist() == [*before.columns, "x", "x_status", "x_error"]
    assert out.columns.name == "kinds"
    assert out["x_status"].tolist() == [str(one.status) for one in found]
    assert [None if pd.isna(cell) else cell for cell in out["x"]] == [
        kept_text(one) for one in found
    ]
    assert [None if pd.isna(cell) else cell for cell in out["x_error"]] == [
        one.error for one in found
    ]


def test_new_columns_have_their_dtypes() -> None:
    """The answer and the error are strings, the status is categorical with every status known."""
    out = frames.join(pd.DataFrame({"a": [1, 2]}), X, answered(2))

    assert [str(out[name].dtype) for name in ("x", "x_error")] == [TEXT, TEXT]
    assert out["x_status"].cat.categories.tolist() == [str(status) for status in RowStatus]
    assert all(type(name) is str for name in out["x_status"].cat.categories)


def test_dtypes_do_not_depend_on_the_answers() -> None:
    """A run without rows, or without any answer, has the same dtypes."""
    full = frames.join(pd.DataFrame({"a": [1]}), X, answered(1))
    empty = frames.join(pd.DataFrame({"a": [1]}).iloc[:0], X, [])
    failed = frames.join(pd.DataFrame({"a": [1]}), X, [Result(RowStatus.EXPIRED, error="why")])

    pd.testing.assert_series_equal(full.dtypes, empty.dtypes)
    pd.testing.assert_series_equal(full.dtypes, failed.dtypes)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (Result(RowStatus.SUCCEEDED, ""), ""),
        (Result(RowStatus.TRUNCATED, "part"), "part"),
        (Result(RowStatus.TRUNCATED, ""), None),
        (Result(RowStatus.REFUSED, "I can't"), None),
        (Result(RowStatus.ERRORED), None),
    ],
)
def test_answer_is_missing_unless_there_is_one(result: Result, expected: str | None) -> None:
    """An empty answer is a text, a cut one is kept, and everything else is missing."""
    [cell] = frames.join(pd.DataFrame({"a": [1]}), X, [result])["x"]

    assert (None if pd.isna(cell) else cell) == expected


def test_result_is_independent_of_the_input() -> None:
    """Changing what came back never changes what went in, nor its attrs."""
    df = pd.DataFrame({"a": [1, 2]})
    df.attrs["note"] = ["mine"]
    out = frames.join(df, X, answered(2))
    out.loc[0, "a"] = 99
    out.index.name = "changed"
    out.attrs["note"].append("theirs")

    assert df["a"].tolist() == [1, 2]
    assert df.index.name is None
    assert df.attrs == {"note": ["mine"]}
    assert "x" not in df


def test_attrs_get_nothing() -> None:
    """Nothing of ours is hidden in attrs."""
    df = pd.DataFrame({"a": [1]})
    out = frames.join(df, X, answered(1))

    assert (df.attrs, out.attrs) == ({}, {})


def test_replaced_columns_keep_their_places() -> None:
    """With replace=True the three columns are rewritten where they stand."""
    first = frames.join(pd.DataFrame({"a": [1]}), X, answered(1))[["x_error", "a", "x", "x_status"]]
    again = frames.join(first, X, [Result(RowStatus.ERRORED, error="why")])

    assert again.columns.tolist() == ["x_error", "a", "x", "x_status"]
    assert again["x_status"].tolist() == ["errored"]
    assert again["x_error"].tolist() == ["why"]
    assert again["x"].isna().all()


@pytest.mark.parametrize(
    "columns",
    [
        pd.Index(["a", "a"]),
        pd.CategoricalIndex(["a", "b"]),
        pd.date_range("2024-01-01", periods=2),
        pd.period_range("2024-01", periods=2, freq="M"),
        pd.interval_range(0, 2),
        pd.RangeIndex(2),
    ],
    ids=lambda columns: f"{type(columns).__name__} {columns.dtype}",
)
def test_column_labels_of_any_kind_stay(columns: pd.Index) -> None:
    """Labels of any kind, repeated ones too, stay as they are before the three new ones."""
    df = pd.DataFrame([[1, 2]], columns=columns)
    out = frames.join(df, X, answered(1))

    assert out.columns.tolist() == [*columns, "x", "x_status", "x_error"]
    assert out.iloc[0, :2].tolist() == [1, 2]


def test_series_gives_only_the_new_columns() -> None:
    """Of a Series, the three columns come back over its index."""
    series = pd.Series(["u", "v"], index=pd.Index([3, 3], name="id"), name="text")
    out = frames.join(series, X, answered(2))

    pd.testing.assert_index_equal(out.index, series.index)
    assert out.columns.tolist() == ["x", "x_status", "x_error"]
    assert out["x"].tolist() == ["answer 0", "answer 1"]


def test_details_tell_each_row_its_facts() -> None:
    """Details have status, tokens, dollars and origin per row; unknown stays missing."""
    tokens = usage(
        input_tokens=3,
        output_tokens=9,
        cache_creation_input_tokens=30,
        cache_read_input_tokens=40,
        cache_creation={"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
    )
    answer = read_one(succeeded("hi", usage=tokens))
    skipped = Result(RowStatus.SKIPPED, error="nothing there")
    answers = Answers([answer, skipped], [Origin("run-1", 4, 2), Origin("", -1, 0)])
    index = pd.Index(["b", "a"], name="id")
    out = frames.details(index, answers, [Decimal("0.25"), None])

    pd.testing.assert_index_equal(out.index, index)
    assert out["status"].tolist() == ["succeeded", "skipped"]
    first = out.iloc[0].to_dict()
    assert (first["text"], first["stop_reason"], first["run"]) == ("hi", "end_turn", "run-1")
    assert (first["shard"], first["attempts"], first["dollars"]) == (4, 2, 0.25)
    assert (first["input_tokens"], first["output_tokens"]) == (3, 9)
    assert (first["cache_write_5m_tokens"], first["cache_write_1h_tokens"]) == (10, 20)
    last = out.iloc[1]
    assert last[["text", "model", "run", "shard", "dollars", "input_tokens"]].isna().all()
    assert (last["error"], last["attempts"]) == ("nothing there", 0)


def test_table_shows_times() -> None:
    """Seconds since 1970 are shown as times with zone, missing ones as missing."""
    out = frames.table(
        [{"id": "r", "at": 86_400.0}, {"id": "q", "at": None}], {"id": "text", "at": "time"}
    )

    assert out["id"].tolist() == ["r", "q"]
    assert out["at"][0] == pd.Timestamp("1970-01-02", tz="UTC")
    assert out["at"].isna().tolist() == [False, True]


def test_table_without_rows_has_its_columns() -> None:
    """An empty table has the columns and dtypes of a full one."""
    out = frames.table([], {"id": "text", "at": "time"})

    assert out.columns.tolist() == ["id", "at"]
    assert isinstance(out["at"].dtype, pd.DatetimeTZDtype)
