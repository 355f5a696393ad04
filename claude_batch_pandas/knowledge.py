"""What a model accepts, asked of the API at most once a day, and else of the shipped table."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from claude_batch_pandas.abilities import Abilities, shipped, told
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import APIError

KEPT_SECONDS = 86_400.0  # a day; models are announced, and retired, by the day


@dataclass(slots=True)
class Knowledge:
    """Answers what a model accepts; call it with the model's name.

    Parameters
    ----------
    engine : callable
        Returns the engine.
    origin : str
        Of the API whose word, as the ledger remembers it, has to do, however old; when empty, the
        API is asked.

    Raises
    ------
    CredentialsError
        When the API has to be asked and there is nothing to sign with.
    """

    engine: Callable[[], Engine]
    origin: str = ""
    _known: dict[str, Abilities] = field(default_factory=dict)

    def __call__(self, model: str) -> Abilities:
        """Return what a model accepts."""
        if model not in self._known:
            self._known[model] = self._find(model)
        return self._known[model]

    def _find(self, model: str) -> Abilities:
        engine = self.engine()
        origin, now = self.origin or engine.client.origin, engine.clock.now()
        kept = engine.store.model_info(origin, model)
        # A clock that was set back since must not keep an answer for years.
        is_fresh = kept is not None and abs(now - kept[0]) < KEPT_SECONDS
        if kept is not None and (is_fresh or self.origin):
            return _read(kept[1], model)
        if self.origin:
            return shipped(model)
        try:
            info = engine.client.model(model)
        except APIError as error:
            if not error.is_missing:
                return shipped(model) if kept is None else _read(kept[1], model)
            info = {}  # a relay without models, or a model that the API does not know
        text = json.dumps(info)
        engine.store.remember_model(origin, model, text, now)
        return _read(text, model)


def _read(text: str, model: str) -> Abilities:
    return told(json.loads(text), model)
