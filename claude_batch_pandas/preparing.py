"""A frame, or a file of requests -> what renders its rows, with whom to ask on the way."""

from __future__ import annotations

from typing import Any

from claude_batch_pandas import frames, indexes
from claude_batch_pandas.abilities import shipped
from claude_batch_pandas.blocks import Loader, Uploader
from claude_batch_pandas.functions import renderer_for
from claude_batch_pandas.outputs import Output
from claude_batch_pandas.rendering import Know, Recipe, Renders
from claude_batch_pandas.requestfiles import FileRenderer, RequestFile
from claude_batch_pandas.slots import History


def prepare(
    data: Any,
    recipe: Recipe,
    know: Know = shipped,
    send: Uploader | None = None,
    history: History | None = None,
) -> Renders:
    """Return what renders the rows of a frame or Series, or the requests of a file.

    Parameters
    ----------
    data : pandas.DataFrame, pandas.Series or RequestFile
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
    if isinstance(data, RequestFile):
        return FileRenderer(data, recipe, know)
    model = recipe.params["model"]  # where rows name theirs, images are as large as most models see
    loader = Loader.of(shipped(model if isinstance(model, str) else ""), send)
    return renderer_for(frames.source_of(data, recipe), recipe, loader, know, history)


def check_output(data: Any, output: Output, *, replace: bool) -> None:
    """Refuse to write columns that are there; beside a file of requests, there are none.

    Raises
    ------
    InputError, OutputExistsError
    """
    if not isinstance(data, RequestFile):
        frames.check_output(data, output, replace=replace)


def index_of(data: Any) -> Any:
    """Return the index that the answers have: a frame's, or the custom_ids of a file."""
    return indexes.of_ids(data.ids, len(data)) if isinstance(data, RequestFile) else data.index
