"""The server and everybody else who uses it: what is true, whatever anybody was told.

The emulator keeps the truth. Around it: new batches show up in the list late, requests arrive
after their sender gave up, and other people in the workspace send batches of the same size as
ours, some with the very same questions, before and after.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

import httpx2
import orjson

from claude_batch_pandas.emulator import Emulator, Rule
from tests.simulator.turns import Turns

URL = "https://api.anthropic.com/v1/messages/batches"
KEY = "key-of-the-simulator"
UNBILLED = {"errored", "expired", "canceled"}
OUTCOMES = ["errored", "errored", "expired", "canceled", "refusal", "max_tokens"]
ERRORS = ["api_error", "overloaded_error", "invalid_request_error", "rate_limit_error"]


@dataclass(kw_only=True)
class Settings:
    """What a schedule's world is like."""

    duration: float  # of a batch, in seconds
    # Together always below settle_seconds, which is what the promise rests on.
    delay: float  # until a request arrives whose sender gave up, at most
    lag: float  # until a batch shows up in the list, at most
    bad_rows: float  # how many of the requests get no good answer
    decoys: float  # how readily others send batches
    deletions: float  # how readily they delete them
    page: int  # batches the list gives at once


@dataclass(eq=False)
class World:
    """One server.

    Attributes
    ----------
    ours : dict of str to str
        The batches that our kernels created, and who did.
    foreign_cancels : list of str
        Batches of others that our kernels canceled.
    damaged : Counter
        How many bad downloads of a batch were served.
    """

    turns: Turns
    settings: Settings
    dice: Random
    texts: list[str]  # what is asked
    ours: dict[str, str] = field(default_factory=dict)
    foreign_cancels: list[str] = field(default_factory=list)
    damaged: Counter[str] = field(default_factory=Counter)
    emulator: Emulator = field(init=False)
    _visible: dict[str, float] = field(default_factory=dict)  # from when on the list shows it
    _decoys: int = 0

    def __post_init__(self) -> None:
        self.emulator = Emulator(
            clock=lambda: self.turns.now, duration=self.settings.duration, max_queue=None
        )
        self._transport = self.emulator.transport()
        for _ in range(2):  # before ours
            if self.dice.random() < self.settings.decoys:
                self._send_decoy(self.dice.randrange(1, 6))

    def deliver(
        self, request: httpx2.Request, sender: str, *, at_once: bool = False
    ) -> httpx2.Response:
        """Let a request of ours arrive; return the answer, whether or not anybody hears it.

        With `at_once`, what it creates shows up in the list at once.
        """
        path = request.url.path
        if request.method == "POST" and path.endswith("/batches"):
            return self._create(request, sender, at_once=at_once)
        if request.method == "POST" and path.endswith("/cancel"):
            batch_id = path.split("/")[-2]
            if batch_id not in self.ours:
                self.foreign_cancels.append(batch_id)
        if path.endswith("/batches"):
            return self._list(request)
        return self._answer(request)

    def results(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Return the batch, the text and the result of every request of ours, oldest first."""
        found = []
        for batch in self.emulator.batches:
            if batch.id not in self.ours:
                continue
            texts = {
                request["custom_id"]: request["params"]["messages"][-1]["content"]
                for request in batch.requests
            }
            for line in b"".join(batch.blocks()).splitlines():
                told = orjson.loads(line)
                found.append((batch.id, texts[told["custom_id"]], told["result"]))
        return found

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        response = self._transport.handle_request(request)
        response.read()
        return response

    def _create(self, request: httpx2.Request, sender: str, *, at_once: bool) -> httpx2.Response:
        before = len(self.emulator.batches)
        self.emulator.rules = self._rules()
        response = self._answer(request)
        self.emulator.rules = ()
        for batch in self.emulator.batches[before:]:
            self.ours[batch.id] = sender
            self.turns.note("server", f"created {batch.id[-6:]} of {batch.custom_ids}")
            self._show(batch.id, at_once=at_once)
            if self.dice.random() < self.settings.decoys:
                later = self.turns.now + self.dice.choice([0.0, 1.0, 100.0, 2000.0])
                self.turns.at(later, partial(self._send_decoy, batch.total))
        return response

    def _rules(self) -> tuple[Rule, ...]:
        """Decide what becomes of the requests of the next batch."""
        dice = self.dice
        bad = [text for text in self.texts if dice.random() < self.settings.bad_rows]
        return tuple(
            Rule(outcome=dice.choice(OUTCOMES), error_type=dice.choice(ERRORS), contains=text)
            for text in bad
        )

    def _show(self, batch_id: str, *, at_once: bool) -> None:
        is_late = self.dice.random() < 0.5 and not at_once
        lag = self.dice.uniform(0.0, self.settings.lag) if is_late else 0.0
        self._visible[batch_id] = self.turns.now + lag

    def _list(self, request: httpx2.Request) -> httpx2.Response:
        """Answer with what is visible by now, in pages of the settings' size."""
        if int(request.url.params["limit"]) > self.settings.page:
            request.url = request.url.copy_set_param("limit", self.settings.page)
        hidden = [
            batch
            for batch in self.emulator.batches
            if not batch.deleted and self._visible[batch.id] > self.turns.now
        ]
        for batch in hidden:
            batch.deleted = True
        try:
            return self._answer(request)
        finally:
            for batch in hidden:
                batch.deleted = False

    def _send_decoy(self, total: int) -> None:
        """Let a colleague send a batch, perhaps with the same package and questions."""
        self._decoys += 1
        nonce = f"{self.dice.getrandbits(64):016x}"
        is_alike = self.dice.random() < 0.5
        requests = [
            {
                "custom_id": f"{nonce}-01-{i:08d}-{nonce}" if is_alike else f"row-{i}",
                "params": {
                    "model": "claude-haiku-5-5",
                    "max_tokens": 4096,
                    "messages": [{"role": "user", "content": self.dice.choice(self.texts)}],
                },
            }
            for i in range(total)
        ]
        headers = {"x-api-key": KEY, "content-type": "application/json"}
        self._answer(
            httpx2.Request(
                "POST", URL, headers=headers, content=orjson.dumps({"requests": requests})
            )
        )
        batch = self.emulator.batches[-1]
        self.turns.note("server", f"others created {batch.id[-6:]} of {total}")
        self._show(batch.id, at_once=False)
        if self.dice.random() < self.settings.deletions:

            def delete() -> None:
                self.turns.note("server", f"others deleted {batch.id[-6:]}")
                batch.deleted = True

            self.turns.at(self.turns.now + self.dice.uniform(0.0, 4000.0), delete)
