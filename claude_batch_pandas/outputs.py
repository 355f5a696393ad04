"""What becomes of an answer: its text, or typed values by a schema, under which column names.

Pure: what a column is in pandas is `frames`' business.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any, NamedTuple

from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.records import RowStatus
from claude_batch_pandas.results import Result, without_surrogates
from claude_batch_pandas.schemas import VALUE, Json, Misfit, Schema, from_json, resolve, schema_of

LARGEST = 2**63 - 1  # what a column of integers holds
ANSWER_TOOL = "answer"  # the tool through which models without JSON schemas give typed answers
KINDS_OF_NULL = ({"type": "null"}, {"const": None}, {"enum": [None]})
_GAP = re.compile(r"[\s_-]+")


class Kind(StrEnum):
    """What a column holds."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATETIME = "datetime"
    CATEGORY = "category"
    OBJECT = "object"  # lists, nested objects, and what may be of several types


OF_TYPE = {
    "string": Kind.TEXT,
    "integer": Kind.INTEGER,
    "number": Kind.NUMBER,
    "boolean": Kind.BOOLEAN,
}


FIRM = frozenset({Kind.INTEGER, Kind.NUMBER, Kind.BOOLEAN, Kind.DATETIME, Kind.CATEGORY})


class Field(NamedTuple):
    """A column of answers."""

    name: str
    kind: Kind = Kind.TEXT
    choices: tuple[Any, ...] = ()  # of a category, in their order


@dataclass(frozen=True, slots=True)
class Output:
    """The columns of one call.

    Attributes
    ----------
    name : str
        Of the one column, and of the status and the error.
    schema : Schema or None
        None for plain text.
    expand : bool
        Whether each property is a column of its own.
    flags : tuple of str
        Of an answer that is a list of choices, those that become a column of true and false each.
    has_tools : bool
        Whether an answer may be the input of a tool, an object beside texts.
    votes : int
        How often each row is asked; with several, how many agree is a column.
    fields : tuple of Field
        The columns of answers.
    """

    name: str
    schema: Schema | None = None
    expand: bool = True
    flags: tuple[str, ...] = ()
    has_tools: bool = False
    votes: int = 1
    fields: tuple[Field, ...] = dataclasses.field(init=False, repr=False, compare=False)

    @property
    def is_text(self) -> bool:
        """Whether an answer is its text, whatever that says."""
        return self.schema is None and not self.has_tools

    def __post_init__(self) -> None:
        """Work out the columns once; every answer is read by them."""
        object.__setattr__(self, "fields", tuple(self._fields()))

    def _fields(self) -> list[Field]:
        if self.schema is None:
            return [Field(self.name, Kind.OBJECT if self.has_tools else Kind.TEXT)]
        if self.flags:
            return [Field(flag, Kind.BOOLEAN) for flag in self.flags]
        whole = self.schema.json
        if self.schema.is_wrapped:
            return [_field(self.name, whole["properties"][VALUE], whole)]
        if not self.expand:
            return [Field(self.name, Kind.OBJECT)]
        return [_field(name, node, whole) for name, node in whole["properties"].items()]

    @property
    def is_flat(self) -> bool:
        """Whether no cell can be changed in place, as a list can."""
        return all(field.kind is not Kind.OBJECT for field in self.fields)

    @property
    def columns(self) -> list[str]:
        """The names of all columns: of answers, of agreement, of the status and of the error."""
        after = ("agreement", "status", "error")[self.votes == 1 :]
        return [*(field.name for field in self.fields), *(f"{self.name}_{word}" for word in after)]

    def dump(self) -> Json:
        """Return what is kept of it on disk: Python types are not."""
        kept: Json = {"has_tools": self.has_tools, "votes": self.votes}
        if self.schema is None:
            return kept
        return {
            **kept,
            "json": self.schema.json,
            "is_wrapped": self.schema.is_wrapped,
            "expand": self.expand,
            "flags": self.flags,
        }

    @classmethod
    def load(cls, name: str, kept: Mapping[str, Any] | None) -> Output:
        """Return what `dump` kept; values are then checked by the JSON schema alone."""
        if kept is None:
            return cls(name)
        has_tools, votes = kept.get("has_tools", False), kept.get("votes", 1)
        if "json" not in kept:
            return cls(name, has_tools=has_tools, votes=votes)
        schema = dataclasses.replace(from_json(kept["json"]), is_wrapped=kept["is_wrapped"])
        return cls(name, schema, kept["expand"], tuple(kept["flags"]), has_tools, votes)

    def read(self, result: Result) -> Result:
        """Return a result with its value; one that does not fit says why."""
        if self.schema is None or result.status is not RowStatus.SUCCEEDED:
            return result
        if result.tool is not None and result.tool != ANSWER_TOOL:
            why = f"the model called the tool {result.tool!r} instead of answering"
            return result.with_value(None).failed(RowStatus.INVALID, why)
        value, is_cut = _decode(result.text or "") if result.tool is None else (result.value, False)
        result = result.with_value(None)
        if is_cut:
            return result.failed(RowStatus.TRUNCATED, "the answer ends within its JSON")
        if isinstance(value, Misfit):
            return result.failed(RowStatus.INVALID, value.why)
        fitted = self.schema.fit(_forgive(value, self.schema.json, self.schema.json))
        misfit = fitted if isinstance(fitted, Misfit) else self._unfit(fitted)
        if misfit is None:
            return result.with_value(fitted)
        where = "the answer" if not misfit.where else f"field {misfit.where!r}"
        return result.failed(RowStatus.INVALID, f"{where} does not fit: {misfit.why}")

    def cells(self, results: Sequence[Result]) -> list[list[Any]]:
        """Return the cells of each column of answers, one per result; None is missing."""
        if self.is_text:
            return [[_text(result) for result in results]]
        if self.schema is None:
            return [[_tool_or_text(result) for result in results]]
        values = [result.value for result in results]
        if self.flags:
            chosen = [None if value is None else set(map(str, value[VALUE])) for value in values]
            return [[None if c is None else flag in c for c in chosen] for flag in self.flags]
        if not self.expand and not self.schema.is_wrapped:
            return [values]
        members = [None if value is None else _members(value) for value in values]
        return [
            [None if found is None else _cell(found.get(name), field) for found in members]
            for name, field in self._named()
        ]

    def ballot(self, result: Result) -> str:
        """Return what two answers share that say the same.

        That is the choices, numbers and truths of a schema where there are any: reasons and other
        free text are never written twice.
        """
        if self.schema is None or result.value is None:
            return repr(result.value) if result.value is not None else (result.text or "").strip()
        if self.flags:
            return repr(sorted({*map(str, result.value[VALUE])}))
        named = self._named() if self.expand or self.schema.is_wrapped else []
        firm = [(name, field) for name, field in named if field.kind in FIRM]
        if not firm:
            return repr(result.value)
        members = _members(result.value)
        return repr([_cell(members.get(name), field) for name, field in firm])

    def _named(self) -> list[tuple[str, Field]]:
        """Return the columns by the names of their properties."""
        if self.schema is not None and self.schema.is_wrapped:
            return [(VALUE, field) for field in self.fields]
        return [(field.name, field) for field in self.fields]

    def _unfit(self, value: Any) -> Misfit | None:
        """Return why a column cannot hold what the schema allows."""
        if self.flags or (self.fields[0].kind is Kind.OBJECT and not self.expand):
            return None
        members = _members(value)
        is_wrapped = self.schema is not None and self.schema.is_wrapped
        for name, field in self._named():
            where = "" if is_wrapped else name
            try:
                cell = _cell(members.get(name), field)
            except ValueError:
                return Misfit(where, "it is no date")
            if field.kind is Kind.INTEGER and isinstance(cell, int) and abs(cell) > LARGEST:
                return Misfit(where, "it has more than 64 bits")
        return None


def output_of(
    name: Any,
    schema: Any = None,
    *,
    expand: bool = True,
    flags: tuple[str, ...] = (),
    has_tools: bool = False,
    votes: int = 1,
) -> Output:
    """Return the columns that a call asks for.

    Raises
    ------
    InputError
        When the name cannot be a column's, or the schema cannot be asked for.
    """
    if not isinstance(name, str) or not name.strip():
        msg = f"output must be the name of the new column, not {name!r}."
        raise InputError(msg)
    if not name.isprintable():
        msg = f"output={name!r} has characters that cannot be printed; use a plain name."
        raise InputError(msg)
    known = None if schema is None else schema_of(schema)
    output = Output(name, known, expand, flags, has_tools and known is None, votes)
    columns = output.columns
    twice = [column for column in columns if columns.count(column) > 1]
    if twice:
        msg = (
            f"The schema has a field {twice[0]!r}, which is the name of a column beside it. "
            "Choose another output=."
        )
        raise InputError(msg)
    return output


def _text(result: Result) -> str | None:
    """Return the answer of a row: what was cut is kept, everything else that failed is missing."""
    if result.status is RowStatus.SUCCEEDED:
        return result.text
    return result.text or None if result.status is RowStatus.TRUNCATED else None


def _tool_or_text(result: Result) -> Any:
    """Return the input of the tool that was called, or the text."""
    is_call = result.tool is not None and result.status is RowStatus.SUCCEEDED
    return result.value if is_call else _text(result)


def _field(name: str, node: Any, whole: Json) -> Field:
    """Return the column that a property becomes."""
    node = resolve(node, whole)
    if "anyOf" in node:  # a type or nothing is a column with gaps
        left = [part for part in node["anyOf"] if part not in KINDS_OF_NULL]
        if len(left) == 1:
            return _field(name, left[0], whole)
    if "enum" in node or "const" in node:
        choices = node["enum"] if "enum" in node else [node["const"]]
        known = tuple(choice for choice in choices if choice is not None)
        return Field(name, Kind.CATEGORY, known)
    kind = node.get("type")
    if isinstance(kind, list):
        left = [part for part in kind if part != "null"]
        kind = left[0] if len(left) == 1 else None
    if kind == "string" and node.get("format") in {"date", "date-time"}:
        return Field(name, Kind.DATETIME)
    return Field(name, OF_TYPE.get(kind, Kind.OBJECT))


def _members(value: Any) -> Mapping[str, Any]:
    """Return the properties of an answer by the names they have in the schema."""
    if isinstance(value, Mapping):
        return value
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    described = type(value).model_fields
    named = {name: field.validation_alias or field.alias for name, field in described.items()}
    return {
        alias if isinstance(alias, str) else name: getattr(value, name)
        for name, alias in named.items()
    }


def _cell(value: Any, field: Field) -> Any:
    """Return what stands in a column for a property."""
    if isinstance(value, Enum):
        return value.value
    if field.kind is Kind.DATETIME and isinstance(value, str):
        return datetime.fromisoformat(value)
    return value


def _decode(text: str) -> tuple[Any, bool]:
    """Return the JSON object in a text and whether the text ends within it.

    Models that are told to answer in JSON, and not held to it, put words and fences around it.
    """
    start = text.find("{")
    if start < 0:
        return Misfit("", "the answer holds no JSON object"), False
    try:
        value, _ = json.JSONDecoder().raw_decode(text, start)
    except json.JSONDecodeError as error:
        return Misfit("", f"the answer is no JSON: {error.msg}"), _is_cut(error)
    except RecursionError:
        return Misfit("", "the answer is JSON that is nested too deeply"), False
    # Neither Arrow nor UTF-8 can hold half of a pair, which JSON can.
    return (without_surrogates(value) if "\\ud" in text.lower() else value), False


def _is_cut(error: json.JSONDecodeError) -> bool:
    """Tell whether a text is JSON but for its end."""
    rest = error.doc[error.pos :].strip()
    is_escape = error.msg.startswith("Invalid \\") and len(rest) < len(r"\u1234")
    is_begun = any(word.startswith(rest) for word in ("true", "false", "null", "-"))
    return error.msg.startswith("Unterminated") or is_escape or is_begun


def _forgive(value: Any, node: Any, whole: Json) -> Any:
    """Return a value whose choices are spelled as the schema spells them.

    The API does not promise the capitalisation of an enum (its page on structured outputs).
    """
    node = resolve(node, whole)
    if isinstance(value, str) and "enum" in node:
        return _closest(value, node["enum"])
    if isinstance(value, str) and "const" in node:
        return _closest(value, [node["const"]])
    for part in node.get("anyOf", ()):
        forgiven = _forgive(value, part, whole)
        if forgiven != value:
            return forgiven
    if isinstance(value, dict):
        parts = node.get("properties", {})
        return {
            name: _forgive(inner, parts[name], whole) if name in parts else inner
            for name, inner in value.items()
        }
    if isinstance(value, list) and "items" in node:
        return [_forgive(inner, node["items"], whole) for inner in value]
    return value


def _closest(value: str, choices: Sequence[Any]) -> Any:
    if value in choices:
        return value
    near = [
        choice
        for choice in choices
        if isinstance(choice, str) and _folded(choice) == _folded(value)
    ]
    return near[0] if len(near) == 1 else value


def _folded(word: str) -> str:
    return _GAP.sub(" ", word.strip()).casefold()
