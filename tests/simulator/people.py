"""What people do with the package, through its public door, and what they do when told off."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pandas as pd

import claude_batch_pandas as cbp
from claude_batch_pandas.exceptions import BatchError
from claude_batch_pandas.results import UNREADABLE
from tests.simulator.machine import sdk
from tests.simulator.plans import Cell, Person
from tests.simulator.turns import Turns


@dataclass
class Deeds:
    """Whatever somebody does.

    Attributes
    ----------
    allowed : Counter
        How many times more than once each text may be billed, because a person said so.
    caps : dict of str to float
        The most that a run of a name was ever said to cost at most, in US dollars.
    """

    turns: Turns
    dice: Random
    allowed: Counter[str] = field(default_factory=Counter)
    caps: dict[str, float] = field(default_factory=dict)

    def do(self, what: str, cell: Cell) -> pd.DataFrame:
        """Do one thing with a cell; return what is seen then."""
        deed = {
            "ask": self._ask,
            "submit": self._submit,
            "cancel": self._cancel,
            "come back": self._come_back,
            "retry": self._retry,
        }[what]
        return deed(cell)

    def follow(self, person: Person, words: str) -> None:
        """Do what an error says, though it may cost something."""
        if told := re.search(r"claude_batch_pandas\.run\('([^']+)'\)\.wait\(\)", words):
            with contextlib.suppress(BatchError, KeyboardInterrupt):
                cbp.run(told[1], client=sdk()).wait()
            return
        _, cell = person.things[person.done]
        concerned = [cell]
        if "waits for answers of run" in words:  # it is the other cell that has to be run so
            concerned += [other for _, other in person.things if other.name in words]
            person.things[person.done : person.done] = [("ask", one) for one in concerned[1:]]
        if "max_cost=" in words:
            for one in concerned:
                one.max_cost, one.is_raised = 2 * (one.max_cost or 0.0), True
            return
        for one in concerned:
            if 'on_unknown="resend"' in words:
                one.on_unknown = "resend"
            elif "reuse=False" in words and one.reuse:
                one.reuse = False
            elif "reuse=False" in words:  # the run was made so; only another name is another
                one.name += "-again"

    def ask(self, cell: Cell, *, reuse: bool) -> pd.DataFrame:
        """Run the cell."""
        if not reuse:  # in so many words: ask again what may have been paid
            self.allowed.update(text for text in cell.texts if text is not None)
        out: pd.DataFrame = cell.frame.claude.batch(**self._arguments(cell, reuse=reuse))
        return out

    def _ask(self, cell: Cell) -> pd.DataFrame:
        return self.ask(cell, reuse=cell.reuse)

    def _start(self, cell: Cell) -> cbp.Run:
        if not cell.reuse:
            self.allowed.update(text for text in cell.texts if text is not None)
        run: cbp.Run = cell.frame.claude.submit(**self._arguments(cell, reuse=cell.reuse))
        return run

    def _submit(self, cell: Cell) -> pd.DataFrame:
        """Submit, and look at what is there a little later."""
        run = self._start(cell)
        self.turns.sleep(self.dice.choice([0.0, 1.0, 100.0, 10_000.0]))
        return run.result(cell.frame, partial=True)

    def _cancel(self, cell: Cell) -> pd.DataFrame:
        """Submit, and think better of it."""
        run = self._start(cell)
        with contextlib.suppress(cbp.WaitTimeoutError):
            run.wait(self.dice.choice([0.001, 1.0, 30.0, 1000.0]))
        return run.cancel().result(cell.frame)

    def _come_back(self, cell: Cell) -> pd.DataFrame:
        """Come back by the run's id, as long as nothing else was advised."""
        runs = cbp.runs()
        found = runs["id"][runs["name"] == cell.name]
        if len(found) and cell.reuse and cell.on_unknown is None and not cell.is_raised:
            return cbp.run(found.iloc[0], client=sdk()).result(cell.frame)
        return self._ask(cell)

    def _retry(self, cell: Cell) -> pd.DataFrame:
        """Ask what failed again; what was cut, or could not be read, may have been paid for."""
        run = self._start(cell)
        out = run.result(cell.frame)
        told: dict[str, Any] = {"canceled": self.dice.random() < 0.5}
        unreadable, cut = out["answer_error"] == UNREADABLE, out["answer_status"] == "truncated"
        if unreadable.any() and self.dice.random() < 0.5:
            told["missing"] = True
            self.allowed.update({*out["text"][unreadable]})
        if cut.any() and self.dice.random() < 0.5:
            told |= {"truncated": True, "max_tokens": 2 * _tokens(cell)}
            self.allowed.update({*out["text"][cut]})
        return run.retry(**told).result(cell.frame)

    def _arguments(self, cell: Cell, *, reuse: bool) -> dict[str, Any]:
        if cell.max_cost is not None:
            self.caps[cell.name] = max(cell.max_cost, self.caps.get(cell.name, 0.0))
        return {
            "template": "{text}",
            "name": cell.name,
            "shard_size": cell.shard_size,
            "reuse": reuse,
            "on_unknown": cell.on_unknown,
            "max_cost": cell.max_cost,
            "max_tokens": _tokens(cell),
            "client": sdk(),
        }


def _tokens(cell: Cell) -> int:
    """Return the tokens an answer may have: near those it has, where its dollars are counted."""
    return 4096 if cell.max_cost is None else 64
