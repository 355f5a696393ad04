"""What was spent: over all runs of this ledger, by day, model, run or key."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from claude_batch_pandas import accounts, frames, money, plots, session
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.records import RowStatus, RunRecord, RunState
from claude_batch_pandas.report import TOKENS
from claude_batch_pandas.results import Result

if TYPE_CHECKING:
    import pandas as pd

    from claude_batch_pandas.plots import Plot

KINDS = ("day", "model", "run", "key", "origin")
SUMS = {
    "rows": "count",
    **dict.fromkeys(TOKENS, "count"),
    "dollars": "number",
    "live_dollars": "number",
    "saved_dollars": "number",
    "unpriced_rows": "count",
}


@dataclass(slots=True)
class Spent:
    """What some requests came to."""

    rows: int = 0
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOKENS, 0))
    dollars: Decimal = Decimal(0)
    live: Decimal = Decimal(0)
    unpriced: int = 0

    def add(self, paid: Sequence[Result] | money.Bill) -> None:
        """Count in the results of some requests, or what was paid for answers nobody needed."""
        if isinstance(paid, money.Bill):
            self.dollars += paid.dollars
            self.unpriced += paid.unpriced
            return
        results = [result for result in paid if result.status is not RowStatus.PROCESSING]
        bill, live = money.bill(results), money.bill(results, as_live=True)
        self.rows += len(results)
        self.dollars += bill.dollars
        self.live += live.dollars
        self.unpriced += bill.unpriced
        for result in results:
            for kind in TOKENS if result.usage is not None else ():
                self.tokens[kind] += getattr(result.usage, kind) or 0

    def row(self) -> dict[str, Any]:
        """Return the sums as columns."""
        return {
            "rows": self.rows,
            **self.tokens,
            "dollars": float(self.dollars),
            "live_dollars": float(self.live),
            "saved_dollars": float(self.live - self.dollars),
            "unpriced_rows": self.unpriced,
        }


def costs(by: str | Sequence[str] = "day") -> pd.DataFrame:
    """Return what the runs of this ledger have cost, by what is on this disk.

    Answers that were reused were paid by the run that asked; what was purged is not counted.

    Parameters
    ----------
    by : {"day", "model", "run", "key", "origin"} or list of them, default "day"
        The day (ISO 8601, local) on which a run was made; the model that answered; the run's id;
        the workspace of the key, or a keyed fingerprint where the API names none; the server,
        since an emulator on this machine is one, too.

    Returns
    -------
    pandas.DataFrame
        The groups as string columns; ``rows`` (results, of each attempt) and tokens by kind (int64);
        US dollars (float64): ``dollars`` paid, ``live_dollars`` that the Messages API would have
        cost, ``saved_dollars``; and ``unpriced_rows``, whose price is unknown and whose dollars are
        in none of the sums.

    Raises
    ------
    InputError
    LedgerError
        When files of a run are damaged.
    """
    kinds = [by] if isinstance(by, str) else list(by)
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds or len(set(kinds)) < len(kinds):
        msg = f"by must be one or more of {', '.join(KINDS)}, each once, not {by!r}."
        raise InputError(msg)
    engine = session.build_engine(None)
    groups: dict[tuple[str, ...], Spent] = {}
    for names, paid in _parts(engine):
        spent = groups.setdefault(tuple(names[kind] for kind in kinds), Spent())
        spent.add(paid)
    rows = [
        {**dict(zip(kinds, group, strict=True)), **spent.row()}
        for group, spent in sorted(groups.items())
    ]
    return frames.table(rows, {**dict.fromkeys(kinds, "text"), **SUMS})


def plot_costs(by: str | None = None) -> Plot:
    """Draw what the runs of this ledger have cost, day by day.

    Parameters
    ----------
    by : {"model", "run", "key", "origin"}, optional
        What the bar of a day is divided by.

    Returns
    -------
    Plot
        Shows the picture; ``.table`` has its numbers (as `costs`), ``.summary`` says it in words.

    Raises
    ------
    InputError
        Also where Matplotlib is not installed (extra ``plots``).
    """
    plots.check_installed()
    return plots.spending(costs("day" if by is None else ["day", by]), by)


def _parts(engine: Engine) -> Iterator[tuple[dict[str, str], list[Result] | money.Bill]]:
    """Yield what each run sent itself, by the model that answered, and what it paid twice."""
    for record in engine.store.runs():
        if record.state is RunState.PURGED or not engine.spool.folder(record.id).is_dir():
            continue
        names = {
            "day": _day(record),
            "run": record.id,
            "key": record.scope.workspace,
            "origin": record.scope.origin,
        }
        for model, results in _by_model(accounts.own(record, engine), record.model).items():
            yield {**names, "model": model}, results
        twice = accounts.twice(record, engine)
        if twice is not None:
            yield {**names, "model": record.model}, twice


def _by_model(results: Iterable[Result], asked: str) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.model or asked, []).append(result)
    return found


def _day(record: RunRecord) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(record.created_at))
