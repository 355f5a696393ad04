"""A frame and a recipe -> what renders its rows, with whom to ask on the way."""

from __future__ import annotations

from typing import Any

from claude_batch_pandas import frames
from claude_batch_pandas.abilities import shipped
from claude_batch_pandas.blocks import Loader, Uploader
from claude_batch_pandas.functions import FunctionRenderer, renderer_for
from claude_batch_pandas.rendering import Know, Recipe, Renderer
from claude_batch_pandas.slots import History


def prepare(
    data: Any,
    recipe: Recipe,
    know: Know = shipped,
    send: Uploader | None = None,
    history: History | None = None,
) -> Renderer | FunctionRenderer:
    """Return what renders the rows of a frame or Series.

    Parameters
    ----------
    data : pandas.DataFrame or pandas.Series
    recipe : Recipe
    know : callable
        Returns what a model accepts, by its name.
    send : callable, optional
        Returns the id of a file at the Files API; None for a preview.
    history : History, optional
        What was said before in the conversation of each row.

    Raises
    ------
    InputError
        For whatever is wrong with the recipe, or does not fit the frame.
    """
    model = recipe.params["model"]  # where rows name theirs, images are as large as most models see
    loader = Loader.of(shipped(model if isinstance(model, str) else ""), send)
    return renderer_for(frames.source_of(data, recipe), recipe, loader, know, history)
