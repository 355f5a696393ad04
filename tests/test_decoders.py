"""Compiled decoders: what they take is what reading answers one by one gives, cell by cell."""

from __future__ import annotations

import dataclasses
import enum
import json
from typing import Annotated, Any, Literal

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_batch_pandas.decoders import compiled, decode_with
from claude_batch_pandas.outputs import Output, output_of
from claude_batch_pandas.records import RowStatus
from claude_batch_pandas.results import Result
from claude_batch_pandas.schemas import resolve


class Topic(enum.Enum):
    """Choices."""

    CARDS = "cards"
    LOANS = "Loans and fees"


class Review(pydantic.BaseModel):
    """A model."""

    topic: Topic
    stars: int = pydantic.Field(ge=1, le=5, description="How many")
    score: float | None
    tags: list[str]


class Closed(pydantic.BaseModel):
    """A model that takes no more."""

    model_config = {"extra": "forbid"}
    a: str


@dataclasses.dataclass
class Row:
    """A dataclass."""

    people: int
    city: str


PLAIN: dict[str, Any] = {
    "columns": {"topic": Literal["cards", "loans"], "stars": int, "score": float, "urgent": bool},
    "model": Review,
    "closed": Closed,
    "dataclass": Row,
    "choice": Literal["cards", "Loans"],
    "number": int,
    "bounds": Annotated[float, pydantic.Field(gt=0, lt=1)],
    "json": Review.model_json_schema(),
}


class Checked(Review):
    """A model with code of its own."""

    @pydantic.field_validator("stars")
    @classmethod
    def check_stars(cls, value: int) -> int:
        """Return another value."""
        return value + 1


class Stripped(pydantic.BaseModel):
    """A model that changes what it is given."""

    model_config = {"str_strip_whitespace": True}
    a: str


class Usual(pydantic.BaseModel):
    """A model with a default."""

    a: str = "x"


@dataclasses.dataclass
class Late:
    """A dataclass with code of its own."""

    a: int

    def __post_init__(self) -> None:
        self.a += 1


class Loosened(pydantic.BaseModel):
    """A model whose JSON schema says less than it checks."""

    stars: int = pydantic.Field(le=5)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> Any:
        """Leave a bound out, which the API does not enforce."""
        told = handler(core)
        told["properties"]["stars"].pop("maximum", None)
        return told


def _loosen(told: dict[str, Any]) -> None:
    told.pop("maximum", None)


class Letter(enum.Enum):
    """Choices."""

    A = "a"


LOOSE = pydantic.WithJsonSchema({"type": "integer"})
SHARED = {"s": {"type": "integer"}}
CLOSER: dict[str, Any] = {
    "loosened": Loosened,
    "loose": {"a": Annotated[int, pydantic.Field(ge=0, le=5), LOOSE]},
    "extra": {"a": Annotated[int, pydantic.Field(le=5, json_schema_extra=_loosen)]},
    "member": {"a": Literal[Letter.A]},
    "members": {"a": list[Letter]},
    "beside a reference": {
        "type": "object",
        "$defs": SHARED,
        "properties": {"a": {"$ref": "#/$defs/s", "maximum": 10}},
        "required": ["a"],
    },
    "no choice": {
        "type": "object",
        "properties": {"a": {"enum": ["a"], "type": "integer"}},
        "required": ["a"],
    },
    "a quote in a name": {'say "x"': str},
    "a large bound": {
        "type": "object",
        "properties": {"a": {"type": "integer", "exclusiveMinimum": 2**63 - 1}},
        "required": ["a"],
    },
    "validator": Checked,
    "config": Stripped,
    "default": Usual,
    "post_init": Late,
    "lower": Annotated[str, pydantic.StringConstraints(to_lower=True)],
    "pattern": {"a": Annotated[str, pydantic.Field(pattern="^x")]},
    "function": {"a": Annotated[int, pydantic.AfterValidator(lambda value: value * 2)]},
    "nested": {"a": Row},
    "numbers": {"a": list[int]},
    "union": {"a": int | str},
    "choices of numbers": Literal[1, 2],
    "optional": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": []},
    "types": {"type": "object", "properties": {"a": {"type": ["string"]}}, "required": ["a"]},
}
cells = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(0, 6),
    st.floats(),
    st.sampled_from([1.0, 2.5, 2**63, -(2**63), "5", "1.0", "true"]),
    st.sampled_from(["cards", "Cards", "loans", "Loans", "loans_and_fees", "Loans and fees", ""]),
    st.text(max_size=3),
    st.lists(st.one_of(st.text(max_size=2), st.integers(0, 2)), max_size=2),
)
NAMES = ["topic", "stars", "score", "urgent", "tags", "a", "b", "people", "city", "value"]
answers = st.dictionaries(st.sampled_from([*NAMES, "more"]), cells, max_size=6)


def fitting(node: Any, whole: Any) -> st.SearchStrategy[Any]:
    """Return values that a part of a schema takes."""
    node = resolve(node, whole)
    if "anyOf" in node:
        return st.one_of([fitting(part, whole) for part in node["anyOf"]])
    if "enum" in node or "const" in node:
        return st.sampled_from(node.get("enum", [node.get("const")]))
    return {
        "string": st.text(max_size=3),
        "integer": st.integers(1, 5),
        "number": st.floats(0.1, 0.9),
        "boolean": st.booleans(),
        "null": st.none(),
        "array": st.lists(st.text(max_size=2), max_size=2),
    }[node["type"]]


def texts_of(output: Output) -> st.SearchStrategy[str]:
    """Return texts of which some fit an output, and some nearly do."""
    assert output.schema is not None
    whole = output.schema.json
    parts = {name: fitting(node, whole) for name, node in whole["properties"].items()}
    good = st.fixed_dictionaries(parts, optional={"more": cells})
    near = good.flatmap(
        lambda value: st.sampled_from([*value]).flatmap(
            lambda name: cells.map(lambda cell: {**value, name: cell})
        )
    )
    words = st.one_of(good, good, near, answers, cells).map(json.dumps)
    return st.one_of(
        words,
        words.map(lambda text: f"Here it is: {text} I hope it helps."),
        words.map(lambda text: f" {text}\n"),
        words.map(lambda text: text[:-1]),
        words.map(lambda text: text + text),
        st.just('{"a": "\\ud800"}'),
    )


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_decoded_is_what_is_read(name: str) -> None:
    """An answer is refused, or succeeded with the same cells."""
    output = output_of("answer", PLAIN[name])
    decode = decode_with(output)
    seen = set()

    @given(st.lists(texts_of(output), max_size=5))
    @settings(deadline=None, max_examples=60)
    def check(texts: list[str]) -> None:
        found = decode([*texts, None])
        read = [output.read(Result(RowStatus.SUCCEEDED, text)) for text in texts]
        expected = output.cells(read)
        assert len(texts) in found.refused
        for i, result in enumerate(read):
            if i in found.refused:
                seen.add("refused")
                assert [column[i] for column in found.cells] == [None] * len(found.cells)
            else:
                seen.add("taken")
                assert result.status is RowStatus.SUCCEEDED
                assert [column[i] for column in found.cells] == [column[i] for column in expected]

    check()
    assert seen == {"taken", "refused"}


@pytest.mark.parametrize("name", CLOSER)
def test_schemas_that_say_more_are_not(name: str) -> None:
    """Code, defaults, patterns, nesting and numbers in lists need a closer look."""
    output = output_of("answer", CLOSER[name])

    assert compiled(output) is None
    assert decode_with(output)(["{}"]).refused == range(1)


def test_several_labels_are_flags() -> None:
    """Each choice is a column of true and false."""
    output = output_of("x", list[Literal["a", "b"]], flags=("a", "b"))
    found = decode_with(output)(['{"value": ["b"]}', "no", '{"value": ["a", "b"]}'])

    assert found.cells == [[False, None, True], [True, None, True]]
    assert found.refused == [1]
