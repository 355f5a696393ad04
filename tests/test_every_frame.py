"""Every kind of frame, end to end: each row gets its own answer, and comes back as it went in."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import claude_batch_pandas as cbp
from claude_batch_pandas.emulator import Emulator
from tests.strategies import indexes

Connect = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("clock")

DAY = dt.datetime(2026, 2, 3, 4, 5, 6)  # noqa: DTZ001 - the zone is the column's

# dtype -> (cells, one of them missing; how each present cell reads in a template)
COLUMNS: dict[str, tuple[Any, list[str]]] = {
    "object": (pd.Series(["é{b}", None, 3], dtype=object), ["é{b}", "3"]),
    "python strings": (
        pd.Series(["a", None, "b"], dtype=pd.StringDtype(storage="python")),
        ["a", "b"],
    ),
    "arrow strings": (
        pd.Series(["a", None, "b"], dtype=pd.StringDtype(storage="pyarrow")),
        ["a", "b"],
    ),
    "category": (pd.Series(["x", None, "y"], dtype="category"), ["x", "y"]),
    "whole category": (pd.Series([1, None, 2]).astype("category"), ["1", "2"]),
    "Int64": (pd.Series([2**60 + 1, None, -1], dtype="Int64"), [str(2**60 + 1), "-1"]),
    "float": (pd.Series([0.1, None, 1e300]), ["0.1", "1e+300"]),
    "whole float": (pd.Series([3.0, None, -4.0]), ["3", "-4"]),
    "Float32": (pd.Series([0.1, None, 2.5], dtype="Float32"), ["0.1", "2.5"]),
    "boolean": (pd.Series([True, None, False], dtype="boolean"), ["True", "False"]),
    "zoned times": (
        pd.Series([DAY, None, DAY]).dt.tz_localize("Europe/Berlin"),
        ["2026-02-03 04:05:06+01:00"] * 2,
    ),
    "times": (pd.Series([DAY, None, DAY]), ["2026-02-03 04:05:06"] * 2),
    "spans": (
        pd.Series(pd.to_timedelta(["1 day", None, "90 min"])),
        ["1 days 00:00:00", "0 days 01:30:00"],
    ),
    "Decimal": (pd.Series([Decimal("1.10"), None, Decimal(-2)], dtype=object), ["1.10", "-2"]),
    "arrow decimals": (
        pd.Series(
            [Decimal("1.10"), None, Decimal("2.00")], dtype=pd.ArrowDtype(pa.decimal128(9, 2))
        ),
        ["1.10", "2.00"],
    ),
    "arrow whole": (pd.Series([5, None, 6], dtype="int64[pyarrow]"), ["5", "6"]),
    "arrow days": (
        pd.Series([DAY.date(), None, DAY.date()], dtype=pd.ArrowDtype(pa.date32())),
        ["2026-02-03"] * 2,
    ),
    "periods": (
        pd.Series(pd.PeriodIndex(["2026-01", None, "2026-03"], freq="M")),
        ["2026-01", "2026-03"],
    ),
    "lists": (pd.Series([["a", 1], None, []], dtype=object), ["['a', 1]", "[]"]),
    "arrow lists": (
        pd.Series([["a"], None, ["b", "c"]], dtype=pd.ArrowDtype(pa.list_(pa.string()))),
        ["['a']", "['b', 'c']"],
    ),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_every_dtype_reads_as_people_read_it(name: str, connect: Connect) -> None:
    """Present cells render, the missing one is skipped, and the column comes back unchanged."""
    cells, shown = COLUMNS[name]
    frame = pd.DataFrame({"cell": cells, "n": [1, 2, 3]})
    before = frame.copy(deep=True)
    out = frame.claude.batch("<{cell}>", client=connect(Emulator(duration=0.0)))

    assert out["answer"].dropna().tolist() == [f"[simulated] <{text}>" for text in shown]
    assert out["answer_status"].tolist() == ["succeeded", "skipped", "succeeded"]
    assert out["answer_error"].iloc[1] == "column 'cell' is missing a value"
    pd.testing.assert_frame_equal(out[["cell", "n"]], before)
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize(
    ("cells", "dtype"),
    [([b"x", None], object), ([b"x", None], pd.ArrowDtype(pa.binary())), (["a", b"x"], object)],
    ids=["object", "arrow", "mixed"],
)
def test_bytes_are_refused_by_name(cells: list[Any], dtype: Any, client: Any) -> None:
    """They have no text; the error says how to make some."""
    frame = pd.DataFrame({"raw data": pd.Series(cells, dtype=dtype)})

    with pytest.raises(cbp.InputError, match=r"'raw data' holds bytes.*str\.decode\('utf-8'\)"):
        frame.claude.batch("{raw data}", client=client)
    assert cbp.runs().empty


@pytest.mark.parametrize(
    ("label", "field"),
    [
        ("Order ID", "{Order ID}"),
        ("a.b", "{a.b}"),
        ("a[0]", "{a[0]}"),
        ("x!r", "{x!r}"),
        ("a:b", "{a:b}"),
        ("a{b", "{a{b}"),
        ("a}b", "{a}b}"),
        (3, "{3}"),
        (np.int64(7), "{7}"),
        ("", "{}"),
        ("né\n", "{né\n}"),
    ],
    ids=str,
)
def test_every_name_can_be_used(label: Any, field: str, connect: Connect) -> None:
    """A column's exact name wins, whatever is in it."""
    frame = pd.DataFrame({label: ["one", "two"], "other": [1, 2]})
    shown = frame.claude.preview(f"Say {field}", n=2, client=connect(Emulator()))
    asked = [request["messages"][0]["content"] for request in shown.requests]

    assert asked == ["Say one", "Say two"]


def test_a_name_that_begins_with_a_brace_is_read_by_a_function(client: Any) -> None:
    """In a text, two braces are one brace before anything else."""
    frame = pd.DataFrame({"{odd}": ["one"]})
    by_text, by_function = (
        frame.claude.preview(template, client=client).requests[0]["messages"][0]["content"]
        for template in ("{{odd}}", lambda row: row["{odd}"])
    )

    assert (by_text, by_function) == ("{odd}", "one")


def test_levels_of_columns_are_refused_with_the_way_out(client: Any) -> None:
    """A tuple is no name for a template."""
    frame = pd.DataFrame({("a", "b"): ["x"]})

    with pytest.raises(cbp.InputError, match=r"columns are a MultiIndex.*Flatten them first: df"):
        frame.claude.batch("{a}", client=client)


@given(data=st.data())
@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_row_gets_its_own_answer(
    data: st.DataObject, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over any index, order, gaps and repetitions, in any shards; and once more from the disk."""
    rows = data.draw(st.integers(1, 12))
    texts = data.draw(
        st.lists(st.one_of(st.none(), st.text("ab{}é\n", max_size=3)), min_size=rows, max_size=rows)
    )
    frame = pd.DataFrame({"text": pd.Series(texts, dtype=object), "n": range(rows)}).set_axis(
        data.draw(indexes(rows)), axis=0
    )
    if data.draw(st.booleans()):
        frame = frame.iloc[data.draw(st.permutations(range(rows)))]
    size = data.draw(st.sampled_from([None, 1, 2]))
    with tempfile.TemporaryDirectory() as home:
        monkeypatch.setenv("CLAUDE_BATCH_HOME", home)
        client = connect(Emulator(duration=0.0, seed=data.draw(st.integers(0, 9))))
        run = frame.claude.submit("Q {text}!", client=client, shard_size=size)
        out = run.wait().columns(frame)
        saved = run.result()

    told = [None if text is None else f"[simulated] Q {text}!" for text in frame["text"]]
    assert [None if pd.isna(answer) else answer for answer in out["answer"]] == told
    pd.testing.assert_frame_equal(out[["text", "n"]], frame)
    pd.testing.assert_index_equal(out.index, frame.index)
    assert saved["answer"].equals(out["answer"].set_axis(saved.index))


def test_a_gap_in_the_index_stays(connect: Connect) -> None:
    """A label may be missing; it is no column of a template."""
    frame = pd.DataFrame({"text": ["a", "b", "c"]}, index=[1.0, None, 1.0])
    out = frame.claude.batch("{text}", client=connect(Emulator(duration=0.0)))

    pd.testing.assert_index_equal(out.index, frame.index)
    assert out["answer"].tolist() == ["[simulated] a", "[simulated] b", "[simulated] c"]


def test_an_index_of_many_labels_is_never_aligned(connect: Connect) -> None:
    """Answers are joined by position: a large shuffled index costs nothing and moves nothing."""
    labels = np.random.default_rng(3).permutation(1_000_000)
    frame = pd.DataFrame({"text": None, "n": np.arange(1_000_000)}, index=labels)
    frame["text"] = frame["text"].astype("string")
    frame.iloc[[5, 999_999], 0] = ["first", "last"]
    out = frame.claude.batch("{text}", client=connect(Emulator(duration=0.0)))

    assert out["answer"].iloc[[5, 999_999]].tolist() == ["[simulated] first", "[simulated] last"]
    assert out["answer"].notna().sum() == 2
    pd.testing.assert_index_equal(out.index, frame.index)
