"""A schema in every spelling, and what the API cannot be asked for."""

from __future__ import annotations

import dataclasses
import enum
import types
from datetime import date, datetime
from typing import Any, Literal, TypedDict

import pytest
from pydantic import BaseModel, ConfigDict, Field

from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.schemas import Misfit, schema_of


class Address(BaseModel):
    """Where somebody lives."""

    street: str
    number: int | None = None


class Person(BaseModel):
    """A model with everything."""

    name: str = Field(description="as it is written")
    age: int = Field(ge=0, le=150)
    address: Address
    tags: list[str] = []


@dataclasses.dataclass
class Point:
    """A dataclass."""

    x: float
    y: float


class Named(TypedDict):
    """A TypedDict."""

    name: str


class Colour(enum.Enum):
    """A choice."""

    RED = "red"
    BLUE = "blue"


class Aliased(BaseModel):
    """A field under another name in JSON."""

    model_config = ConfigDict(populate_by_name=True)
    kind: str = Field(alias="type")


class Node(BaseModel):
    """A tree."""

    children: list[Node]


class Loose(BaseModel):
    """A field that may be anything."""

    values: dict[str, int]


def properties(given: Any) -> list[str]:
    return list(schema_of(given).json["properties"])


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (Person, ["name", "age", "address", "tags"]),
        (Point, ["x", "y"]),
        (Named, ["name"]),
        (Aliased, ["type"]),
        ({"city": str, "two words": int}, ["city", "two words"]),
        ({"type": Literal["a"], "enum": int}, ["type", "enum"]),
        (
            {"type": "object", "properties": {"b": {"type": "string"}, "a": {"enum": [1]}}},
            ["b", "a"],
        ),
        (int, ["value"]),
        (Literal["a", "b"], ["value"]),
        (list[Person], ["value"]),
        (str | None, ["value"]),
        (Colour, ["value"]),
        (datetime, ["value"]),
        ({"enum": ["a", "b"]}, ["value"]),
        ({"$defs": {"A": {"type": "integer"}}, "$ref": "#/$defs/A"}, ["value"]),
    ],
)
def test_every_spelling_is_an_object(given: Any, names: list[str]) -> None:
    """In the order in which it was written, which is the order of the answer."""
    asked = schema_of(given).asked()

    assert properties(given) == names
    assert list(asked["properties"]) == names
    assert asked["type"] == "object"
    assert asked["additionalProperties"] is False


def test_what_the_api_does_not_enforce_is_told_to_the_model() -> None:
    """Bounds go into the description, and are checked here; titles made of names are left out."""
    asked = schema_of(Person).asked()

    age = asked["properties"]["age"]
    assert age["type"] == "integer"
    assert "minimum: 0" in age["description"]
    assert "maximum: 150" in age["description"]
    assert asked["properties"]["name"] == {"type": "string", "description": "as it is written"}
    assert "title" not in str(asked)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (5, r"schema must be a type, a dict of column -> type or a JSON schema, not 5\. For a"),
        ("int", "schema must be a type"),
        (["a", "b"], r"For a choice write typing\.Literal"),
        ({}, "schema is an empty dict"),
        ({"a": 5}, "'a': 5 is no column and its type"),
        ({3: int}, "3: <class 'int'> is no column"),
        ({"type": "objekt"}, r"schema is no JSON schema: 'objekt' is not valid .*\(at \$\.type\)"),
        (Node, r"schema field 'children\[\]\.children\[\]' refers to itself"),
        (Loose, "schema field 'values' has 'additionalProperties', which the API cannot take"),
        (tuple[int, str], "schema field 'value' has 'prefixItems'"),
        (Any, "schema field 'value' may be anything"),
        ({"a": list}, r"schema field 'a\[\]' may be anything"),
        ({"a": dict}, "schema field 'a' has 'additionalProperties'|'a' is an object without"),
        ({"type": "object", "properties": {}}, "an object without properties"),
        (
            {"$ref": "https://example.com/schema"},
            "refers to 'https://example.com/schema', which is not in it",
        ),
        ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "refers to '#/.defs/a'"),
        ({"$ref": "#/$defs/gone"}, "refers to '#/.defs/gone', which is not in it"),
        ({f"c{i}": int | None for i in range(17)}, "17 fields of several types .* 16 at most"),
        (
            {"type": "object", "properties": {f"c{i}": {"type": "string"} for i in range(25)}},
            "25 optional fields; the API compiles 24 at most",
        ),
        (types.ModuleType, "schema cannot be described as JSON schema"),
    ],
)
def test_what_cannot_be_asked_is_named(given: Any, match: str) -> None:
    """The construct and its field, before anything is sent."""
    with pytest.raises(InputError, match=match):
        schema_of(given)


@pytest.mark.parametrize(
    ("given", "value", "where"),
    [
        (Person, {"name": "a", "age": 151, "address": {"street": "s"}}, "age"),
        (Person, {"name": "a", "age": 1, "address": {"street": 5}}, "address.street"),
        (Person, {"name": "a", "age": 1, "address": {"street": "s"}, "tags": ["a", 1]}, "tags[1]"),
        (Person, {"name": "a"}, "age"),
        (int, {"value": "many"}, ""),
        (int, {"other": 1}, "value"),
        ({"type": "object", "properties": {"n": {"type": "integer", "maximum": 3}}}, {"n": 4}, "n"),
        ({"type": "object", "properties": {"n": {"type": "integer"}}}, {"n": True}, "n"),
    ],
)
def test_what_does_not_fit_says_where(given: Any, value: Any, where: str) -> None:
    misfit = schema_of(given).fit(value)

    assert isinstance(misfit, Misfit)
    assert misfit.where == where
    assert misfit.why


def test_what_fits_becomes_what_was_declared() -> None:
    found = schema_of(Person).fit({"name": "a", "age": 1, "address": {"street": "s"}})

    assert found == Person(name="a", age=1, address=Address(street="s"))
    assert schema_of(Point).fit({"x": 1, "y": 2}) == Point(1.0, 2.0)
    assert schema_of(date).fit({"value": "2026-11-20"}) == {"value": date(2026, 11, 20)}
    assert schema_of(Colour).fit({"value": "red"}) == {"value": Colour.RED}
