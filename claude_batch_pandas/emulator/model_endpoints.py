"""The Models API: which models there are, and what they can do."""

from __future__ import annotations

from werkzeug.wrappers import Response

from claude_batch_pandas.emulator.catalog import ACTIVE, DEPRECATED, MODELS, Model, resolve
from claude_batch_pandas.emulator.errors import RefusedError
from claude_batch_pandas.emulator.pages import Shelf, listing, read_cursor
from claude_batch_pandas.emulator.wire import Visit, answer

_RETIRED = "retired"
_STAGES = {ACTIVE, DEPRECATED, _RETIRED}
_SHELF: Shelf[Model] = Shelf("model", MODELS)


def find_model(model_id: str) -> Model:
    """Return a model by its id or its alias, or refuse one that is not there."""
    model = _SHELF.get(resolve(model_id))
    if model is None:
        raise RefusedError(404, f"model: {model_id}")
    return model


def list_models(visit: Visit) -> Response:
    """Answer GET /v1/models."""
    query = visit.request.args
    # The SDK writes lists with brackets, people without.
    asked = {*query.getlist("lifecycle"), *query.getlist("lifecycle[]")}
    if unknown := asked - _STAGES:
        raise RefusedError(
            400, f"lifecycle: Input should be one of {sorted(_STAGES)}, not {min(unknown)!r}"
        )
    stages = asked or {ACTIVE, DEPRECATED}
    page, more = _SHELF.page(read_cursor(query), lambda model: model.lifecycle in stages)
    return answer(listing([model.describe() for model in page], more=more))


def retrieve_model(visit: Visit) -> Response:
    """Answer GET /v1/models/{model_id}."""
    return answer(find_model(visit.path["model_id"]).describe())
