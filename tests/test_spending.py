"""What was spent on this machine: each request once, in every way of grouping."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.spending import KINDS, SUMS, Spent
from tests.strategies import read_one, succeeded, usage


@pytest.fixture
def spent(client: Any) -> tuple[Any, Any]:
    """Make two runs, the second of which takes half of its answers from the first."""
    df = pd.DataFrame({"text": [f"row {i}" for i in range(8)]})
    first = df.head(4).claude.submit("{text}", client=client).wait()
    second = df.claude.submit("{text}", output="more", client=client).wait()
    return first, second


def test_each_request_is_counted_for_the_run_that_paid_it(spent: tuple[Any, Any]) -> None:
    """The sums are those of the reports; half price is what was saved."""
    found = cbp.costs(by="run").set_index("run")
    for run in spent:
        report = run.report()
        row = found.loc[run.id]
        assert row["dollars"] == pytest.approx(float(report.bill.dollars))
        assert row["output_tokens"] == report.tokens["output_tokens"]
        assert row["rows"] == 4
        assert row["live_dollars"] == pytest.approx(2 * row["dollars"])
        assert row["saved_dollars"] == pytest.approx(row["dollars"])
    assert (found["unpriced_rows"] == 0).all()


def test_however_grouped_it_is_the_same_money(spent: tuple[Any, Any]) -> None:
    ways = [by for count in (1, 2, 3, 4) for by in combinations(KINDS, count)]
    sums = [cbp.costs(by=list(by))[list(SUMS)].sum() for by in ways]
    for found in sums:
        pd.testing.assert_series_equal(found, sums[0])
    frame = cbp.costs(by=["model", "day"])
    assert list(frame.columns) == ["model", "day", *SUMS]
    assert frame["model"].tolist() == ["claude-haiku-5-5"]


def test_an_empty_ledger_has_cost_nothing() -> None:
    found = cbp.costs()
    assert list(found.columns) == ["day", *SUMS]
    assert found.empty
    assert str(found["dollars"].dtype) == "float64"


def test_live_requests_save_nothing_and_unknown_prices_are_counted() -> None:
    tokens = {"input_tokens": 1_000_000, "output_tokens": 0}
    live = read_one(succeeded("a", usage=usage(**tokens, service_tier="standard")))
    unknown = read_one(succeeded("a", model="my-model", usage=usage(**tokens)))
    sums = Spent()
    sums.add([live, unknown])
    row = sums.row()
    assert row["dollars"] == row["live_dollars"] > 0
    assert row["saved_dollars"] == 0
    assert row["unpriced_rows"] == 1
    assert row["rows"] == 2


def test_a_purged_run_is_not_counted(spent: tuple[Any, Any]) -> None:
    spent[1].purge()
    assert cbp.costs(by="run")["run"].tolist() == [spent[0].id]


@pytest.mark.parametrize("by", ["week", [], ["day", "day"], ["day", "week"]])
def test_what_cannot_be_grouped_by_is_refused(by: Any) -> None:
    with pytest.raises(InputError, match="by must be one or more of day, model, run, key"):
        cbp.costs(by=by)
