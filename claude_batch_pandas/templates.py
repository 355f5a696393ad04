"""``{column}`` text: finds the columns, checks them, renders one text per row.

A template substitutes column names, once: a value that itself holds ``{other}`` stays as it is.
There is no attribute or index access, so a template can never reach into an object. Pure: no
frame, no disk, no network.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from claude_batch_pandas.blocks import Media
from claude_batch_pandas.exceptions import MissingColumnError, TemplateError
from claude_batch_pandas.slots import ROLES, Column, History

SHOWN = 20  # names an error message lists before it says how many more there are
UNRENDERED = "The template cannot be rendered over these values."


@dataclass(frozen=True, slots=True)
class Text:
    """One templated text: what is constant, and between it a field per use of a column."""

    literals: tuple[str, ...]  # before, between and after the fields; one more than there are
    columns: tuple[str, ...]  # one per field, in order; a column may appear twice
    specs: tuple[str, ...]  # its format spec, often empty

    def render(self, values: Mapping[str, Sequence[Any]], positions: Sequence[int]) -> list[str]:
        """Return one text per row.

        Parameters
        ----------
        values : mapping of str to sequence
            The columns, all of one length, without missing values.
        positions : sequence of int
            The position of each row in the frame, for the error message.

        Raises
        ------
        TemplateError
            When a value cannot be formatted as its spec asks.
        """
        fields = zip(self.columns, self.specs, strict=True)
        try:
            texts = self._join(
                [map(format, values[column], repeat(spec)) for column, spec in fields]
            )
        except (ValueError, TypeError, OverflowError):
            raise self._explain(values, positions) from None
        if len(texts) < len(positions):  # a value's StopIteration ends a loop, and is no error
            raise TemplateError(UNRENDERED)
        return texts

    def render_with_gaps(
        self,
        values: Mapping[str, Sequence[Any]],
        missing: Mapping[str, Sequence[bool]],
        positions: Sequence[int],
    ) -> list[str]:
        """Return one text per row, with the empty string where a value is missing."""
        filled: list[list[str]] = []
        for column, spec in zip(self.columns, self.specs, strict=True):
            gaps = missing.get(column)
            cells = values[column]
            try:
                filled.append(
                    [
                        "" if gaps is not None and gaps[i] else format(cell, spec)
                        for i, cell in enumerate(cells)
                    ]
                )
            except (ValueError, TypeError, OverflowError):
                raise self._explain(values, positions, missing) from None
        return self._join(filled)

    def _join(self, cells: Sequence[Iterable[str]]) -> list[str]:
        """Return one text per row, of the formatted cells of each field."""
        pieces: list[Iterable[str]] = [repeat(self.literals[0])]
        for column, literal in zip(cells, self.literals[1:], strict=True):
            pieces += (column, repeat(literal))
        return list(map("".join, zip(*pieces, strict=False)))  # what repeats has no end

    def _explain(
        self,
        values: Mapping[str, Sequence[Any]],
        positions: Sequence[int],
        missing: Mapping[str, Sequence[bool]] | None = None,
    ) -> TemplateError:
        """Find the first value that its format does not fit."""
        for i, position in enumerate(positions):
            for column, spec in zip(self.columns, self.specs, strict=True):
                cell = values[column][i]
                if missing and column in missing and missing[column][i]:
                    continue
                try:
                    format(cell, spec)
                except (ValueError, TypeError, OverflowError):
                    return TemplateError(
                        f"The format {{{column}:{spec}}} does not fit the value at position "
                        f"{position}, a {type(cell).__name__}. "
                        f"Change the format or the column's dtype ({column!r})."
                    )
        return TemplateError(UNRENDERED)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A parsed template: `messages` and `system` as the API takes them, with `Text` in place."""

    messages: Any  # a list, or the `Column` that holds one per row
    system: Any  # None, a string, a Text, or a list of blocks

    @property
    def texts(self) -> list[Text]:
        """Every templated text, in the order of the request's JSON (system first)."""
        return [slot for slot in self.slots if isinstance(slot, Text)]

    @property
    def slots(self) -> list[Slot]:
        """Everything that varies by row, in the same order."""
        return [*slots_in(self.system), *slots_in(self.messages)]

    @property
    def columns(self) -> list[str]:
        """The columns that anything uses, each once."""
        return columns_of(self.slots)

    def after(self, history: History) -> Prompt:
        """Return it as what goes on after a conversation.

        Raises
        ------
        TemplateError
        """
        if not isinstance(self.messages, list):
            msg = "history= goes before a message that you write; a column of messages is whole."
            raise TemplateError(msg)
        return Prompt([history, *self.messages], self.system)


Slot = Text | Column | Media | History


def columns_of(slots: Sequence[Slot]) -> list[str]:
    """Return the columns that any slot uses, each once."""
    used = (
        slot.columns if isinstance(slot, Text) else filter(None, (slot.column,)) for slot in slots
    )
    return list(dict.fromkeys(column for columns in used for column in columns))


def parse_prompt(template: Any, system: Any, columns: Sequence[str]) -> Prompt:
    """Parse a template and a system prompt over the columns a frame has.

    Parameters
    ----------
    template : str, list or Column
        Text; messages ``{"role": ..., "content": ...}`` whose text is templated; the texts and
        blocks of one user message; or the column that holds the messages.
    system : str, list of dict or None
        Likewise; None for no system prompt.
    columns : sequence of str
        The names a template may use.

    Raises
    ------
    MissingColumnError
        When a field names no column.
    TemplateError
        When braces do not match, or a field asks for more than a column and a format.
    """
    if isinstance(template, Media):
        template = [template]
    if isinstance(template, str):
        if not template.strip():
            msg = "The template is empty. Write the prompt, with {column} where a value belongs."
            raise TemplateError(msg)
        messages: Any = [{"role": "user", "content": parse_text(template, columns)}]
    elif isinstance(template, Column):
        messages = template
    elif isinstance(template, list | tuple) and template:
        messages = [
            _message(i, message, columns) for i, message in enumerate(as_messages(template))
        ]
    else:
        raise wrong_template(template)
    return Prompt(messages, None if system is None else _content("system", system, columns))


def as_messages(template: Sequence[Any]) -> Sequence[Any]:
    """Return messages as they are, and texts and blocks as the one user message they make."""
    is_content = any(
        isinstance(part, str | Media) or (isinstance(part, Mapping) and "role" not in part)
        for part in template
    )
    are_messages = any(isinstance(part, Mapping) and "role" in part for part in template)
    if not is_content or are_messages:
        return template
    content = [
        {"type": "text", "text": part} if isinstance(part, str) else part for part in template
    ]
    return [{"role": "user", "content": content}]


def wrong_template(template: Any) -> TemplateError:
    """Return the error for what cannot be a template."""
    return TemplateError(
        f"template must be text, a list of messages or a function, not {_kind(template)}. "
        'For example template="Which intent is this? {text}".'
    )


def parse_text(text: str, columns: Sequence[str]) -> Text | str:
    """Return the text with its fields found, or the plain string when it has none."""
    if not _is_utf8(text):
        msg = "The template holds a lone surrogate, which UTF-8 cannot encode. Repair the text."
        raise TemplateError(msg)
    known = frozenset(columns)
    literals: list[str] = []
    used: list[str] = []
    specs: list[str] = []
    unknown: list[str] = []
    for literal, field in _pieces(text, known):
        literals.append(literal)
        if field is None:
            continue
        column, spec = _split(field, known)
        if column not in known:
            unknown.append(_refuse_syntax(column, known))
            continue
        used.append(column)
        specs.append(spec)
    if unknown:
        raise missing_columns(list(dict.fromkeys(unknown)), columns)
    if not used:
        return "".join(literals)
    return Text(tuple(literals), tuple(used), tuple(specs))


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def missing_columns(unknown: Sequence[str], columns: Sequence[str]) -> MissingColumnError:
    """Return the error for names that are no columns; it tells the near misses and what exists."""
    near = [
        difflib.get_close_matches(name, columns, n=1, cutoff=0.6)
        or [column for column in columns if column.casefold() == name.casefold()]
        for name in unknown
    ]
    guesses = [repr(match[0]) for match in near if match]
    listed = ", ".join(repr(name[:60]) for name in unknown)
    exist = (
        ", ".join(repr(name[:60]) for name in columns[:SHOWN]) or "no column a template can name"
    )
    more = f" and {len(columns) - SHOWN} more" if len(columns) > SHOWN else ""
    hint = f" Did you mean {', '.join(guesses)}?" if guesses else " For a literal brace write {{."
    if list(columns) == ["value"]:
        hint = " The values of a Series are called {value}."
    return MissingColumnError(
        f"The template uses columns that the DataFrame lacks: {listed}. "
        f"It has: {exist}{more}.{hint}"
    )


def _pieces(text: str, known: frozenset[str]) -> Iterator[tuple[str, str | None]]:
    """Yield (literal, field or None) from left to right."""
    position = 0
    literal: list[str] = []
    while position < len(text):
        character = text[position]
        if character not in "{}":
            end = _next_brace(text, position)
            literal.append(text[position:end])
            position = end
        elif text[position : position + 2] in {"{{", "}}"}:
            literal.append(character)
            position += 2
        elif character == "}":
            msg = f"A single '}}' stands at character {position} of the template; write '}}}}'."
            raise TemplateError(msg)
        else:
            field = _field(text, position, known)
            yield "".join(literal), field
            literal.clear()
            position += len(field) + 2
    yield "".join(literal), None


def _next_brace(text: str, position: int) -> int:
    found = [at for at in (text.find("{", position), text.find("}", position)) if at >= 0]
    return min(found, default=len(text))


def _field(text: str, opening: int, known: frozenset[str]) -> str:
    """Return what stands between the braces; a column's exact name wins, braces in it and all."""
    closing = text.find("}", opening)
    if closing < 0:
        msg = f"The '{{' at character {opening} of the template is never closed; write '{{{{'."
        raise TemplateError(msg)
    longest = max((len(name) for name in known if "}" in name), default=0)
    at = closing
    while 0 <= at <= opening + 1 + longest:
        if text[opening + 1 : at] in known:
            return text[opening + 1 : at]
        at = text.find("}", at + 1)
    return text[opening + 1 : closing]


def _split(field: str, known: frozenset[str]) -> tuple[str, str]:
    """Return (column, format spec): the longest part before a colon that is a column."""
    if field in known:
        return field, ""
    at = field.rfind(":")
    while at >= 0:
        if field[:at] in known:
            spec = field[at + 1 :]
            if "{" in spec:
                msg = (
                    f"The format of {{{field[:at]}}} in the template holds another field; formats "
                    "are fixed text. Put the formatted value into a column of its own."
                )
                raise TemplateError(msg)
            return field[:at], spec
        at = field.rfind(":", 0, at)
    return field.partition(":")[0], ""


def _refuse_syntax(name: str, known: frozenset[str]) -> str:
    """Raise for fields that ask for more than a column; return the name when it is just unknown."""
    base = name.split(".", maxsplit=1)[0].split("[", maxsplit=1)[0].split("!", maxsplit=1)[0]
    if not name.strip() or (name.isdigit() and not any(column.isdigit() for column in known)):
        msg = (
            f"The template has a positional field {{{name}}}; name a column instead, "
            f"one of: {', '.join(sorted(known)[:SHOWN])}."
        )
        raise TemplateError(msg)
    if base != name and base in known:
        msg = (
            f"The template field {{{name[:60]}}} asks for more than the column {base!r}: "
            "attributes, indexing and conversions are not available. "
            "Put the value into a column of its own first."
        )
        raise TemplateError(msg)
    return name


def _message(i: int, message: Any, columns: Sequence[str]) -> dict[str, Any]:
    if not isinstance(message, Mapping) or not {"role", "content"} <= message.keys():
        msg = f'Message {i} of the template must be {{"role": ..., "content": ...}}, not {_kind(message)}.'
        raise TemplateError(msg)
    if message["role"] not in ROLES:
        msg = f"Message {i} of the template has the role {message['role']!r}; use 'user' or 'assistant'."
        raise TemplateError(msg)
    return {**message, "content": _content(f"message {i}", message["content"], columns)}


def _content(where: str, content: Any, columns: Sequence[str]) -> Any:
    """Parse a string, or the text blocks of a list of blocks; other blocks stay as they are."""
    if isinstance(content, Column):
        return content
    if isinstance(content, str):
        return _text(where, content, columns)
    if isinstance(content, list | tuple) and content:
        return [_block(where, block, columns) for block in content]
    msg = f"The content of {where} must be text or a list of blocks, not {_kind(content)}."
    raise TemplateError(msg)


def _text(where: str, text: str, columns: Sequence[str]) -> Text | str:
    if not text.strip():
        msg = f"The text of {where} is empty, which the API refuses. Write it, or leave it out."
        raise TemplateError(msg)
    return parse_text(text, columns)


def _block(where: str, block: Any, columns: Sequence[str]) -> Any:
    if isinstance(block, Media):
        return block
    if isinstance(block, str):
        block = {"type": "text", "text": block}
    if not isinstance(block, Mapping) or not isinstance(block.get("type"), str):
        msg = f'A block of {where} must be {{"type": ..., ...}}, not {_kind(block)}.'
        raise TemplateError(msg)
    if block["type"] == "text" and isinstance(block.get("text"), str):
        return {**block, "text": _text(where, block["text"], columns)}
    return dict(block)


def slots_in(part: Any) -> Iterator[Slot]:
    """Yield what varies by row in a part of a request, in its order."""
    if isinstance(part, Slot):
        yield part
    elif isinstance(part, Mapping):
        for value in part.values():
            yield from slots_in(value)
    elif isinstance(part, list | tuple):
        for value in part:
            yield from slots_in(value)


def _kind(value: Any) -> str:
    is_empty = isinstance(value, str | list | tuple | dict) and not value
    return f"{'an empty' if is_empty else 'a'} {type(value).__name__}"
