"""Requests that are asked now, through the Messages API, at the live price: canaries and samples.

A canary is one real row of a large run. Its answer proves that the API takes the parameters of all
rows like it, which a batch would only tell when it ends. What is lost here cannot be found again,
so it is recorded before it is sent, and told.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

from claude_batch_pandas import requests, resending
from claude_batch_pandas.causes import Cause, cause_of
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import (
    ENDLESS,
    NOT_FOUND,
    OWN_CODES,
    APIError,
    CredentialsError,
    PausedError,
)
from claude_batch_pandas.polling import SPENT, explain
from claude_batch_pandas.records import RowStatus, RunRecord, Shard
from claude_batch_pandas.reserving import Reserver
from claude_batch_pandas.results import Result
from claude_batch_pandas.shapes import shape_of
from claude_batch_pandas.spool import write
from claude_batch_pandas.waits import Waits

AT_ONCE = 4  # samples that are asked side by side
CANARY_SECONDS = 120.0  # to wait for a canary; longer is no help
SAMPLE_SECONDS = 600.0
MOST_TRIES = 3  # of a sample that the API is too busy for
WRONG = frozenset({400, NOT_FOUND, 413, 422})  # the same request fails the same way
UNSIGNED = frozenset({401, 402, 403})  # a person is needed
MISSING = ("model", "file", "File")  # of which a 404 tells that the request is wrong
FENCE = "live"  # no batch is looked for

Outcome = bytes | APIError | CredentialsError


@dataclass(slots=True)
class Asker:
    """Asks the live shards of one run.

    Parameters
    ----------
    engine : Engine
    waits : Waits
    """

    engine: Engine
    waits: Waits
    _tries: dict[int, int] = field(default_factory=dict)
    _reserver: Reserver = field(init=False)

    def __post_init__(self) -> None:
        self._reserver = Reserver(self.engine)

    def ask(self, record: RunRecord, shards: Sequence[Shard]) -> dict[int, PausedError]:
        """Ask the requests of some planned shards, and keep what comes of each.

        Parameters
        ----------
        record : RunRecord
        shards : sequence of Shard

        Returns
        -------
        dict of int to PausedError
            By number, those that need a person.

        Raises
        ------
        LedgerError
        """
        lines = {shard.number: resending.only_line(self.engine.spool, shard) for shard in shards}
        pauses: dict[int, PausedError] = {}
        failure: Exception | None = None
        intended: list[Shard] = []
        for shard in shards:
            try:
                if self._intend(record, shard):
                    intended.append(shard)
            except PausedError as full:
                if not intended:  # else what those come to is known in a moment
                    pauses[shard.number] = full
                break
        for shard, outcome in self._outcomes(intended, lines):
            try:
                self._keep(record, shard, lines[shard.number], outcome)
            except PausedError as pause:
                pauses[shard.number] = pause
            except Exception as error:  # noqa: BLE001 - what the others brought is kept first
                failure = error
        if failure is not None:
            raise failure
        return pauses

    def _outcomes(
        self, shards: Sequence[Shard], lines: Mapping[int, bytes]
    ) -> Iterator[tuple[Shard, Outcome]]:
        """Send requests side by side; yield what comes of each as soon as it is here."""
        if len(shards) == 1:  # a canary; a script that ends has no pools any more, but this thread
            [shard] = shards
            yield shard, self._send(shard, lines[shard.number])
            return
        alone: list[Shard] = []
        sent: dict[Future[Outcome], Shard] = {}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for shard in shards:
                try:
                    sent[pool.submit(self._send, shard, lines[shard.number])] = shard
                except RuntimeError:  # as there
                    alone.append(shard)
            for shard in alone:
                yield shard, self._send(shard, lines[shard.number])
            for future in as_completed(sent):
                yield sent[future], future.result()

    def _intend(self, record: RunRecord, shard: Shard) -> bool:
        cap, now = self._reserver.cap(record, shard), self.engine.clock.now()
        return self.engine.store.mark_submitting(shard, FENCE, now, cap)

    def _send(self, shard: Shard, line: bytes) -> Outcome:
        seconds = CANARY_SECONDS if shard.shape else SAMPLE_SECONDS
        try:
            return self.engine.client.answer(requests.params_of(line), shard.betas, seconds)
        except (APIError, CredentialsError) as error:
            return error

    def _keep(self, record: RunRecord, shard: Shard, line: bytes, outcome: Outcome) -> None:
        store = self.engine.store
        if isinstance(outcome, bytes):
            message = _at_live_price(json.loads(outcome))
            self._collect(shard, line, {"type": "succeeded", "message": message})
            store.remember_passed(record.scope, shape_of(line), self.engine.clock.now())
            return
        if isinstance(outcome, CredentialsError):
            store.mark_planned(shard)
            raise PausedError(str(outcome))
        # The API's own error, or proof that nothing was sent: then nothing was answered either.
        is_told = outcome.type is not None or outcome.code in OWN_CODES - {ENDLESS}
        if shard.shape:
            self._keep_canary(shard, outcome, is_told=is_told)
        else:
            self._keep_sample(shard, line, outcome, is_told=is_told)

    def _keep_canary(self, shard: Shard, error: APIError, *, is_told: bool) -> None:
        store = self.engine.store
        is_known = error.status != NOT_FOUND or any(word in str(error) for word in MISSING)
        if is_told and error.status in WRONG and is_known and not _is_unpaid(error):
            store.mark_planned(shard)
            msg = (
                f"The first row was asked alone, and the API refuses it: {error} Nothing else was "
                "sent. Mend the call and run it again; canary=False sends all rows without it."
            )
            raise PausedError(msg)
        # Any other trouble is no news about the parameters: the row goes the way of the others.
        store.mark_unlive(shard, lost=not is_told)

    def _keep_sample(self, shard: Shard, line: bytes, error: APIError, *, is_told: bool) -> None:
        store, agenda = self.engine.store, self.waits.agenda(shard)
        if not is_told:
            self.give_up(shard)
            return
        tries = self._tries[shard.number] = self._tries.get(shard.number, 0) + 1
        if error.status in UNSIGNED or error.code in OWN_CODES or error.code in SPENT:
            store.mark_planned(shard)
            raise PausedError(explain(error, is_sending=True))
        if error.status in WRONG or tries >= MOST_TRIES:
            inner = {"type": error.type, "message": str(error)}
            told = {"type": "error", "error": inner, "request_id": error.request_id}
            self._collect(shard, line, {"type": "errored", "error": told})
            return
        store.mark_planned(shard)
        self.waits.weather(error, agenda)

    def _collect(self, shard: Shard, line: bytes, result: dict[str, Any]) -> None:
        """Keep an outcome as the results of a batch of one."""
        whole = {"custom_id": requests.id_of(line), "result": result}
        data = json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
        path = self.engine.spool.results(shard.run_id, shard.number)
        self.engine.store.mark_collected(shard, write(path, data + b"\n"), complete=True)

    def give_up(self, shard: Shard) -> None:
        """Settle a request whose answer was lost: a canary's row is asked again, and it is told."""
        store = self.engine.store
        if shard.shape:
            store.mark_unlive(shard, lost=True)
            return
        path = self.engine.spool.results(shard.run_id, shard.number)
        store.mark_collected(shard, write(path, b""), complete=False)


def _at_live_price(message: Any) -> Any:
    """Return a message that says how it was served; a relay may leave that out."""
    usage = message.get("usage") if isinstance(message, dict) else None
    if isinstance(usage, dict) and usage.get("service_tier") is None:
        usage["service_tier"] = "standard"
    return message


def _is_unpaid(error: APIError) -> bool:
    """Tell whether it is about money, which says nothing of the parameters."""
    result = Result(RowStatus.ERRORED, error=str(error), error_type=error.type)
    return error.code in SPENT or cause_of(result) is Cause.UNPAID


def next_live(shards: Sequence[Shard]) -> list[Shard]:
    """Return the live shards that are asked next: canaries one by one, samples side by side."""
    planned = [shard for shard in shards if shard.live]
    return planned[: 1 if planned and planned[0].shape else AT_ONCE]
