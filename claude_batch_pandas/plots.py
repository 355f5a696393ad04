"""Pictures of a run: what was answered, what rows cost, when shards ran. The only file with Altair.

A notebook draws them itself, without a request to anybody; the words and the table that come with
each are what a saved page, a terminal or a reader of the screen has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from claude_batch_pandas import frames
from claude_batch_pandas.exceptions import InputError

if TYPE_CHECKING:
    import pandas as pd

    from claude_batch_pandas.handles import Run

MOST_BARS = 20
INSTALL = "Plots need Altair: pip install 'claude-batch-pandas[plots]'."


class Plot:
    """A chart, its numbers, and what they say.

    Attributes
    ----------
    chart : altair.Chart
    table : pandas.DataFrame
        What is drawn.
    summary : str
    """

    def __init__(self, chart: Any, table: pd.DataFrame, summary: str) -> None:
        self.chart, self.table, self.summary = chart, table, summary

    def __repr__(self) -> str:
        return self.summary

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:  # noqa: ARG002 - IPython's
        told = frames.plain_html(self.summary, self.table)
        spec = self.chart.properties(description=self.summary).to_dict()
        version = spec["$schema"].rpartition("/v")[2].partition(".")[0]
        kind = f"application/vnd.vegalite.v{version}+json"
        return {kind: spec, "text/html": told, "text/plain": self.summary}


def plot(run: Run, what: Any) -> Plot:
    """Draw something about a run.

    Parameters
    ----------
    run : Run
    what : {"answers", "tokens", "dollars", "shards"}

    Raises
    ------
    InputError
        For anything else, or when Altair is not installed.
    """
    makers: dict[str, Callable[[Run], Plot]] = {
        "answers": _answers,
        "tokens": _tokens,
        "dollars": _dollars,
        "shards": _shards,
    }
    if what not in makers:
        msg = f"what must be one of {', '.join(makers)}, not {what!r}."
        raise InputError(msg)
    try:
        import altair as alt  # noqa: F401 - to see whether it is there
    except ImportError:
        raise InputError(INSTALL) from None
    return makers[what](run)


def _answers(run: Run) -> Plot:
    name, values = run.answers()
    table = frames.tally(values, MOST_BARS)
    words = ", ".join(f"{row.answer} {row.rows:,}" for row in table.head(5).itertuples())
    summary = (
        f"{name}: {int(table['rows'].sum()):,} rows with an answer; most often {words or 'none'}."
    )
    return _bars(table, "rows", "answer", summary)


def _tokens(run: Run) -> Plot:
    details = run.details()
    columns = ["input_tokens", "output_tokens", "thinking_tokens"]
    table = frames.quantiles(details, columns)
    summary = f"Tokens per row: {_medians(table)}."
    return _bars(table[table["quantile"] == "median"], "value", "kind", summary, table)


def _dollars(run: Run) -> Plot:
    details = run.details()
    table = frames.quantiles(details, ["dollars"])
    summary = f"US dollars per row: {_medians(table)}."
    return _bars(table, "value", "quantile", summary)


def _shards(run: Run) -> Plot:
    import altair as alt

    table = frames.table(
        run.timeline(), {"shard": "count", "rows": "count", "began": "time", "here": "time"}
    )
    summary = f"{len(table):,} shards, {int(table['rows'].sum()):,} requests."
    chart = alt.Chart(table, title=summary).mark_bar()
    chart = chart.encode(x="began:T", x2="here:T", y="shard:O", tooltip=["shard", "rows"])
    return Plot(chart, table, summary)


def _medians(table: pd.DataFrame) -> str:
    middle = table[table["quantile"] == "median"]
    return (
        ", ".join(f"{row.kind} {row.value:,.6g} (median)" for row in middle.itertuples()) or "none"
    )


def _bars(
    table: pd.DataFrame, number: str, name: str, summary: str, whole: pd.DataFrame | None = None
) -> Plot:
    import altair as alt

    chart = alt.Chart(table, title=summary).mark_bar()
    chart = chart.encode(x=f"{number}:Q", y=alt.Y(f"{name}:N", sort=None), tooltip=[name, number])
    return Plot(chart, table if whole is None else whole, summary)
