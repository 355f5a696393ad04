"""Words of others (a server's, a cell's) made safe to show: one line, and nothing but text. Pure.

Whatever else shows them, HTML or a terminal, escapes them its own way; this takes out what no
escaping makes harmless.
"""

from __future__ import annotations

import re
import unicodedata

ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, the cursor
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f]).*?(?:\x07|\x1b\\|\x9c|$)"  # titles, links, the clipboard
    r"|\x1b[ -/]*[0-~]?",
    re.DOTALL,
)
BLANKS = re.compile(r"[\s\x85\u2028\u2029]+")
JOINERS = frozenset("\u200c\u200d")  # some scripts, and emoji, are not spelled without
UNSEEN = frozenset({"Cc", "Cf", "Cs"})  # control, format (direction, tags), lone surrogates


def plain(text: str) -> str:
    """Return words on one line, without escape sequences, control or direction characters."""
    if text.isprintable():
        return text
    text = BLANKS.sub(" ", ESCAPES.sub("", text))
    kept = [c for c in text if c in JOINERS or unicodedata.category(c) not in UNSEEN]
    return "".join(kept).strip()


def visible(text: str) -> str:
    r"""Return text in which such characters are written out, as ``\u202e``, and lines stay."""
    return "".join(
        c if c == "\n" or c in JOINERS or unicodedata.category(c) not in UNSEEN else _escape(c)
        for c in text
    )


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004
