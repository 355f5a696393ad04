"""The Messages API beside the batches: one answer at once, and the size of a prompt."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import orjson
from werkzeug.wrappers import Response

from claude_batch_pandas.emulator.answers import message
from claude_batch_pandas.emulator.caches import CacheUse, PromptCache
from claude_batch_pandas.emulator.errors import RefusedError, status_of
from claude_batch_pandas.emulator.files import FileStore
from claude_batch_pandas.emulator.model_endpoints import find_model
from claude_batch_pandas.emulator.models import cache_minimum
from claude_batch_pandas.emulator.params import COUNT, MESSAGES, Endpoint, params_error
from claude_batch_pandas.emulator.prefixes import boundaries
from claude_batch_pandas.emulator.prompts import read
from claude_batch_pandas.emulator.rules import Rule
from claude_batch_pandas.emulator.sources import Find
from claude_batch_pandas.emulator.wire import REQUEST_PREFIX, Visit, answer

MAX_BYTES = 32_000_000

# What can only become of a request that waits in a batch.
_BATCH_ONLY = {"expired", "canceled", "unknown_type"}


class MessageEndpoints:
    """Answers /v1/messages and /v1/messages/count_tokens.

    Parameters
    ----------
    clock : callable
        Returns the seconds since 1970.
    cache : PromptCache
        Shared with the batches.
    files : FileStore
        What requests may name.
    """

    def __init__(self, clock: Callable[[], float], cache: PromptCache, files: FileStore) -> None:
        self._clock = clock
        self._cache = cache
        self._files = files
        self._positions = count()

    def create(self, visit: Visit) -> Response:
        """Answer POST /v1/messages."""
        find = self._files.finder(visit.workspace)
        params = _read_params(visit.body, MESSAGES, find)
        rule = self._rule(visit.rules, params)
        if rule is not None and rule.outcome == "errored":
            raise RefusedError(status_of(rule.error_type), rule.message, type=rule.error_type)
        digest = visit.request_id.removeprefix(REQUEST_PREFIX)
        cached = self._use_cache(visit, params, find)
        return answer(message(params, rule, digest, cached, find, service_tier="standard"))

    def count(self, visit: Visit) -> Response:
        """Answer POST /v1/messages/count_tokens."""
        find = self._files.finder(visit.workspace)
        params = _read_params(visit.body, COUNT, find)
        return answer({"input_tokens": read(params, find).tokens})

    def _rule(self, rules: tuple[Rule, ...], params: dict[str, Any]) -> Rule | None:
        """Return the first rule that this call, the n-th, falls under."""
        position = next(self._positions)
        fitting = (rule for rule in rules if rule.outcome not in _BATCH_ONLY)
        return next((rule for rule in fitting if rule.matches(position, params)), None)

    def _use_cache(self, visit: Visit, params: dict[str, Any], find: Find) -> CacheUse:
        now = self._clock()
        return self._cache.use(
            visit.workspace,
            boundaries(params, find),
            minimum=cache_minimum(params["model"]),
            origin=visit.request_id,
            now=now,
            until=now,
        )


def _read_params(body: bytes | None, endpoint: Endpoint, find: Find) -> dict[str, Any]:
    if body is None or len(body) > MAX_BYTES:
        raise RefusedError(413, f"Request exceeds the maximum size of {MAX_BYTES} bytes")
    try:
        params = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedError(400, f"The request body is not valid JSON: {error}") from None
    if not isinstance(params, dict):
        raise RefusedError(400, "Input should be a valid dictionary")
    if problem := params_error(params, endpoint, find):
        raise RefusedError(400, problem.message, type=problem.type)
    find_model(params["model"])
    return params
