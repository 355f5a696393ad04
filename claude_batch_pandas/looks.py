"""What a person sees of a run: its card, its rows, its plots."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from claude_batch_pandas import accounts
from claude_batch_pandas.cards import Card
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import BatchError
from claude_batch_pandas.joining import Join
from claude_batch_pandas.records import Progress, RunRecord, RunState, ShardState
from claude_batch_pandas.workers import Crew, Worker

if TYPE_CHECKING:
    import pandas as pd

    from claude_batch_pandas.plots import Plot

HEAD_ROWS = 5  # that a card shows of a partial result


class Looks:
    """The part of a `Run` that shows something."""

    id: str
    _engine: Engine
    _crew: Crew
    _join: Join
    _worker: Worker | None
    _was_over: bool
    _is_detached: bool
    _failure: BaseException | None
    _tally: accounts.Tally | None = None  # for the card
    _foreseen: str = ""  # its estimate

    if TYPE_CHECKING:  # what the whole has

        @property
        def _record(self) -> RunRecord: ...

        @property
        def _left(self) -> str: ...

        @property
        def progress(self) -> Progress: ...  # noqa: D102 - told there

        def cancel(self) -> Any: ...  # noqa: D102 - told there

        def detach(self) -> Any: ...  # noqa: D102 - told there

        def columns(self, df: Any = None) -> pd.DataFrame: ...  # noqa: D102 - told there

        def details(self) -> pd.DataFrame: ...  # noqa: D102 - told there

        def _refuse_gone(self) -> None: ...

        def _drive(self) -> Worker: ...

    def show(self) -> None:
        """Show the run's card here: live while the run goes on, plain HTML when it is over."""
        from claude_batch_pandas import following, widgets

        if not widgets.in_notebook():
            print(self)  # noqa: T201 - as a person asked
            return
        if not self.progress.is_over and not self._is_detached:
            self._drive()
        following.Follower(self, self._engine.clock).start()

    def inspect(self) -> None:
        """Page through the rows: the request as it was sent, the answer, the status, the tokens.

        In a notebook, with a filter by status and words; elsewhere the first rows are printed.

        Raises
        ------
        LedgerError
            When files of the run are damaged.
        """
        from claude_batch_pandas import widgets
        from claude_batch_pandas.inspecting import ALL, Inspection

        self._refuse_gone()
        record = self._record
        rows = Inspection(record, self._engine, [*map(str, self._join.index(record))])
        if not widgets.in_notebook():
            print(rows.first_text())  # noqa: T201 - as a person asked
            return
        still = rows.first_html()
        widgets.Pages([ALL, *rows.statuses], rows.find, rows.html, still).show()

    def plot(self, what: str = "answers", column: str | None = None) -> Plot:
        """Draw something about the run, with the extra ``plots``.

        Parameters
        ----------
        what : {"answers", "tokens", "dollars", "shards"}
            How often each answer was given; tokens or US dollars per row; when each shard ran.
        column : str, optional
            Of several columns of answers, which. Default: the first; of several labels, all.

        Returns
        -------
        Plot
            Shows itself in a notebook; has ``figure`` (Matplotlib), ``table`` and ``summary``.

        Raises
        ------
        InputError
            For anything else, or when Matplotlib is not installed.
        """
        from claude_batch_pandas import plots

        self._refuse_gone()
        plots.check(what)
        fields = [field.name for field in self._engine.reader().output(self._record).fields]
        makers = {
            "answers": lambda: plots.answers(self.columns(), fields, column),
            "tokens": lambda: plots.tokens(self.details()),
            "dollars": lambda: plots.dollars(self.details()),
            "shards": lambda: plots.shards(accounts.timeline(self._record, self._engine)),
        }
        return makers[what]()

    def _ipython_display_(self) -> None:
        self.show()

    def _repr_html_(self) -> str:
        return self.card(self.progress).html()  # for what shows HTML and is no Jupyter, as marimo

    def card(self, progress: Progress, *, is_waited_for: bool = False) -> Card:
        """Return what the run's card shows of a progress."""
        record = self._record
        if progress.state is RunState.PURGED:
            return Card(progress, record.model)
        if self._tally is None:
            self._tally = accounts.Tally(self.id, self._engine)
            found = accounts.foreseen(record, self._engine)
            self._foreseen = "" if found is None else found.words
        statuses, bill = self._tally.take()
        dollars = f"{bill} so far" if statuses else ""
        if progress.state is RunState.ENDED and not progress.summary:
            line, _ = accounts.closing_line(record, self._engine, self._was_over)
            progress = replace(progress, summary=line)
        return Card(progress, record.model, statuses, dollars, self._foreseen, is_waited_for)

    def headline(self) -> str:
        """Return what is sent and about what it costs, in a line; empty when nothing is."""
        record = self._record
        if record.state is RunState.ENDED:
            return ""
        found = accounts.foreseen(record, self._engine)
        return "" if found is None else f"{self.id}: {found.line}"

    def preview_html(self) -> str:
        """Return the first rows that are here as HTML; nothing is waited for."""
        shards = self._engine.store.shards(self.id)
        if not any(shard.state is ShardState.COLLECTED for shard in shards):
            return "<p>No results are here yet.</p>"
        told = "run.result(partial=True) gives what is here so far."
        whole = self.columns(self._join.planned)
        status = f"{self._record.output}_status"
        here = whole[whole[status] != "processing"]
        table: str = here.head(HEAD_ROWS).to_html(notebook=True)
        return f"<p>{len(here):,} of {len(whole):,} rows are here; {told}</p>{table}"

    def parting(self) -> str:
        """Return why this process does not follow the run any more; empty while it does."""
        if self._crew.at_work(self.id) is not None:
            return ""
        failure = self._failure if self._worker is None else self._worker.failure
        return self._left if failure is None else why(failure)


def why(failure: BaseException) -> str:
    """Return why something ended, for a card; another's exception may hold anything, so its name."""
    if isinstance(failure, BatchError):
        return str(failure)
    return f"stopped: {type(failure).__name__}"
