"""What was spent on this machine: each request once, in every way of grouping."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import claude_batch_pandas as cbp
from claude_batch_pandas import accounts, money, session
from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.spending import KINDS, SUMS, Spent
from claude_batch_pandas.store import Store
from tests.conftest import JumpingClock
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


@given(
    texts=st.lists(
        st.text(st.characters(codec="utf-8"), max_size=40), min_size=1, max_size=12, unique=True
    ),
    data=st.data(),
)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_run_and_ledger_come_to_the_same_however_it_is_sharded(
    texts: list[str], data: Any, client: Any, home: Path
) -> None:
    """And in whatever order the rows stand: to the last fraction of a cent."""
    mixed = data.draw(st.permutations(texts))
    size = data.draw(st.integers(1, 12))
    sums = []
    for rows, shard_size in ((texts, 1_000), (mixed, size)):
        df: Any = pd.DataFrame({"text": [f"x {text}" for text in rows]})
        run = df.claude.submit("{text}", reuse=False, shard_size=shard_size, client=client).wait()
        record = Store(home).run(run.id)
        each = [money.cost(result) for result in accounts.own(record, session.build_engine(client))]
        assert sum(filter(None, each)) == run.report().bill.dollars
        assert cbp.costs("run").set_index("run")["dollars"][run.id] == float(
            sum(filter(None, each))
        )
        sums.append(run.report().bill)
    assert sums[0] == sums[1]


def test_spending_is_drawn_day_by_day(client: Any, clock: JumpingClock) -> None:
    """A bar for each day, divided if it shall be; the words say what it comes to."""
    df: Any = pd.DataFrame({"text": [f"row {i}" for i in range(8)]})
    for model in ("claude-haiku-5-5", "claude-opus-5-5"):
        df.claude.batch("{text}", model=model, client=client)
        clock.advance(2 * 86_400.0)
    whole, parts = cbp.plot_costs(), cbp.plot_costs(by="model")
    assert len(whole.table) == len(parts.table) == 2
    assert re.fullmatch(
        r"\$[\d.]+ on 2 days; most on 2027-01-17: \$[\d.]+; \$[\d.]+ less than live\.",
        whole.summary,
    )
    assert parts.summary == whole.summary
    [axes] = parts.figure.axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "claude-haiku-5-5",
        "claude-opus-5-5",
    ]
    tops = [patch.get_y() + patch.get_height() for patch in axes.patches]
    assert max(tops) == pytest.approx(whole.table["dollars"].max())
    assert whole.png().startswith(b"\x89PNG")


def test_nothing_spent_can_be_drawn() -> None:
    assert cbp.plot_costs().summary == "$0.00 on 0 days; $0.00 less than live."
    with pytest.raises(InputError, match="by must be one or more of day, model"):
        cbp.plot_costs(by="week")


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
