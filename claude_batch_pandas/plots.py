"""Pictures of a run: what was answered, what rows cost, when shards ran. The only file with Altair.

A notebook draws them itself, without a request to anybody; the words and the table that come with
each are what a saved page, a terminal or a reader of the screen has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claude_batch_pandas import frames
from claude_batch_pandas.exceptions import InputError

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("answers", "tokens", "dollars", "shards")
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


def check(what: Any) -> None:
    """Refuse what cannot be drawn, or not here.

    Raises
    ------
    InputError
    """
    if what not in KINDS:
        msg = f"what must be one of {', '.join(KINDS)}, not {what!r}."
        raise InputError(msg)
    try:
        import altair as alt  # noqa: F401 - to see whether it is there
    except ImportError:
        raise InputError(INSTALL) from None


def answers(columns: pd.DataFrame) -> Plot:
    """Draw how often each answer was given, from the columns of a run."""
    name = str(columns.columns[0])
    table = frames.tally(columns.iloc[:, 0], MOST_BARS)
    words = ", ".join(f"{row.answer} {row.rows:,}" for row in table.head(5).itertuples())
    summary = (
        f"{name}: {int(table['rows'].sum()):,} rows with an answer; most often {words or 'none'}."
    )
    return _bars(table, "rows", "answer", summary)


def tokens(details: pd.DataFrame) -> Plot:
    """Draw the tokens per row, from the details of a run."""
    table = frames.quantiles(details, ["input_tokens", "output_tokens", "thinking_tokens"])
    summary = f"Tokens per row: {_medians(table)}."
    return _bars(table[table["quantile"] == "median"], "value", "kind", summary, table)


def dollars(details: pd.DataFrame) -> Plot:
    """Draw the US dollars per row, from the details of a run."""
    table = frames.quantiles(details, ["dollars"])
    summary = f"US dollars per row: {_medians(table)}."
    return _bars(table, "value", "quantile", summary)


def shards(timeline: list[dict[str, Any]]) -> Plot:
    """Draw when each shard was asked for and was here, from the timeline of a run."""
    import altair as alt

    kinds = {"shard": "count", "rows": "count", "began": "time", "here": "time"}
    table = frames.table(timeline, kinds)
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
