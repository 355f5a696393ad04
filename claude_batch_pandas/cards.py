"""The run card: what one run is doing, as HTML that survives everything, and as text. Pure.

Self-contained and inline-styled, readable on light and dark, with words beside every colour, without
a script or a request to anybody; every value in it is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import NamedTuple

from claude_batch_pandas.markup import NO_MATH
from claude_batch_pandas.progress import WORDS, describe, duration
from claude_batch_pandas.records import Progress, RunState
from claude_batch_pandas.words import visible

BOX = (
    "border:1px solid #8888;border-radius:6px;padding:0.6em 0.8em;max-width:44em;"
    "font-family:system-ui,sans-serif;font-size:0.92em;line-height:1.5"
)
TRACK = "height:0.55em;border-radius:0.3em;background:#8883;margin:0.45em 0;overflow:hidden"
FILL = "height:100%;width:{:.1f}%;background:{}"
SOFT = "opacity:0.75"
ODD = "#c77700"
COLORS = {RunState.ENDED: "#2e8b57", RunState.PAUSED: ODD}
RUNNING = "#3b78c4"
DETACHES = "Interrupt (the stop button) detaches; the run goes on."
WHOLE = 100.0


class Card(NamedTuple):
    """What a card shows.

    Attributes
    ----------
    progress : Progress
    model : str
    statuses : mapping of str to int
        Rows by status, as far as they are known.
    dollars : str
        So far; empty while nothing is known.
    estimate : str
        In dollars, before it was sent; empty when there is none.
    is_waited_for : bool
        Whether a cell waits, so that an interrupt detaches.
    """

    progress: Progress
    model: str
    statuses: Mapping[str, int] = {}
    dollars: str = ""
    estimate: str = ""
    is_waited_for: bool = False

    @property
    def share(self) -> float:
        """How much of the run is done, in percent: shards that ended, then rows downloaded."""
        progress = self.progress
        if progress.state is RunState.ENDED:
            return WHOLE
        if not progress.shards:
            return 0.0
        ended = progress.ended / progress.shards
        here = progress.downloaded / progress.requests if progress.requests else 0.0
        return WHOLE * (0.9 * ended + 0.1 * min(1.0, here))

    def text(self) -> str:
        """Return the card as one line."""
        told = describe(self.progress)
        return told if self.progress.summary or not self.dollars else f"{told}; {self.dollars}"

    def html(self) -> str:
        """Return the card as HTML."""
        progress = self.progress
        state = WORDS[progress.state]
        head = f"<strong>{_safe(progress.name)}</strong> · {_safe(self.model)} · {_safe(state)}"
        lines = [_line(part) for part in (", ".join(self._counts()), *self._facts()) if part]
        if progress.note and not progress.summary:
            lines.append(_line(progress.note))
        if progress.summary:
            lines = [_line(progress.summary)]
        elif self.is_waited_for and not progress.is_over:
            lines.append(f'<div style="{SOFT}">{_safe(DETACHES)}</div>')
        label = f"run {progress.run_id}"
        if label not in progress.summary:
            lines.append(f'<div style="{SOFT}">{_safe(label)}</div>')
        return (
            f'<div class="cbp-run {NO_MATH}" role="group" aria-label="{_safe(label)}" '
            f'style="{BOX}"><div>{head}</div>{self._bar()}{"".join(lines)}</div>'
        )

    def _bar(self) -> str:
        progress, share = self.progress, self.share
        told = f"{progress.ended} of {progress.shards} shards ended"
        fill = FILL.format(share, self._color)
        return (
            f'<div role="progressbar" aria-valuemin="0" aria-valuemax="100" '
            f'aria-valuenow="{share:.0f}" aria-valuetext="{_safe(told)}" style="{TRACK}">'
            f'<div style="{fill}"></div></div>'
        )

    @property
    def _color(self) -> str:
        """Green for a run whose rows all have an answer; the words say it, too."""
        has_gaps = any(count for name, count in self.statuses.items() if name != "succeeded")
        return ODD if has_gaps else COLORS.get(self.progress.state, RUNNING)

    def _counts(self) -> list[str]:
        progress = self.progress
        parts = []
        if progress.shards:
            parts.append(f"{progress.ended:,} of {progress.shards:,} shards ended")
        if progress.downloaded:
            parts.append(f"{progress.downloaded:,} of {progress.requests:,} results here")
        return parts

    def _facts(self) -> list[str]:
        progress = self.progress
        rows = ", ".join(f"{count:,} {status}" for status, count in self.statuses.items() if count)
        if rows and progress.rows != progress.requests:
            rows = f"requests: {rows}"
        times = f"{duration(progress.elapsed)} so far"
        if progress.expires_in is not None:
            times += f", expires in {duration(progress.expires_in)}"
        told = f"{times}; {self.dollars}" if self.dollars else times
        return [rows, told, f"estimate: {self.estimate}" if self.estimate else ""]


def _line(text: str) -> str:
    return f"<div>{_safe(text)}</div>"


def _safe(text: str) -> str:
    return escape(visible(text))
