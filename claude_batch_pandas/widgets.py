"""The notebook's progress bar. The only file that imports ipywidgets, and only when drawing."""

from __future__ import annotations

import sys
from html import escape
from typing import Any

from claude_batch_pandas.progress import describe
from claude_batch_pandas.records import Progress

NO_MATH = ("mathjax_ignore", "tex2jax_ignore")  # classes of what MathJax leaves alone


class NotebookBar:
    """A plain bar over shards with a line of text; at the end only the text stays.

    Parameters
    ----------
    handle : IPython display handle, optional
        Where to draw; made at the first drawing.
    """

    def __init__(self, handle: Any = None) -> None:
        self._handle = handle
        self._bar: Any = None
        self._label: Any = None
        self._box: Any = None

    def __call__(self, progress: Progress) -> None:
        """Draw the bar, or replace it by text that survives a restart."""
        if progress.summary or progress.is_over:
            self._show(_Line(describe(progress)))
            self._close()
            return
        if self._box is None:
            self._make()
            self._show(self._box)
        self._bar.max = max(progress.shards, 1)
        self._bar.value = progress.ended
        self._label.value = f"{describe(progress)} (interrupt detaches)"

    def _show(self, content: Any) -> None:
        from IPython import display as ipython

        show: Any = ipython
        if self._handle is None:
            self._handle = show.display(content, display_id=True)
        else:
            self._handle.update(content)

    def _make(self) -> None:
        import ipywidgets

        self._bar = ipywidgets.IntProgress(min=0, max=1, value=0)
        self._label = ipywidgets.Label()
        for name in NO_MATH:  # two dollar signs would make a formula of what stands between
            self._label.add_class(name)
        self._box = ipywidgets.HBox([self._bar, self._label])
        self._box.add_class("cbp-run")

    def _close(self) -> None:
        """Leave nothing in the widget registry of a kernel that runs for days."""
        for widget in (self._bar, self._label, self._box):
            if widget is not None:
                for part in (getattr(widget, "style", None), widget.layout, widget):
                    if part is not None:
                        part.close()
        self._bar = self._label = self._box = None


class _Line:
    """A line of text for whatever shows the notebook, HTML or not."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.data = f"<div class='cbp-run {' '.join(NO_MATH)}'>{escape(text)}</div>"

    def __repr__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        return self.data


def in_notebook() -> bool:
    """Tell whether this process is the kernel of a notebook."""
    shell = sys.modules.get("IPython")
    if shell is None:
        return False
    running = shell.get_ipython()
    return running is not None and hasattr(running, "kernel")
