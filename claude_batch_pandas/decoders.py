"""A plain schema -> a compiled decoder of answers, many times as fast as reading them one by one.

It takes only what `Output.read` takes without a second look, and gives the same cells. An answer
that it refuses is read by that: it may be spelled otherwise, stand among words, or fit nothing.
Pure.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import Annotated, Any, Literal, NamedTuple, get_origin

import msgspec

from claude_batch_pandas.outputs import LARGEST, Output
from claude_batch_pandas.schemas import Json, resolve

SAID = frozenset({"title", "description", "examples"})  # in a schema, what restricts nothing
BOUNDS = {
    "minimum": "ge",
    "maximum": "le",
    "exclusiveMinimum": "gt",
    "exclusiveMaximum": "lt",
}
NULL = {"type": "null"}


class Decoded(NamedTuple):
    """Some answers.

    Attributes
    ----------
    cells : list of list
        One list per column of the output, one cell per answer.
    refused : sequence of int
        The places of those that have to be read one by one; their cells are None.
    """

    cells: list[list[Any]]
    refused: Sequence[int]


Decode = Callable[[list[str | None]], Decoded]


def decode_with(output: Output) -> Decode:
    """Return what reads answers, None for those that are not texts, as an output."""
    if output.is_text:
        return lambda texts: Decoded([texts], [])
    read = compiled(output)
    if read is None:
        count = len(output.fields)
        return lambda texts: Decoded([[None] * len(texts) for _ in range(count)], range(len(texts)))
    return partial(_decode, output, read)


def _decode(output: Output, read: Callable[[str], Any], texts: Sequence[str | None]) -> Decoded:
    found: list[Any] = []
    refused: list[int] = []
    add = found.append
    for i, text in enumerate(texts):
        try:
            add(read(text))  # type: ignore[arg-type] # None is refused like any other
        except (msgspec.MsgspecError, UnicodeError, RecursionError, TypeError):
            refused.append(i)
    if output.flags:
        chosen = [{*one.p0} for one in found]
        cells = [[flag in some for some in chosen] for flag in output.flags]
    else:
        cells = [[*map(attrgetter(f"p{i}"), found)] for i in range(len(output.fields))]
    return Decoded([_spread(column, refused) for column in cells] if refused else cells, refused)


def compiled(output: Output) -> Callable[[str], Any] | None:
    """Return what reads an answer into an object with the attributes ``p0``, ``p1`` and so on.

    None where the schema is not plain enough.
    """
    schema = output.schema
    if schema is None or not schema.is_plain or not (output.expand or schema.is_wrapped):
        return None
    whole = schema.json
    if whole.keys() - SAID - {"type", "properties", "required", "additionalProperties", "$defs"}:
        return None
    kinds = {name: _kind(node, whole) for name, node in whole["properties"].items()}
    if None in kinds.values() or kinds.keys() != {*whole.get("required", ())}:
        return None
    names = {f"p{i}": name for i, name in enumerate(kinds)}
    try:
        struct = msgspec.defstruct(
            "Answer",
            [*zip(names, kinds.values(), strict=True)],
            rename=names,
            forbid_unknown_fields=whole.get("additionalProperties") is False,
            gc=False,
        )
        return msgspec.json.Decoder(struct).decode
    except (TypeError, ValueError, OverflowError, SystemError):  # names and bounds it cannot hold
        return None


def _kind(node: Any, whole: Json) -> Any:
    """Return the type of a part of a schema; None where a type alone does not tell what it takes."""
    if "$ref" in node and node.keys() - SAID - {"$ref"}:  # which restricts it further
        return None
    node = {name: part for name, part in resolve(node, whole).items() if name not in SAID}
    kind: Any = None
    match node:
        case {"anyOf": [part, other]} if len(node) == 1 and NULL in (part, other):
            kind = _kind(other if part == NULL else part, whole)
            kind = None if kind is None else kind | None
        case {"enum": [*choices]} if choices and _is_of_texts(node, "enum"):
            are_texts = all(isinstance(choice, str) for choice in choices)
            kind = Literal[tuple(choices)] if are_texts else None
        case {"const": str(choice)} if _is_of_texts(node, "const"):
            kind = Literal[choice]
        case {"type": "string" | "boolean" as name} if len(node) == 1:
            kind = str if name == "string" else bool
        case {"type": "array", "items": part} if node.keys() == {"type", "items"}:
            inner = _kind(part, whole)
            is_exact = inner in {str, bool} or get_origin(inner) is Literal
            # In a list of numbers, a 1.0 stays what it is.
            kind = types.GenericAlias(list, (inner,)) if is_exact else None
        case {"type": "integer" | "number" as name} if node.keys() <= {"type", *BOUNDS}:
            kind = _number(name, {BOUNDS[key]: node[key] for key in node if key != "type"})
    return kind


def _is_of_texts(node: Json, key: str) -> bool:
    """Tell whether a part of a schema says no more than which texts may stand there."""
    return node.keys() <= {key, "type"} and node.get("type", "string") == "string"


def _number(name: str, bounds: dict[str, Any]) -> Any:
    kind: type = float if name == "number" else int
    if {"ge", "gt"} <= bounds.keys() or {"le", "lt"} <= bounds.keys():
        return None
    if kind is float:
        return Annotated[float, msgspec.Meta(**bounds)]
    if not all(isinstance(bound, int) and abs(bound) <= LARGEST for bound in bounds.values()):
        return None
    least = {} if "gt" in bounds else {"ge": bounds.get("ge", -LARGEST)}
    most = {} if "lt" in bounds else {"le": bounds.get("le", LARGEST)}
    return Annotated[int, msgspec.Meta(**{**bounds, **least, **most})]


def _spread(cells: list[Any], gaps: Sequence[int]) -> list[Any]:
    """Return cells where they stand among others that are missing."""
    whole: list[Any] = [None] * (len(cells) + len(gaps))
    rest = iter(cells)
    missing = frozenset(gaps)
    for i in range(len(whole)):
        if i not in missing:
            whole[i] = next(rest)
    return whole
