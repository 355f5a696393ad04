"""A frame and a recipe -> what renders its rows, with all it has to ask on the way.

What a model accepts, the ids of files, what was said before: each is asked of the ledger or the API
when a row needs it, so that a call whose rows need none of them asks nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from claude_batch_pandas import frames
from claude_batch_pandas.abilities import Abilities, shipped
from claude_batch_pandas.blocks import Loader
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.functions import FunctionRenderer, renderer_for
from claude_batch_pandas.knowledge import Knowledge
from claude_batch_pandas.rendering import Recipe, Renderer
from claude_batch_pandas.slots import History
from claude_batch_pandas.uploads import Uploads


def prepare(
    data: Any,
    recipe: Recipe,
    engine: Callable[[], Engine] | None = None,
    *,
    history: History | None = None,
    may_ask: bool = True,
) -> Renderer | FunctionRenderer:
    """Return what renders the rows of a frame or Series.

    Parameters
    ----------
    data : pandas.DataFrame or pandas.Series
    recipe : Recipe
    engine : callable, optional
        Returns the engine; None when nothing may be asked at all, as for a preview.
    history : History, optional
        What was said before in the conversation of each row.
    may_ask : bool
        Whether the API may be asked, and given files; else the ledger alone.

    Raises
    ------
    InputError
        For whatever is wrong with the recipe, or does not fit the frame.
    """
    know = shipped if engine is None else Knowledge(engine, may_ask)
    send = None if engine is None else Uploads(engine, may_ask)
    loader = Loader.of(_model(recipe), send)
    return renderer_for(frames.source_of(data, recipe), recipe, loader, know, history)


def _model(recipe: Recipe) -> Abilities:
    """Return what decides how large images are; rows that name their models share the table's."""
    model = recipe.params["model"]
    return shipped(model if isinstance(model, str) else "")
