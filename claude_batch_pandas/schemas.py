"""A schema in any of its spellings -> JSON schema, and what the API can be asked to keep to.

A schema is a Pydantic model, a dataclass, a TypedDict, any type, a dict of column -> type, or a
JSON schema. The only file with pydantic and jsonschema, which are imported when one is given.
"""

from __future__ import annotations

import copy
import json
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from claude_batch_pandas.exceptions import InputError

KEYWORDS = frozenset({"type", "properties", "$ref", "anyOf", "oneOf", "allOf", "enum", "const"})
CANNOT = (
    *("not", "if", "patternProperties", "propertyNames", "prefixItems", "contains"),
    *("dependentSchemas", "dependentRequired", "unevaluatedProperties", "unevaluatedItems"),
)
MAX_OPTIONAL = 24  # parameters, then the API says "Schema is too complex for compilation"
MAX_UNIONS = 16  # parameters of several types, those that may be null included
VALUE = "value"  # what stands around a type that is no object

# What pydantic's core schema says of types that a JSON schema describes in full, by its own names.
BOUNDS = {"ge", "le", "gt", "lt"}
PLAIN: dict[str, set[str]] = {
    "str": set(),
    "bool": set(),
    "int": BOUNDS,
    "float": BOUNDS,
    "literal": {"expected"},
    "enum": {"cls", "members", "sub_type"},
    "list": {"items_schema"},
    "nullable": {"schema"},
    "typed-dict": {"cls", "cls_name", "config", "extra_behavior", "fields"},
    "typed-dict-field": {"schema", "required"},
    "model": {"cls", "config", "schema"},
    "model-fields": {"extra_behavior", "fields", "model_name"},
    "model-field": {"schema"},
    "dataclass": {"cls", "cls_name", "config", "fields", "schema", "slots"},
    "dataclass-args": {"dataclass_name", "fields"},
    "dataclass-field": {"init", "kw_only", "name", "schema"},
    "definitions": {"schema", "definitions"},
    "definition-ref": {"schema_ref"},
}

Json = dict[str, Any]
Type = Any  # whatever pydantic makes a schema of


class Misfit(NamedTuple):
    """Why a value does not fit: the field, and the reason."""

    where: str
    why: str


@dataclass(frozen=True, slots=True)
class Schema:
    """What an answer must be.

    Attributes
    ----------
    json : dict
        JSON schema whose root is an object with properties, as it was meant: with bounds and
        patterns that the API does not enforce, and which are checked here.
    is_wrapped : bool
        Whether what was given stands in the one property ``value``.
    fit : callable
        Given the JSON value of an answer, returns what it becomes, or a `Misfit`.
    is_plain : bool
        Whether that is what the JSON schema says, and nothing beyond: no code of a user.
    """

    json: Json
    is_wrapped: bool
    fit: Callable[[Any], Any]
    is_plain: bool = True

    def asked(self) -> Json:
        """Return the schema as the API takes it; the order of properties stays."""
        from anthropic import transform_schema

        return transform_schema(self.json)


def schema_of(given: Any) -> Schema:
    """Return a schema in any of its spellings.

    Raises
    ------
    InputError
        When it is none, or has what the API cannot take; the construct and its field are named.
    """
    if isinstance(given, Mapping):
        if KEYWORDS & given.keys() and not any(map(_is_type, given.values())):
            return from_json(given)
        return _of_type(_typed_dict(given))
    if not _is_type(given):
        msg = (
            f"schema must be a type, a dict of column -> type or a JSON schema, not {given!r:.60}. "
            "For a choice write typing.Literal['a', 'b']."
        )
        raise InputError(msg)
    return _of_type(given)


def from_json(given: Mapping[str, Any]) -> Schema:
    """Return a JSON schema, whose values are checked but stay plain JSON.

    Raises
    ------
    InputError
    """
    import jsonschema

    try:
        jsonschema.Draft202012Validator.check_schema(given)
    except jsonschema.SchemaError as error:
        msg = f"schema is no JSON schema: {error.message[:200]} (at {error.json_path})."
        raise InputError(msg) from None
    whole, is_wrapped = _as_object(copy.deepcopy(dict(given)))
    _check(whole)
    validator = jsonschema.Draft202012Validator(
        whole, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )

    def fit(value: Any) -> Any:
        error = jsonschema.exceptions.best_match(validator.iter_errors(value))
        if error is None:
            return value
        return Misfit(_path(error.absolute_path), error.message[:200])

    return Schema(whole, is_wrapped, fit)


def _of_type(given: Type) -> Schema:
    import pydantic

    if typing.is_typeddict(given):
        given = _modern(given)
    try:
        adapter: Any = pydantic.TypeAdapter(given)
        described = _lean(adapter.json_schema())
    except (pydantic.errors.PydanticUserError, TypeError) as error:
        msg = f"schema cannot be described as JSON schema: {str(error).splitlines()[0][:200]}"
        raise InputError(msg) from None
    whole, is_wrapped = _as_object(described)
    _check(whole)

    def fit(value: Any) -> Any:
        inner = value
        if is_wrapped:
            if not isinstance(value, dict) or VALUE not in value:
                return Misfit(VALUE, "it is missing")
            inner = value[VALUE]
        try:
            found = adapter.validate_json(json.dumps(inner))
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            return Misfit(_path(first["loc"]), first["msg"])
        except RecursionError:
            return Misfit("", "it is nested too deeply")
        except Exception as error:  # noqa: BLE001 - of the user's own validators: it costs its row
            return Misfit("", f"checking it raised {type(error).__name__}")
        return {VALUE: found} if is_wrapped else found

    return Schema(whole, is_wrapped, fit, _is_plain(adapter.core_schema))


def _is_plain(core: Any) -> bool:
    """Tell whether pydantic checks no more than the JSON schema of some simple types says."""
    if isinstance(core, list):
        return all(map(_is_plain, core))
    if not isinstance(core, Mapping) or "type" not in core:
        return True
    told = {name for name, part in core.items() if part}
    known = PLAIN.get(core["type"])
    is_known = known is not None and not told - known - {"type", "metadata", "ref", "serialization"}
    if not is_known or not _is_simple(core) or not _is_told_as_it_is(core):
        return False
    fields = core.get("fields", [])
    parts = [*(fields.values() if isinstance(fields, Mapping) else fields)]
    parts += [core.get(name) for name in ("schema", "items_schema", "definitions")]
    return all(map(_is_plain, parts))


def _is_simple(core: Mapping[str, Any]) -> bool:
    """Tell whether a type is configured as usual, and a value of it is what JSON has."""
    choices = core.get("expected", [])
    inner = core.get("items_schema") or {"type": "str"}
    is_usual = core.get("config", {}).keys() <= {"title", "extra_fields_behavior"}
    are_texts = all(type(choice) is str for choice in choices)
    return is_usual and are_texts and inner["type"] in {"str", "bool", "literal"}


def _is_told_as_it_is(core: Mapping[str, Any]) -> bool:
    """Tell whether nobody changes what the JSON schema of a type says."""
    import pydantic

    own = getattr(core.get("cls"), "__get_pydantic_json_schema__", None)
    usual = vars(pydantic.BaseModel)["__get_pydantic_json_schema__"].__func__
    if own is not None and getattr(own, "__func__", own) is not usual:
        return False
    told = core.get("metadata") or {}
    known = {"pydantic_js_updates"}
    if "cls" in core:
        known |= {"pydantic_js_functions"}
    updates = told.get("pydantic_js_updates", {})
    return told.keys() <= known and updates.keys() <= {"title", "description", "examples"}


def resolve(node: Any, root: Any) -> Any:
    """Follow the references of a part of a schema.

    Raises
    ------
    InputError
        When what it refers to is not in the schema, or is itself.
    """
    seen: set[str] = set()
    while isinstance(node, Mapping) and "$ref" in node:
        name, target = str(node["$ref"]), root
        try:
            for part in name.removeprefix("#/").split("/"):
                target = target[part]
        except (KeyError, TypeError):
            target = None
        if target is None or name in seen:
            msg = f"schema refers to {name!r}, which is not in it; write out what that is."
            raise InputError(msg)
        seen.add(name)
        node = target
    return node


def _is_type(given: Any) -> bool:
    is_union = isinstance(given, types.UnionType | types.GenericAlias)
    return isinstance(given, type) or is_union or typing.get_origin(given) is not None


def _typed_dict(columns: Mapping[Any, Any]) -> Type:
    from typing_extensions import TypedDict

    for name, kind in columns.items():
        if not isinstance(name, str) or not name.strip() or not _is_type(kind):
            msg = (
                f"schema is a dict, and {name!r}: {kind!r:.60} is no column and its type. Write "
                "for example {'city': str, 'people': int}."
            )
            raise InputError(msg)
    if not columns:
        msg = "schema is an empty dict. Write for example {'city': str, 'people': int}."
        raise InputError(msg)
    return TypedDict("Answer", dict(columns))  # type: ignore[operator]


def _modern(given: Type) -> Type:
    """Return a TypedDict that pydantic takes on Python 3.11, too."""
    from typing import NotRequired

    from typing_extensions import TypedDict

    hints = typing.get_type_hints(given, include_extras=True)
    known = {
        name: hints[name] if name in given.__required_keys__ else NotRequired[hints[name]]
        for name in hints
    }
    return TypedDict(given.__name__, known)  # type: ignore[operator]


def _lean(node: Any) -> Any:
    """Leave out what pydantic adds to a schema and nobody asked for: titles made of names."""
    if isinstance(node, list):
        return [_lean(part) for part in node]
    if not isinstance(node, dict):
        return node
    lean: Json = {}
    for name, part in node.items():
        if name in {"properties", "$defs"}:
            lean[name] = {key: _lean(inner) for key, inner in part.items()}
        elif name != "title" and not (name == "default" and part is None):
            lean[name] = _lean(part)
    return lean


def _as_object(described: Json) -> tuple[Json, bool]:
    """Return a schema whose root is an object, and whether it had to be wrapped into one."""
    root = resolve(described, described)
    if root.get("type") == "object" and root.get("properties"):
        definitions = {"$defs": described["$defs"]} if "$defs" in described else {}
        return {**definitions, **root}, False
    definitions = {"$defs": described.pop("$defs")} if "$defs" in described else {}
    whole = {"type": "object", "properties": {VALUE: described}, "required": [VALUE]}
    return {**definitions, **whole, "additionalProperties": False}, True


def _check(whole: Json) -> None:
    """Refuse what the API cannot take, by name and place; see its page on structured outputs."""
    optional = unions = 0
    for path, node, above in _walk(whole, whole, "", ()):
        where = f"schema field {path!r}" if path else "schema"
        if above:
            msg = f"{where} refers to itself, which the API cannot take. Limit the depth by hand."
            raise InputError(msg)
        found = [name for name in CANNOT if name in node]
        extra = node.get("additionalProperties")
        if not found and isinstance(extra, Mapping):
            found = ["additionalProperties"]
        if found:
            msg = (
                f"{where} has {found[0]!r}, which the API cannot take. Name its properties, "
                "or use a list of objects."
            )
            raise InputError(msg)
        if not KEYWORDS & node.keys():
            msg = f"{where} may be anything, which the API cannot take. Give it a type."
            raise InputError(msg)
        if node.get("type") == "object" and not node.get("properties"):
            msg = f"{where} is an object without properties, so it would always be empty."
            raise InputError(msg)
        properties = node.get("properties", {})
        optional += len(properties.keys() - set(node.get("required", ())))
        unions += "anyOf" in node or "oneOf" in node or isinstance(node.get("type"), list)
    for count, most, what in (
        (optional, MAX_OPTIONAL, "optional fields"),
        (unions, MAX_UNIONS, "fields of several types (None is one)"),
    ):
        if count > most:
            msg = f"schema has {count} {what}; the API compiles {most} at most. Split it in two."
            raise InputError(msg)


def _walk(
    node: Any, root: Json, path: str, seen: tuple[str, ...]
) -> Iterator[tuple[str, Json, bool]]:
    """Yield (path, part, whether it refers to a part around it) for every part of a schema."""
    if isinstance(node, Mapping) and "$ref" in node:
        name = node["$ref"]
        if name in seen:
            yield path, dict(node), True
            return
        seen = (*seen, name)
        node = resolve(node, root)
    if not isinstance(node, Mapping):
        return
    yield path, dict(node), False
    for name, part in node.get("properties", {}).items():
        yield from _walk(part, root, f"{path}.{name}".removeprefix("."), seen)
    if "items" in node:
        yield from _walk(node["items"], root, f"{path}[]", seen)
    for kind in ("anyOf", "oneOf", "allOf"):
        for part in node.get(kind, ()):
            yield from _walk(part, root, path, seen)


def _path(parts: typing.Iterable[Any]) -> str:
    """Return where in an answer something is, such as ``items[2].name``."""
    told = ""
    for part in parts:
        told += f"[{part}]" if isinstance(part, int) else f".{part}"
    return told.removeprefix(".")
