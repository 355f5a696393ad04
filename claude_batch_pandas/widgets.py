"""The notebook's progress bar. The only file that imports ipywidgets, and only when drawing."""

from __future__ import annotations

from html import escape
from typing import Any

from claude_batch_pandas.progress import describe
from claude_batch_pandas.records import Progress


class NotebookBar:
    """A plain bar over shards with a line of text; at the end only the text stays.

    Parameters
    ----------
    handle : IPython display handle, optional
        Made at the first drawing.
    """

    def __init__(self, handle: Any = None) -> None:
        self._handle = handle
        self._bar: Any = None
        self._label: Any = None

    def __call__(self, progress: Progress) -> None:
        """Draw the bar, or replace it by text that survives a restart."""
        from IPython import display as ipython

        show: Any = ipython

        if progress.summary or progress.is_over:
            text = show.HTML(f"<div class='cbp-run'>{escape(describe(progress))}</div>")
            if self._handle is None:
                show.display(text)
            else:
                self._handle.update(text)
                self._close()
            return
        if self._handle is None:
            self._handle = show.display(self._make(), display_id=True)
        self._bar.max = max(progress.shards, 1)
        self._bar.value = progress.ended
        self._label.value = f"{describe(progress)} (interrupt detaches)"

    def _make(self) -> Any:
        import ipywidgets

        self._bar = ipywidgets.IntProgress(min=0, max=1, value=0)
        self._label = ipywidgets.Label()
        box = ipywidgets.HBox([self._bar, self._label])
        box.add_class("cbp-run")
        return box

    def _close(self) -> None:
        for widget in (self._bar, self._label):
            if widget is not None:
                widget.close()
        self._bar = self._label = None


def in_notebook() -> bool:
    """Tell whether this process is the kernel of a notebook."""
    import sys

    shell = sys.modules.get("IPython")
    if shell is None:
        return False
    running = shell.get_ipython()
    return running is not None and hasattr(running, "kernel")
