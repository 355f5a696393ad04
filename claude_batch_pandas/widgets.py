"""The live card in a notebook. The only file with ipywidgets and IPython, imported when drawing.

A widget lives as long as its kernel: a saved, reloaded or exported notebook has none. So what is
displayed also carries the card as HTML and text, and at the end the widget is replaced by them.
Handlers of buttons run on threads we do not own, so they only set an event.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from claude_batch_pandas.cards import Card
from claude_batch_pandas.exceptions import BatchError
from claude_batch_pandas.records import Progress
from claude_batch_pandas.words import visible

NO_MATH = ("mathjax_ignore", "tex2jax_ignore")  # classes of what MathJax leaves alone
HTML, TEXT = "text/html", "text/plain"
DETACH, CANCEL, PARTIAL = "Detach", "Cancel", "Fetch partial"
SURE = "Cancel? Click again"
SURE_AFTER, SURE_UNTIL = 0.5, 10.0  # seconds between the two clicks; a double click is one
NEVER = float("-inf")
STEPS = {"Back": -1, "Next": 1}
PAGES = "The rows of a run, one page each; a live notebook shows them."
MOST_OUTPUTS = 1000  # of a marimo cell
NO_ROWS = "<p>No row is like that.</p>"
BUTTONS = {
    DETACH: "Stop following in this kernel; the batches go on at the API.",
    CANCEL: "Ask the API to cancel what is not done; what is done is kept and was paid.",
    PARTIAL: "Show what is here so far.",
}


class Bundle:
    """Something that is displayed in several forms at once.

    Parameters
    ----------
    data : mapping of str to object
        By media type.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = dict(data)

    def __repr__(self) -> str:
        return str(self.data[TEXT])

    def _repr_html_(self) -> str:
        return str(self.data[HTML])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:  # noqa: ARG002 - IPython's
        return self.data


def bundle_of(card: Card) -> Bundle:
    """Return a card for whatever shows the notebook."""
    return Bundle({HTML: card.html(), TEXT: card.text()})


class MarimoOutput:
    """One output of a marimo cell; IPython's handle would take the place of all of them.

    Parameters
    ----------
    content : object
        What is shown first.
    """

    def __init__(self, content: Any) -> None:
        # Nothing tells how many outputs a cell has; the first place that is not past them is new.
        for self._at in range(MOST_OUTPUTS, -1, -1):
            with contextlib.suppress(IndexError):
                self.update(content)
                return

    def update(self, content: Any) -> None:
        """Replace the output."""
        marimo: Any = sys.modules["marimo"]
        marimo.output.replace_at_index(marimo.as_html(content), self._at)


class LiveCard:
    """A card that moves while its run does, and is plain HTML in the end.

    Parameters
    ----------
    make_card : callable
        Returns the card of a progress.

    Attributes
    ----------
    wants : dict of str to threading.Event
        What was clicked, by the button's name; for a thread of ours to see.
    """

    def __init__(self, make_card: Callable[[Progress], Card]) -> None:
        self._make_card = make_card
        self._is_static = in_marimo()  # which shows no widgets
        self._handle: Any = None
        self._html: Any = None
        self._box: Any = None
        self._extra: Any = None
        self._asked_at = NEVER
        self.wants = {name: threading.Event() for name in BUTTONS}

    def __call__(self, progress: Progress) -> None:
        """Draw the card, or replace it by what survives a restart."""
        card = self._make_card(progress)
        if progress.summary or progress.is_over:
            self._show(bundle_of(card))
            self._settle(card)
        elif self._is_static:
            self._show(bundle_of(card))
        elif self._box is None:
            self._make(card)
            self._show(self._live(card))
        else:
            self._html.value = card.html()

    def add(self, html: str) -> None:
        """Show something below the card, as long as it is live."""
        if self._extra is not None:
            self._extra.value = html

    def taken(self, now: float) -> list[str]:
        """Return what was clicked since, and forget it; a cancel is asked for once more.

        Parameters
        ----------
        now : float
            Seconds: the second click has to come some time after the first, and not too late.
        """
        clicked = [name for name, wanted in self.wants.items() if wanted.is_set()]
        for name in clicked:
            self.wants[name].clear()
        asked = now - self._asked_at
        if CANCEL not in clicked:
            if asked >= SURE_UNTIL:
                self._ask(NEVER)
        elif asked >= SURE_UNTIL:
            self._ask(now)
            clicked.remove(CANCEL)
        elif asked < SURE_AFTER:
            clicked.remove(CANCEL)
        else:
            self._ask(NEVER)
        return clicked

    def _ask(self, now: float) -> None:
        """Ask from now on whether to cancel, or no more."""
        if self._asked_at != now and self._box is not None:
            _, row, _ = self._box.children
            row.children[list(BUTTONS).index(CANCEL)].description = CANCEL if now == NEVER else SURE
        self._asked_at = now

    def _show(self, content: Any) -> None:
        if self._handle is not None:
            self._handle.update(content)
        elif self._is_static:
            self._handle = MarimoOutput(content)
        else:
            from IPython import display as ipython

            show: Any = ipython
            self._handle = show.display(content, display_id=True)

    def _live(self, card: Card) -> Bundle:
        """Return the widget, and what stands for it where there is none."""
        widget = self._box._repr_mimebundle_()
        return Bundle({**widget, HTML: card.html(), TEXT: card.text()})

    def _make(self, card: Card) -> None:
        import ipywidgets

        self._html = ipywidgets.HTML(card.html())
        self._extra = ipywidgets.HTML()
        buttons = [
            ipywidgets.Button(description=name, tooltip=told) for name, told in BUTTONS.items()
        ]
        for button in buttons:
            button.on_click(self._clicked)
        self._box = ipywidgets.VBox([self._html, ipywidgets.HBox(buttons), self._extra])
        for name in ("cbp-card", *NO_MATH):  # two dollar signs would make a formula
            self._box.add_class(name)

    def _clicked(self, button: Any) -> None:
        """Note what was clicked; any more could be on a thread that is not ours."""
        self.wants[CANCEL if button.description == SURE else button.description].set()

    def _settle(self, card: Card) -> None:
        """Leave the last card in the widget, and nothing else of it.

        A tab that was closed and opened again knows its outputs by their widgets alone.
        """
        if self._box is None:
            return
        _, row, _ = self._box.children
        self._html.value = card.html()
        self._box.children = [self._html]
        for widget in (*row.children, row, self._extra):
            for part in (getattr(widget, "style", None), widget.layout, widget):
                if part is not None:
                    part.close()
        self._box = self._html = self._extra = None


class CellCard:
    """The card of a cell that waits: drawn, and its buttons obeyed, in the thread that waits."""

    def __init__(self) -> None:
        self._live: LiveCard | None = None
        self._run: Any = None

    def bind(self, run: Any) -> None:
        """Show this run; whoever waits for it calls this first."""
        self._run = run
        self._live = LiveCard(lambda progress: run.card(progress, is_waited_for=True))

    def __call__(self, progress: Progress) -> None:
        """Draw the card."""
        if self._live is not None:
            self._live(progress)

    def obey(self, now: float) -> None:
        """Do what was clicked."""
        if self._live is not None:
            obey(self._live, self._run, now)


def obey(live: LiveCard, run: Any, now: float) -> None:
    """Do what was clicked on a card; what cannot be done is told below it.

    Parameters
    ----------
    live : LiveCard
    run : Run
    now : float
        Seconds of a clock that never goes back.
    """
    acts = {
        CANCEL: run.cancel,
        DETACH: run.detach,
        PARTIAL: lambda: live.add(run.preview_html()),
    }
    for name in live.taken(now):
        try:
            acts[name]()
        except BatchError as error:
            live.add(f"<p>{escape(visible(str(error)))}</p>")


class Pages:
    """Rows to page through, filtered by status and words.

    Parameters
    ----------
    statuses : sequence of str
        To choose from; the first is shown.
    find : callable
        Returns the positions of a status and words.
    html : callable
        Returns one row as HTML.
    still : str
        HTML of the first rows, where there are no widgets.
    """

    def __init__(
        self,
        statuses: Sequence[str],
        find: Callable[[str, str], Sequence[int]],
        html: Callable[[int], str],
        still: str,
    ) -> None:
        self._statuses, self._find, self._html, self._still = statuses, find, html, still
        self._found: Sequence[int] = find(statuses[0], "")
        self._at = 0

    def show(self) -> None:
        """Draw them here."""
        if in_marimo():
            show_once(Bundle({HTML: self._still, TEXT: PAGES}))
            return
        import ipywidgets

        self._status = ipywidgets.Dropdown(options=list(self._statuses), description="status")
        self._words = ipywidgets.Text(placeholder="search answers", continuous_update=False)
        self._page = ipywidgets.HTML()
        self._where = ipywidgets.Label()
        buttons = [ipywidgets.Button(description=name) for name in STEPS]
        for button in buttons:
            button.on_click(self._turn)
        for chosen in (self._status, self._words):
            chosen.observe(self._filter, names="value")
        row = ipywidgets.HBox([self._status, self._words, *buttons, self._where])
        box = ipywidgets.VBox([row, self._page])
        box.add_class("cbp-inspect")
        self._draw()
        widget = box._repr_mimebundle_()
        show_once(Bundle({**widget, HTML: self._still, TEXT: PAGES}))

    def _turn(self, button: Any) -> None:
        last = max(0, len(self._found) - 1)
        self._at = min(last, max(0, self._at + STEPS[button.description]))
        self._draw()

    def _filter(self, change: Any) -> None:  # noqa: ARG002 - how ipywidgets tells of one
        self._found = self._find(self._status.value, self._words.value)
        self._at = 0
        self._draw()

    def _draw(self) -> None:
        self._where.value = f"{self._at + 1 if self._found else 0:,} of {len(self._found):,}"
        self._page.value = self._html(self._found[self._at]) if self._found else NO_ROWS


def show_once(content: Any) -> None:
    """Display something where we are."""
    from IPython import display as ipython

    show: Any = ipython
    show.display(content)


def after_each_cell(act: Callable[[], None]) -> Callable[[], None]:
    """Have something done after every cell, in the thread that runs cells; return what ends that."""
    shell = sys.modules.get("IPython")
    running = None if shell is None else shell.get_ipython()
    if running is None:
        return lambda: None

    def done(result: Any) -> None:  # noqa: ARG001 - how IPython tells of a cell
        act()

    def leave() -> None:
        if done in events.callbacks["post_run_cell"]:
            events.unregister("post_run_cell", done)

    events = running.events
    events.register("post_run_cell", done)
    return leave


def in_notebook() -> bool:
    """Tell whether this process is the kernel of a notebook."""
    if in_marimo():
        return True
    shell = sys.modules.get("IPython")
    if shell is None:
        return False
    running = shell.get_ipython()
    return running is not None and hasattr(running, "kernel")


def thread_that_draws(**how: Any) -> threading.Thread:
    """Return a thread that can draw here; in marimo only its own can."""
    kind: Any = sys.modules["marimo"].Thread if in_marimo() else threading.Thread
    made: threading.Thread = kind(**how, daemon=True)
    return made


def in_marimo() -> bool:
    """Tell whether a marimo notebook runs here, which shows no ipywidgets."""
    marimo = sys.modules.get("marimo")
    with contextlib.suppress(Exception):
        return marimo is not None and bool(marimo.running_in_notebook())
    return False
