"""Pictures of a run: what was answered, what rows cost, when shards ran. The only file with Matplotlib.

A picture is pixels that every notebook shows and every saved file keeps, without a script and
without a request to anybody. The words and the table that come with it are for whoever sees none.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Sequence
from decimal import Decimal
from html import escape
from typing import TYPE_CHECKING, Any

from claude_batch_pandas import frames, money
from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.progress import duration
from claude_batch_pandas.words import visible

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("answers", "tokens", "dollars", "shards")
MOST_BARS = 20
FEW_DAYS = 6  # whose names fit beside each other
LONGEST_LABEL = 40  # characters of an answer beside its bar
BINS = 30
BAR_POINTS = 10
WIDTH, ROW_HEIGHT, LEAST_HEIGHT = 7.0, 0.28, 2.2  # inches
DOTS = 110  # per inch
TOKENS = ["input_tokens", "output_tokens", "thinking_tokens"]
INSTALL = "Plots need Matplotlib: pip install 'claude-batch-pandas[plots]'."


class Plot:
    """A picture, its numbers, and what they say.

    Attributes
    ----------
    figure : matplotlib.figure.Figure
    table : pandas.DataFrame
        What is drawn, or its quantiles.
    summary : str
    """

    def __init__(self, figure: Any, table: pd.DataFrame, summary: str) -> None:
        self.figure, self.table, self.summary = figure, table, summary

    def __repr__(self) -> str:
        return self.summary

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:  # noqa: ARG002 - IPython's
        data = base64.b64encode(self.png()).decode()
        image = f'<img alt="{escape(self.summary)}" src="data:image/png;base64,{data}">'
        table = frames.plain_html(self.summary, self.table)
        return {
            "image/png": data,
            "text/html": f"{image}<details><summary>Numbers</summary>{table}</details>",
            "text/plain": self.summary,
        }

    def png(self) -> bytes:
        """Return the picture as PNG."""
        file = io.BytesIO()
        with warnings.catch_warnings():
            # A letter that no font here has is drawn as a box; the table has it.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            self.figure.savefig(file, format="png", dpi=DOTS)
        return file.getvalue()


def check(what: Any) -> None:
    """Refuse what cannot be drawn, or not here.

    Raises
    ------
    InputError
    """
    if what not in KINDS:
        msg = f"what must be one of {', '.join(KINDS)}, not {what!r}."
        raise InputError(msg)
    check_installed()


def check_installed() -> None:
    """Refuse to draw without Matplotlib.

    Raises
    ------
    InputError
    """
    try:
        import matplotlib as mpl  # noqa: F401 - to see whether it is there
    except ImportError:
        raise InputError(INSTALL) from None


def answers(columns: pd.DataFrame, fields: Sequence[str], column: str | None = None) -> Plot:
    """Draw how often each answer was given, from the columns of a run.

    Parameters
    ----------
    columns : pandas.DataFrame
    fields : sequence of str
        Those that hold answers; of several choices a row, each choice is one.
    column : str, optional
        Which of them. Default: the first; all of them, where they are choices.

    Raises
    ------
    InputError
    """
    if column is not None and column not in fields:
        msg = f"column must be one of {', '.join(fields)}, not {column!r}."
        raise InputError(msg)
    if column is None and len(fields) > 1 and frames.are_flags(columns, fields):
        name, table = "choices", frames.tally_flags(columns, fields)
    else:
        name = column or fields[0]
        table = frames.tally(columns[name], MOST_BARS)
    words = ", ".join(f"{row.answer} {row.rows:,}" for row in table.head(5).itertuples())
    rows = int(table["rows"].sum())
    summary = visible(f"{name}: {rows:,} rows with an answer; most often {words or 'none'}.")
    figure, axes = _figure(len(table))
    axes.barh(range(len(table)), table["rows"].tolist())
    _name_bars(axes, table["answer"].tolist())
    axes.set_xlabel("rows")
    return Plot(figure, table, summary)


def tokens(details: pd.DataFrame) -> Plot:
    """Draw the tokens per row, from the details of a run."""
    table = frames.quantiles(details, TOKENS)
    figure, axes = _figure(0)
    for kind in TOKENS:
        values = frames.numbers(details[kind])
        if values and any(values):
            axes.hist(values, bins=BINS, alpha=0.6, label=kind)
    if axes.has_data():
        axes.legend()
    axes.set_xlabel("tokens per row")
    axes.set_ylabel("rows")
    return Plot(figure, table, f"Tokens per row: {_medians(table)}.")


def dollars(details: pd.DataFrame) -> Plot:
    """Draw the US dollars per row, from the details of a run."""
    table = frames.quantiles(details, ["dollars"])
    figure, axes = _figure(0)
    axes.hist(frames.numbers(details["dollars"]), bins=BINS)
    axes.set_xlabel("US dollars per row")
    axes.set_ylabel("rows")
    return Plot(figure, table, f"US dollars per row: {_medians(table)}.")


def shards(timeline: Sequence[dict[str, Any]]) -> Plot:
    """Draw when each shard was asked for and was here, from the timeline of a run."""
    kinds = {"shard": "count", "rows": "count", "began": "time", "here": "time"}
    table = frames.table(timeline, kinds)
    figure, axes = _figure(min(len(table), MOST_BARS))
    start = min((shard["began"] for shard in timeline), default=0.0)
    begins = [(shard["began"] - start) / 60 for shard in timeline]
    ends = [(shard["here"] - start) / 60 for shard in timeline]
    width = BAR_POINTS if len(table) <= MOST_BARS else 1
    axes.hlines([shard["shard"] for shard in timeline], begins, ends, linewidth=width)
    axes.set_xlabel("minutes since the first was sent")
    axes.set_ylabel("shard")
    axes.invert_yaxis()
    longest = max((end - begin for begin, end in zip(begins, ends, strict=True)), default=0.0)
    summary = (
        f"{len(table):,} shards, {int(table['rows'].sum()):,} requests; the longest took "
        f"{duration(60 * longest)}, all of them {duration(60 * max(ends, default=0.0))}."
    )
    return Plot(figure, table, summary)


def spending(costs: pd.DataFrame, by: str | None) -> Plot:
    """Draw the US dollars of each day, from the costs of a ledger.

    Parameters
    ----------
    costs : pandas.DataFrame
        By ``day``, and by `by` where that is given.
    by : str or None
        What each bar is divided by.
    """
    days = sorted(set(costs["day"]))
    figure, axes = _figure(0)
    below = dict.fromkeys(days, 0.0)
    for name, part in [("dollars", costs)] if by is None else costs.groupby(by, sort=True):
        spent = dict(zip(part["day"], part["dollars"], strict=True))
        heights = [spent.get(day, 0.0) for day in days]
        axes.bar(range(len(days)), heights, bottom=[*below.values()], label=visible(str(name)))
        below = {day: below[day] + height for day, height in zip(days, heights, strict=True)}
    axes.set_xticks(range(len(days)), days, rotation=45 if len(days) > FEW_DAYS else 0)
    axes.set_ylabel("US dollars")
    if by is not None and days:
        axes.legend()
    dearest = max(below, key=lambda day: below[day], default="")
    summary = (
        f"{money.show(_exact(costs['dollars'].sum()))} on {len(days):,} days"
        + (f"; most on {dearest}: {money.show(_exact(below[dearest]))}" if days else "")
        + f"; {money.show(_exact(costs['saved_dollars'].sum()))} less than live."
    )
    return Plot(figure, costs, summary)


def _exact(dollars: float) -> Decimal:
    return Decimal(str(dollars))


def _figure(bars: int) -> tuple[Any, Any]:
    """Return a figure that no global state knows, and its axes."""
    from matplotlib.figure import Figure

    height = max(LEAST_HEIGHT, ROW_HEIGHT * bars + 0.8)
    figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor="white")
    return figure, figure.subplots()


def _name_bars(axes: Any, names: Sequence[str]) -> None:
    """Write names beside bars, the first on top; a dollar sign in them is one, and no formula."""
    short = [
        name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL - 3]}..."
        for name in map(visible, names)
    ]
    axes.set_yticks(range(len(short)), short)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.invert_yaxis()


def _medians(table: pd.DataFrame) -> str:
    middle = table[table["quantile"] == "median"]
    return (
        ", ".join(f"{row.kind} {row.value:,.6g} (median)" for row in middle.itertuples()) or "none"
    )
