"""A JSON value that obeys a JSON schema, the same one for the same text."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Any

from claude_batch_pandas.emulator.labels import choose

SIMULATED = "[simulated]"

_DEEP = 6  # below this, only what is required: schemas may refer to themselves
_BOTTOM = 40
_SNIPPET = 60
_NUMBER = re.compile(r"(?<![\w.])-?\d{1,9}(?:\.\d{1,6})?(?![\w.]*\w)")

# `anthropic.transform_schema` moves bounds into the description, where a model reads them.
_BOUND = re.compile(
    r"\b(minimum|maximum|exclusiveMinimum|exclusiveMaximum|minLength|maxLength|minItems|maxItems)"
    r": (-?\d+(?:\.\d+)?)"
)
_FORMATS = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "simulated@example.com",
    "hostname": "simulated.example.com",
    "uri": "https://simulated.example.com/",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def instance(schema: Mapping[str, Any], text: str) -> Any:
    """Return a value that obeys the schema, made of the text where it can be.

    Understood are type, enum, const, properties, required, items, anyOf, oneOf, allOf, local
    references and bounds; `pattern` is not.
    """
    return _Writer(schema, text).write(schema, "", 0)


class _Writer:
    """One value in the making."""

    def __init__(self, root: Mapping[str, Any], text: str) -> None:
        self.root = root
        self.text = text

    def write(self, schema: Any, path: str, depth: int) -> Any:
        """Return a value for one schema; `path` tells properties of one type apart."""
        if not isinstance(schema, Mapping) or depth > _BOTTOM:
            return None
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._one_of(schema["enum"], path)
        variants = schema.get("anyOf") or schema.get("oneOf")
        kind = _type_of(schema)
        if not variants and isinstance(kind, list):
            variants = [{**schema, "type": name} for name in kind]
        if variants:
            return self.write(self._variant(variants, path, depth), path, depth + 1)
        writer = {"object": self._object, "array": self._array}.get(kind, self._scalar)
        return writer(schema, path, depth)

    def _hash(self, path: str) -> int:
        return zlib.crc32(f"{path}\n{self.text}".encode())

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """Follow references and merge what must hold together."""
        for _ in range(_BOTTOM):
            reference = schema.get("$ref")
            if not isinstance(reference, str):
                break
            target: Any = self.root
            for part in reference.lstrip("#").split("/")[1:]:
                name = part.replace("~1", "/").replace("~0", "~")
                target = target.get(name, {}) if isinstance(target, Mapping) else {}
            schema = {**target, **{k: v for k, v in schema.items() if k != "$ref"}}
        for part in schema.get("allOf", ()):
            schema = {**schema, **self._resolved(part)}
        return schema

    def _one_of(self, values: list[Any], path: str) -> Any:
        if set(map(type, values)) == {str}:
            return choose(tuple(values), self.text)
        return values[self._hash(path) % len(values)]

    def _variant(self, variants: list[Any], path: str, depth: int) -> Any:
        """Prefer a value to null, but now and then, and deep down, take null."""
        nulls = [v for v in variants if isinstance(v, Mapping) and v.get("type") == "null"]
        others = [v for v in variants if v not in nulls]
        if nulls and (not others or depth > _DEEP or self._hash(path) % 8 == 0):
            return nulls[0]
        if depth > _DEEP:
            others = [v for v in others if "$ref" not in v] or others
        return others[self._hash(path) % len(others)]

    def _object(self, schema: Mapping[str, Any], path: str, depth: int) -> dict[str, Any]:
        required = schema.get("required", ())
        return {
            name: self.write(part, f"{path}/{name}", depth + 1)
            for name, part in schema.get("properties", {}).items()
            if name in required or depth <= _DEEP
        }

    def _array(self, schema: Mapping[str, Any], path: str, depth: int) -> list[Any]:
        bounds = _bounds(schema)
        least = int(bounds.get("minItems", 0))
        wanted = 0 if depth > _DEEP else 1 + self._hash(path) % 2
        items = schema.get("items", {"type": "string"})
        count = max(least, min(wanted, int(bounds.get("maxItems", wanted))))
        values: list[Any] = []
        for position in range(count):
            value = self.write(items, f"{path}/{position}", depth + 1)
            # Once is enough for a label or an option; a required count may need repeating.
            if value not in values or position < least:
                values.append(value)
        return values

    def _scalar(self, schema: Mapping[str, Any], path: str, _depth: int) -> Any:
        kind, bounds = _type_of(schema), _bounds(schema)
        if kind == "boolean":
            return bool(self._hash(path) & 1)
        if kind == "null":
            return None
        if kind in {"integer", "number"}:
            return self._number(kind, bounds, path)
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        text = f"{SIMULATED} {' '.join(self.text.split())[:_SNIPPET]}".rstrip()
        text = text.ljust(int(bounds.get("minLength", 0)), ".")
        return text[: int(bounds.get("maxLength", len(text)))]

    def _number(self, kind: str, bounds: dict[str, float], path: str) -> int | float:
        """Take a number of the text that fits, else any that fits."""
        step = 1 if kind == "integer" else 0.5
        low = bounds.get("minimum", bounds.get("exclusiveMinimum", -step) + step)
        high = bounds.get("maximum", bounds.get("exclusiveMaximum", max(low, 0) + 10 + step) - step)
        low = low if "minimum" in bounds or "exclusiveMinimum" in bounds else min(low, high)
        free = not bounds
        found = [float(number) for number in _NUMBER.findall(self.text)]
        fitting = [
            number
            for number in found
            if (free or low <= number <= high) and (kind == "number" or number.is_integer())
        ]
        chosen = self._hash(path)
        value = (
            fitting[chosen % len(fitting)]
            if fitting
            else low + step * (chosen % (int((high - low) / step) + 1))
        )
        return round(value) if kind == "integer" else float(value)


def _type_of(schema: Mapping[str, Any]) -> Any:
    """Return the schema's type, or the one its keywords imply."""
    if "type" in schema:
        return schema["type"]
    return "object" if "properties" in schema else "array" if "items" in schema else "string"


def _bounds(schema: Mapping[str, Any]) -> dict[str, float]:
    bounds = {name: float(bound) for name, bound in _BOUND.findall(schema.get("description") or "")}
    for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        if isinstance(schema.get(name), int | float):
            bounds[name] = schema[name]
    for name in ("minLength", "maxLength", "minItems", "maxItems"):
        if isinstance(schema.get(name), int):
            bounds[name] = schema[name]
    return bounds
