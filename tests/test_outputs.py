"""Answers by a schema: typed columns, and for every row that does not fit the reason."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable
from datetime import date, datetime
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_validator

import claude_batch_pandas as cbp
from claude_batch_pandas import frames
from claude_batch_pandas.emulator import Emulator, Rule
from claude_batch_pandas.exceptions import InputError, OutputExistsError
from claude_batch_pandas.outputs import Kind, Output, output_of
from claude_batch_pandas.records import RowStatus
from claude_batch_pandas.results import Result
from tests.conftest import JumpingClock

Connect = Callable[..., Any]


class Colour(enum.Enum):
    """A choice."""

    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    """Something nested."""

    city: str


class Ticket(BaseModel):
    """A field of every kind."""

    title: str
    urgency: int = Field(ge=0, le=5)
    cost: float
    is_open: bool
    due: datetime | None
    team: Literal["billing", "tech support"]
    colour: Colour
    tags: list[str]
    address: Address


GOOD: dict[str, Any] = {
    "title": "Broken",
    "urgency": 3,
    "cost": 2,
    "is_open": True,
    "due": "2026-11-20T12:00:00Z",
    "team": "billing",
    "colour": "red",
    "tags": ["a"],
    "address": {"city": "Bonn"},
}


def answer(value: Any, **how: Any) -> Result:
    """Return an answer of a text, or of a value in JSON."""
    text = value if isinstance(value, str) else json.dumps(value)
    return Result(how.pop("status", RowStatus.SUCCEEDED), text, **how)


def read(schema: Any, *values: Any, expand: bool = True) -> pd.DataFrame:
    """Return the columns that answers become."""
    output = output_of("x", schema, expand=expand)
    results = [output.read(answer(value)) for value in values]
    return frames.join(pd.Series(range(len(results))), output, results)


def test_every_field_is_a_column_of_its_dtype() -> None:
    """In the order of the model; a missing answer leaves every dtype as it is."""
    out = read(Ticket, GOOD, "no JSON")

    assert list(out.columns) == [*Ticket.model_fields, "x_status", "x_error"]
    kinds = {name: str(kind) for name, kind in out.dtypes.items()}
    kinds |= {"title": "text", "due": kinds["due"].replace("[us, ", "[")}
    assert {name: kinds[name] for name in Ticket.model_fields} == {
        "title": "text",
        "urgency": "Int64",
        "cost": "Float64",
        "is_open": "boolean",
        "due": "datetime64[UTC]",
        "team": "category",
        "colour": "category",
        "tags": "object",
        "address": "object",
    }
    assert out["team"].cat.categories.tolist() == ["billing", "tech support"]
    assert not out["team"].cat.ordered
    assert out.loc[0, "colour"] == "red"
    assert out.loc[0, "address"] == Address(city="Bonn")
    assert out.loc[0, "due"] == pd.Timestamp("2026-11-20T12:00:00Z")
    assert out.loc[1, list(Ticket.model_fields)].isna().all()
    assert out["x_status"].tolist() == ["succeeded", "invalid"]
    assert out.loc[1, "x_error"] == "the answer holds no JSON object"


@pytest.mark.parametrize(
    ("schema", "value", "dtype"),
    [
        (int, 3, "Int64"),
        (float | None, None, "Float64"),
        (bool, False, "boolean"),
        (Literal["a", "b"], "b", "category"),
        (Literal[1, 2], 2, "category"),
        (date, "2026-11-20", "datetime64[us]"),
        (list[int], [1, 2], "object"),
        (int | str, "a", "object"),
    ],
)
def test_a_bare_type_is_the_one_column(schema: Any, value: Any, dtype: str) -> None:
    out = read(schema, {"value": value})

    assert list(out.columns) == ["x", "x_status", "x_error"]
    assert str(out["x"].dtype) == dtype
    cell = out["x"].iloc[0]
    if value is None:
        assert pd.isna(cell)
    else:
        assert cell == (pd.Timestamp(value) if schema is date else value)


def test_whole_answers_can_be_kept() -> None:
    """As they were declared; of a JSON schema, as dicts."""
    out = read(Ticket, GOOD, "none", expand=False)
    plain = read(
        {"type": "object", "properties": {"n": {"type": "integer"}}}, {"n": 1}, expand=False
    )

    assert list(out.columns) == ["x", "x_status", "x_error"]
    assert out["x"].tolist() == [Ticket(**GOOD), None]
    assert plain["x"].tolist() == [{"n": 1}]


@pytest.mark.parametrize(
    ("text", "status", "why"),
    [
        ('Sure!\n```json\n{"value": 5}\n```', "succeeded", None),
        ('{"value": 5} Hope that helps {', "succeeded", None),
        ("5", "invalid", "the answer holds no JSON object"),
        ("", "invalid", "the answer holds no JSON object"),
        ('{"value": "five"}', "invalid", "the answer does not fit: .*"),
        ("{value: 5}", "invalid", "the answer is no JSON: Expecting property name.*"),
        ('{"value": 99999999999999999999}', "invalid", "the answer does not fit: .* 64 bits"),
        ('{"value": ' + "[" * 100_000, "invalid|truncated", ".*"),
        ('{"value": 5', "truncated", "the answer ends within its JSON"),
        ('{"value": ', "truncated", "the answer ends within its JSON"),
        ('{"value"', "truncated", "the answer ends within its JSON"),
        ('{"val', "truncated", "the answer ends within its JSON"),
        ('{"a": tru', "truncated", "the answer ends within its JSON"),
        ('{"a": "\\u12', "truncated", "the answer ends within its JSON"),
        ("{", "truncated", "the answer ends within its JSON"),
    ],
)
def test_what_is_no_answer_says_why(text: str, status: str, why: str | None) -> None:
    """Its text stays, for people to look at."""
    result = output_of("x", int).read(answer(text))

    assert result.status in status.split("|")
    assert result.text == text
    [told] = read(int, text)["x_error"]
    assert pd.isna(told) if why is None else re.fullmatch(why, told)


@pytest.mark.parametrize("depth", [100, 300, 900, 5_000])
@pytest.mark.parametrize(
    "schema", [int, list[int], {"type": "object", "properties": {"value": {"type": "integer"}}}]
)
def test_depth_costs_its_row(schema: Any, depth: int) -> None:
    """Whatever reads it gives up somewhere; nothing but that answer is lost."""
    out = read(schema, '{"value": ' + "[" * depth + "]" * depth + "}", '{"value": 5}')

    assert len(out) == 2
    assert set(out["x_status"]) <= {"invalid", "succeeded"}


def test_half_a_character_is_replaced() -> None:
    out = read(str, '{"value": "a\\ud800b"}', '{"value": "\\ud83d\\ude00"}')

    assert out["x"].tolist() == ["a\ufffdb", "\U0001f600"]


class Strict(BaseModel):
    """A model whose validator has a mistake."""

    n: int

    @field_validator("n")
    @classmethod
    def look_up(cls, n: int) -> int:
        """Fail for what is not in a table."""
        return {1: 1}[n]


def test_a_validator_that_fails_costs_its_row() -> None:
    out = read(Strict, {"n": 1}, {"n": 2})

    assert out["x_status"].tolist() == ["succeeded", "invalid"]
    assert out["x_error"].iloc[1] == "the answer does not fit: checking it raised KeyError"


def test_an_answer_that_is_no_answer_is_left_alone() -> None:
    """What was cut, refused or failed is told as that."""
    output = output_of("x", int)
    for status in RowStatus:
        if status is not RowStatus.SUCCEEDED:
            result = answer('{"value": 1}', status=status, error="why")
            assert output.read(result) == result


@pytest.mark.parametrize("told", ["Tech Support", "TECH_SUPPORT", " tech-support ", "tech support"])
def test_the_spelling_of_a_choice_is_forgiven(told: str) -> None:
    """The API does not promise the capitalisation of an enum; deeper ones are forgiven, too."""
    schema = {"team": Literal["billing", "tech support"], "more": list[Literal["A", "B"]]}
    out = read(schema, {"team": told, "more": ["a", "B"]})

    assert out["team"].tolist() == ["tech support"]
    assert out["more"].tolist() == [["A", "B"]]


def test_a_choice_that_could_be_two_is_not_guessed() -> None:
    out = read(Literal["us", "US"], {"value": "Us"}, {"value": "US"})

    assert out["x_status"].tolist() == ["invalid", "succeeded"]


def test_dates_of_a_json_schema_are_checked_too() -> None:
    schema = {"type": "object", "properties": {"d": {"type": "string", "format": "date-time"}}}
    out = read(schema, {"d": "2026-11-20T10:00:00+02:00"}, {"d": "soon"})

    assert out["d"].iloc[0] == pd.Timestamp("2026-11-20T08:00:00Z")
    assert out["x_status"].tolist() == ["succeeded", "invalid"]


def test_a_name_that_stands_twice_is_refused() -> None:
    with pytest.raises(InputError, match="schema has a field 'x_status', which is the name of a"):
        output_of("x", {"x_status": str})
    with pytest.raises(InputError, match="output must be the name of the new column"):
        output_of("", int)


KINDS: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63) + 1, 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    str: st.text(),
    Literal["a", "b c", "ü"]: st.sampled_from(["a", "b c", "ü"]),
    list[int]: st.lists(st.integers(), max_size=3),
}


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_values_survive_the_way_to_a_column(data: st.DataObject) -> None:
    """Any declared columns, any values, and gaps: what the model said is what the column holds."""
    names = data.draw(st.lists(st.text("abc ", min_size=1), min_size=1, max_size=4, unique=True))
    names = [name for name in names if name.strip()] or ["a"]
    types = {name: data.draw(st.sampled_from(list(KINDS))) for name in names}
    rows = data.draw(
        st.lists(
            st.fixed_dictionaries({n: st.none() | KINDS[kind] for n, kind in types.items()}),
            max_size=4,
        )
    )
    out = read({name: kind | None for name, kind in types.items()}, *rows)

    assert out["x_status"].eq("succeeded").all()
    for name in names:
        told = [None if is_gap(cell) else cell for cell in out[name]]
        assert told == [row[name] for row in rows]
    assert len(out) == len(rows)


def is_gap(cell: Any) -> bool:
    return not isinstance(cell, list | np.ndarray) and bool(pd.isna(cell))


@given(st.sampled_from([Ticket, int, list[str], Literal["a"], {"a": int}]), st.booleans())
@settings(deadline=None, max_examples=30)
def test_what_is_kept_on_disk_gives_the_same_columns(schema: Any, expand: bool) -> None:
    """Another process knows the JSON schema alone."""
    output = output_of("x", schema, expand=expand)
    kept = Output.load("x", json.loads(json.dumps(output.dump())))

    assert kept.fields == output.fields
    assert kept.columns == output.columns
    assert kept.schema is not None
    assert output.schema is not None
    assert kept.schema.json == output.schema.json


def test_plain_text_is_kept_as_plain_text() -> None:
    assert Output.load("x", Output("x").dump()) == Output("x")
    assert Output.load("x", None) == Output("x")
    assert Output("x").fields[0].kind is Kind.TEXT


# Through the whole way


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame({"text": ["a", "b", "c"]}, index=[1, 1, 2])


def test_a_frame_gets_typed_columns(frame: pd.DataFrame, client: Any, emulator: Emulator) -> None:
    """The request asks for what the schema says; another kernel finds the same columns."""
    out = frame.claude.batch("{text}", schema=Ticket, output="ticket", client=client)
    run = cbp.run(cbp.runs()["id"].iloc[0], client=client)
    again = run.result(frame)

    [request] = {json.dumps(r["params"]["output_config"]) for r in emulator.batches[0].requests}
    form = json.loads(request)["format"]
    assert form["type"] == "json_schema"
    assert list(form["schema"]["properties"]) == list(Ticket.model_fields)
    assert out.index.tolist() == [1, 1, 2]
    assert out["ticket_status"].eq("succeeded").all()
    assert again.dtypes.equals(out.dtypes)
    assert again.drop(columns="address").equals(out.drop(columns="address"))
    assert again["address"].tolist() == [{"city": place.city} for place in out["address"]]
    assert frame.claude.batch("{text}", schema=Ticket, output="ticket", client=client).equals(out)
    assert len(emulator.batches) == 1


def test_rows_that_do_not_fit_are_told(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect, capsys: Any
) -> None:
    """In the frame, in the closing line, and in `details`, where the raw text is."""
    emulator = Emulator(clock=clock.now, duration=60.0)
    emulator.rules = (Rule(outcome="succeeded", text="I would say 5", contains="b"),)
    client = connect(emulator)
    out = frame.claude.batch("{text}", schema=int, client=client, progress="log")
    run = cbp.run(cbp.runs()["id"].iloc[0], client=client)

    assert out["answer_status"].tolist() == ["succeeded", "invalid", "succeeded"]
    assert out["answer"].isna().tolist() == [False, True, False]
    assert "2 succeeded, 1 invalid" in capsys.readouterr().err
    assert run.details()["text"].iloc[1] == "I would say 5"
    assert run.report().statuses["invalid"] == 1
    frame.claude.batch("{text}", schema=int, client=client)
    with pytest.warns(UserWarning, match="1 invalid: invalid=True"):
        run.retry()
    assert len(emulator.batches) == 1
    emulator.rules = ()
    again = run.retry(invalid=True).result(frame)
    assert again["answer_status"].eq("succeeded").all()
    assert [batch.total for batch in emulator.batches] == [3, 1]
    assert again["answer"].iloc[[0, 2]].equals(out["answer"].iloc[[0, 2]])


def test_an_empty_frame_has_the_columns_too(client: Any) -> None:
    out = pd.DataFrame({"text": []}).claude.batch("{text}", schema=Ticket, client=client)

    assert list(out.columns) == ["text", *Ticket.model_fields, "answer_status", "answer_error"]
    assert str(out["urgency"].dtype) == "Int64"


def test_a_field_that_is_a_column_is_refused_unless_it_may_be_rewritten(
    frame: pd.DataFrame, client: Any, emulator: Emulator
) -> None:
    df = frame.assign(title="mine")
    with pytest.raises(OutputExistsError, match=r"columns \['title'\].*replace=True"):
        df.claude.batch("{text}", schema=Ticket, client=client)
    with pytest.raises(OutputExistsError, match="The template reads the column 'title'"):
        df.claude.batch("{title}", schema=Ticket, replace=True, client=client)
    assert emulator.batches == []
    out = df.claude.batch("{text}", schema=Ticket, replace=True, client=client)
    assert out["title"].ne("mine").all()
    assert list(out.columns)[:2] == ["text", "title"]


def test_one_format_is_enough(frame: pd.DataFrame, client: Any) -> None:
    config = {"output_config": {"format": {"type": "json_schema", "schema": {}}}}
    with pytest.raises(InputError, match="output_config with a format, and there is schema="):
        frame.claude.batch("{text}", schema=int, params=config, client=client)


def test_other_settings_of_the_output_stay(frame: pd.DataFrame, client: Any) -> None:
    params = {"output_config": {"effort": "low"}}
    shown = frame.claude.preview("{text}", schema=int, params=params, client=client)

    assert shown.requests[0]["output_config"]["effort"] == "low"
    assert shown.requests[0]["output_config"]["format"]["type"] == "json_schema"
