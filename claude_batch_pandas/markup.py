"""HTML of what a notebook shows beside the live card: self-contained, and every value escaped. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from claude_batch_pandas.slots import media_in
from claude_batch_pandas.words import visible

NO_MATH = "mathjax_ignore tex2jax_ignore"  # classes of what MathJax leaves alone
LONGEST_DATA = 120  # characters of base64 that are shown
LARGEST_IMAGE = 1_400_000  # characters of base64, about 1 MB; a saved notebook keeps them
IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
PICTURE = "max-width:24em;max-height:16em;display:block;margin:0.4em 0"
NAME, VALUE = "text-align:left;font-weight:normal", "text-align:right"
PRE = "white-space:pre-wrap;margin:0.4em 0;padding:0.6em;border:1px solid #8888;border-radius:4px"


def shown(request: Any) -> str:
    """Return a request as people read it: indented, without the megabytes of its files."""
    return visible(json.dumps(_short(request), ensure_ascii=False, indent=2))


def _short(part: Any) -> Any:
    if isinstance(part, Mapping):
        if part.get("type") == "base64" and len(str(part.get("data"))) > LONGEST_DATA:
            data = str(part["data"])
            return {**part, "data": f"{data[:24]}... ({len(data):,} characters)"}
        return {name: _short(value) for name, value in part.items()}
    if isinstance(part, list):
        return [_short(value) for value in part]
    return part


def request_html(request: Any) -> str:
    """Return a request as people read it: its texts with their lines, its images, and the JSON."""
    said = "".join(
        f'<div>{escape(visible(role))}</div><pre style="{PRE}">{escape(visible(text))}</pre>'
        for role, text in _spoken(request)
    )
    whole = f'<pre style="{PRE}">{escape(shown(request))}</pre>'
    return f"{said}{images_html(request)}<details><summary>JSON</summary>{whole}</details>"


def _spoken(request: Any) -> Iterator[tuple[str, str]]:
    """Yield who says what in a request: its system prompt, then its turns."""
    turns = [{"role": "system", "content": request.get("system")}, *request.get("messages", [])]
    for turn in turns:
        content = turn.get("content") or []
        blocks = [{"text": content}] if isinstance(content, str) else content
        for block in blocks:
            text = block.get("text")
            kind = str(block.get("type", "text"))
            source = block.get("source")
            if isinstance(text, str):
                yield str(turn.get("role")), text
            elif isinstance(source, Mapping) and not _is_shown(source):
                yield str(turn.get("role")), f"({kind}, {source.get('type')}; see the JSON)"


def images_html(request: Any) -> str:
    """Return the images that a request carries; none is fetched from anywhere."""
    sources = [source for _, source in media_in(request, {"image"}) if _is_shown(source)]
    return "".join(
        f'<img alt="image {i} of the request" style="{PICTURE}" '
        f'src="data:{source["media_type"]};base64,{source["data"]}">'
        for i, source in enumerate(sources, start=1)
    )


def _is_shown(source: Mapping[str, Any]) -> bool:
    """Tell whether a source is a small image, and nothing that could end the attribute it is in."""
    data = source.get("data")
    return (
        source.get("type") == "base64"
        and source.get("media_type") in IMAGE_TYPES
        and isinstance(data, str)
        and len(data) <= LARGEST_IMAGE
        and BASE64.fullmatch(data) is not None
    )


def requests_html(head: str, requests: Sequence[Any], notes: Sequence[str]) -> str:
    """Return requests, what stands before them and what stands after, as HTML.

    Parameters
    ----------
    head : str
    requests : sequence of dict
    notes : sequence of str
    """
    parts = [f"<p>{escape(visible(head))}</p>"]
    parts += [
        f'<pre style="{PRE}">{escape(shown(request))}</pre>{images_html(request)}'
        for request in requests
    ]
    if notes:
        items = "".join(f"<li>{escape(visible(note))}</li>" for note in notes)
        parts.append(f"<ul>{items}</ul>")
    return f'<div class="cbp-preview {NO_MATH}">{"".join(parts)}</div>'


def facts_html(head: str, facts: Sequence[tuple[str, str]], notes: Sequence[str] = ()) -> str:
    """Return named facts as an HTML table, and notes below it.

    Parameters
    ----------
    head : str
    facts : sequence of (str, str)
        Names and values.
    notes : sequence of str
    """
    rows = "".join(
        f'<tr><th scope="row" style="{NAME}">{escape(visible(name))}</th>'
        f'<td style="{VALUE}">{escape(visible(value))}</td></tr>'
        for name, value in facts
    )
    items = "".join(f"<li>{escape(visible(note))}</li>" for note in notes)
    below = f"<ul>{items}</ul>" if items else ""
    return (
        f'<div class="cbp-facts {NO_MATH}"><p>{escape(visible(head))}</p>'
        f"<table><tbody>{rows}</tbody></table>{below}</div>"
    )
