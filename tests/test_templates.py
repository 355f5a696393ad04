"""``{column}`` text: what it may name, how it is rendered, what it refuses."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_batch_pandas.exceptions import MissingColumnError, TemplateError
from claude_batch_pandas.templates import Text, parse_prompt, parse_text
from tests.strategies import texts

COLUMNS = ["a", "Order ID", "a.b", "a[0]", "a!r", "7", "x:y", "größe", " pad ", "cl}ose"]
SPECS = ["", ".2f", ">12", "08.3f", "+", ",", "e", "*^20,.1f", "!>9", "[<8"]


def rendered(template: str, values: dict[str, list[Any]]) -> list[str]:
    """Return the template rendered over the rows of some columns."""
    text = parse_text(template, list(values))
    assert isinstance(text, Text)
    return text.render(values, range(len(next(iter(values.values())))))


def doubled(literal: str) -> str:
    return literal.replace("{", "{{").replace("}", "}}")


@given(st.lists(st.tuples(texts, st.sampled_from(COLUMNS), texts), min_size=1, max_size=5))
@settings(deadline=None, max_examples=200)
def test_text_renders_as_its_parts_do(parts: list[tuple[str, str, str]]) -> None:
    """Literals stay, each field becomes its value, and braces in either survive."""
    template = "".join(doubled(literal) + "{" + column + "}" for literal, column, _ in parts)
    values = {column: [column + value] for _, column, value in parts}

    assert rendered(template, values) == [
        "".join(literal + values[column][0] for literal, column, _ in parts)
    ]


@given(
    st.lists(st.tuples(texts, st.sampled_from(SPECS), st.floats(-1e9, 1e9)), min_size=1, max_size=4)
)
@settings(deadline=None, max_examples=200)
def test_text_renders_as_str_format_does(parts: list[tuple[str, str, float]]) -> None:
    """A template gives what str.format gives for the same text with numbered fields."""
    names = [f"column {i}" for i in range(len(parts))]
    cells = [value for *_, value in parts]
    literals = [doubled(literal) for literal, *_ in parts]
    specs = [spec for _, spec, _ in parts]
    template = "".join(
        f"{literal}{{{name}:{spec}}}"
        for literal, name, spec in zip(literals, names, specs, strict=True)
    )
    numbered = "".join(
        f"{literal}{{{i}:{spec}}}"
        for i, (literal, spec) in enumerate(zip(literals, specs, strict=True))
    )

    assert rendered(template, {name: [cell] for name, cell in zip(names, cells, strict=True)}) == [
        numbered.format(*cells)
    ]


@given(texts)
@settings(deadline=None, max_examples=100)
def test_text_without_fields_is_a_plain_string(literal: str) -> None:
    """A text without fields is unescaped once, when it is parsed."""
    assert parse_text(doubled(literal), ["a"]) == literal


def test_value_with_a_field_stays_as_it_is() -> None:
    """Substitution happens once: a value that holds {other} is never substituted again."""
    found = rendered("{a} {other}", {"a": ["{other} {{ {0} }"], "other": ["secret"]})

    assert found == ["{other} {{ {0} } secret"]


@pytest.mark.parametrize("column", COLUMNS)
def test_exact_column_name_wins(column: str) -> None:
    """A column's exact name wins over whatever its dots, brackets or colons could mean."""
    assert rendered("<{" + column + "}>", {column: ["value"], "x": ["other"]}) == ["<value>"]


def test_longest_column_before_a_colon_wins() -> None:
    """With columns x and x:y, {x:y:>3} formats the column x:y."""
    assert rendered("{x:y:>3}", {"x": [1], "x:y": [2]}) == ["  2"]


def test_same_column_may_stand_twice() -> None:
    """A column may be used more than once, each time with a format of its own."""
    assert rendered("{n:03d} {n} {n:.1f}", {"n": [7]}) == ["007 7 7.0"]


def test_dates_take_format_codes() -> None:
    """{day:%Y-%m-%d} writes a date as asked."""
    found = rendered("{day:%Y-%m-%d %H:%M}", {"day": [dt.datetime(2024, 2, 29, 5, 7)]})  # noqa: DTZ001

    assert found == ["2024-02-29 05:07"]


@pytest.mark.parametrize(
    "field",
    ["a.upper", "a.__class__.__mro__", "a[0]", "a[key].x", "a!r", "a!s:>10", "a.b!a", "a.x:>3"],
)
def test_access_beyond_a_column_is_refused(field: str) -> None:
    """Attributes, indexing and conversions are refused, and the column is named."""
    with pytest.raises(TemplateError, match="asks for more than the column 'a'"):
        parse_text("{" + field + "}", ["a", "b"])


@pytest.mark.parametrize("field", ["", " ", "0", "12", ":>10", "0:d"])
def test_positional_fields_are_refused(field: str) -> None:
    """Empty and numbered fields are refused unless a column has that name."""
    with pytest.raises(TemplateError, match=r"positional field .* name a column instead"):
        parse_text("{" + field + "}", ["a", "b"])


@pytest.mark.parametrize("template", ["{a:{w}}", "{a:{w}}}", "{a:>{w}}} end", "{a:{}}}"])
def test_nested_fields_are_refused(template: str) -> None:
    """A format spec that holds a field is refused, never dropped."""
    with pytest.raises(TemplateError, match=r"[{}]"):
        parse_text(template, ["a", "w"])


def test_unknown_column_names_the_near_miss_and_what_exists() -> None:
    """The error names what is lacking, what exists, and what was probably meant."""
    with pytest.raises(MissingColumnError) as caught:
        parse_text("{reveiw}", ["review", "stars"])

    assert str(caught.value) == (
        "The template uses columns that the DataFrame lacks: 'reveiw'. "
        "It has: 'review', 'stars'. Did you mean 'review'?"
    )


def test_unknown_column_in_another_case_is_a_near_miss() -> None:
    """A column that differs only in case is offered."""
    with pytest.raises(MissingColumnError, match=r"lacks: 'ID'\. .*Did you mean 'id'\?"):
        parse_text("{ID}", ["x", "id"])


def test_every_unknown_column_is_named_once() -> None:
    """All unknown columns are told in one error, each once."""
    with pytest.raises(MissingColumnError, match=r"lacks: 'zz', 'qq'\."):
        parse_text("{zz} {a} {qq:>3} {zz}", ["a"])


def test_many_columns_are_not_all_listed() -> None:
    """A wide frame's columns are listed up to a number, and the rest is counted."""
    with pytest.raises(MissingColumnError, match=r"'c19' and 80 more\."):
        parse_text("{zz}", [f"c{i}" for i in range(100)])


def test_json_in_a_template_gets_a_hint() -> None:
    """An unescaped brace of JSON is taken for a field; the error says how to write a brace."""
    with pytest.raises(MissingColumnError, match=r"For a literal brace write \{\{"):
        parse_text('{"name": 1}', ["text"])


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("a } b", r"single '}' stands at character 2"),
        ("{a} }", r"single '}' stands at character 4"),
        ("x {a", r"'{' at character 2 of the template is never closed"),
        ("{", r"'{' at character 0 of the template is never closed"),
    ],
)
def test_unmatched_braces_are_refused(template: str, why: str) -> None:
    """A brace without its partner is refused, with its position."""
    with pytest.raises(TemplateError, match=why):
        parse_text(template, ["a"])


def test_field_may_follow_a_brace() -> None:
    """A doubled brace right before or after a field is a brace."""
    assert rendered("{{{a}}}", {"a": ["v"]}) == ["{v}"]


@given(texts, st.lists(texts, min_size=1, max_size=3))
@settings(deadline=None, max_examples=300)
def test_any_text_is_parsed_or_refused_by_us(template: str, columns: list[str]) -> None:
    """No template makes the parser fail with anything but our errors, and none loops."""
    try:
        text = parse_text(template, columns)
    except (TemplateError, MissingColumnError):
        return

    used = text.columns if isinstance(text, Text) else ()
    assert set(used) <= set(columns)


def test_value_that_does_not_fit_its_format_is_named_by_position() -> None:
    """The error names the format, the row's position in the frame, and the type."""
    text = parse_text("{price:.2f}", ["price"])
    assert isinstance(text, Text)
    why = r"format \{price:\.2f\} does not fit the value at position 12, a str"

    with pytest.raises(TemplateError, match=why):
        text.render({"price": [1.0, "free"]}, [11, 12])


def test_number_too_large_for_its_format_is_refused_by_us() -> None:
    """An integer that no float can hold does not fit .2f; the error is ours."""
    text = parse_text("{n:.2f}", ["n"])
    assert isinstance(text, Text)

    with pytest.raises(TemplateError, match="does not fit the value at position 0, a int"):
        text.render({"n": [10**400]}, [0])


def test_value_that_fails_only_once_is_refused_by_us() -> None:
    """A value whose format fails, though it works when asked again, is still our error."""

    class Fickle:
        has_failed = False

        def __format__(self, spec: str) -> str:
            if self.has_failed:
                return "now"
            self.has_failed = True
            msg = "not yet"
            raise ValueError(msg)

    text = parse_text("{a}", ["a"])
    assert isinstance(text, Text)

    with pytest.raises(TemplateError, match="cannot be rendered over these values"):
        text.render({"a": [Fickle()]}, [0])


def test_a_template_that_is_not_utf8_is_refused() -> None:
    """It could neither be sent nor kept."""
    with pytest.raises(TemplateError, match=r"holds a lone surrogate.* Repair the text"):
        parse_text("\ud800{a}", ["a"])


def test_the_values_of_a_series_are_told() -> None:
    """Its own name is no column."""
    with pytest.raises(MissingColumnError, match=r"values of a Series are called \{value\}"):
        parse_text("{text}", ["value"])


def test_gaps_render_as_nothing() -> None:
    """Rendering with gaps writes a missing value as the empty string, whatever its format."""
    text = parse_text("{a:.1f}-{b}", ["a", "b"])
    assert isinstance(text, Text)
    found = text.render_with_gaps(
        {"a": [1.0, None], "b": ["{x}", "y"]}, {"a": [False, True]}, [0, 1]
    )

    assert found == ["1.0-{x}", "-y"]


def test_gaps_do_not_hide_which_value_does_not_fit() -> None:
    """With gaps, the error names the value that does not fit, not a missing one before it."""
    text = parse_text("{a:.1f}", ["a"])
    assert isinstance(text, Text)

    with pytest.raises(TemplateError, match="the value at position 6, a str"):
        text.render_with_gaps({"a": [None, "free"]}, {"a": [True, False]}, [5, 6])


def test_text_template_is_one_user_message() -> None:
    """A string template becomes the content of one user message."""
    prompt = parse_prompt("Say {a}", None, ["a"])
    [message] = prompt.messages

    assert message["role"] == "user"
    assert message["content"].columns == ("a",)
    assert prompt.system is None


def test_texts_come_in_the_order_of_the_request() -> None:
    """System comes first, then the messages, then their blocks; columns are told once each."""
    prompt = parse_prompt(
        [
            {"role": "user", "content": [{"type": "text", "text": "{c}"}]},
            {"role": "assistant", "content": "{a}"},
            {"role": "user", "content": "constant"},
        ],
        [{"type": "text", "text": "{b} {a}", "cache_control": {"type": "ephemeral"}}],
        ["a", "b", "c"],
    )

    assert [text.columns for text in prompt.texts] == [("b", "a"), ("c",), ("a",)]
    assert prompt.columns == ["b", "a", "c"]
    assert prompt.system[0]["cache_control"] == {"type": "ephemeral"}
    assert prompt.messages[2] == {"role": "user", "content": "constant"}


def test_other_blocks_stay_as_they_are() -> None:
    """Only the text of text blocks is templated; braces elsewhere mean nothing."""
    image = {"type": "image", "source": {"type": "url", "url": "https://example.com/{a}"}}
    prompt = parse_prompt([{"role": "user", "content": [image]}], "{{}}", ["a"])

    assert prompt.messages == [{"role": "user", "content": [image]}]
    assert prompt.system == "{}"
    assert prompt.texts == []


@pytest.mark.parametrize("template", ["", "  \n", "\u2003"])
def test_empty_template_is_refused(template: str) -> None:
    """A template without text is refused."""
    with pytest.raises(TemplateError, match="The template is empty"):
        parse_prompt(template, None, ["a"])


@pytest.mark.parametrize("content", ["", "  ", [{"type": "text", "text": " "}]])
def test_empty_message_is_refused(content: Any) -> None:
    """A message whose constant text is empty would fail in every row, so it is refused."""
    with pytest.raises(TemplateError, match="empty"):
        parse_prompt([{"role": "user", "content": content}], None, ["a"])


@pytest.mark.parametrize("template", [None, 3, [], (), {}, b"x"])
def test_template_of_another_type_is_refused(template: Any) -> None:
    """A template is text or a list of messages; the error shows an example."""
    with pytest.raises(
        TemplateError, match=r"text, a list of messages or a function, not an? .*text"
    ):
        parse_prompt(template, None, ["a"])


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (7, r"Message 0 .* must be \{\"role\""),
        ({"role": "user"}, r"Message 0 .* must be"),
        ({"role": "human", "content": "x"}, "has the role 'human'"),
        ({"role": "user", "content": None}, "content of message 0 must be text or a list"),
        ({"role": "user", "content": []}, "not an empty list"),
        ({"role": "user", "content": [7]}, "A block of message 0 must be"),
        ({"role": "user", "content": [{"text": "x"}]}, "A block of message 0 must be"),
    ],
)
def test_malformed_message_is_refused(message: Any, why: str) -> None:
    """Messages are checked before anything is rendered."""
    with pytest.raises(TemplateError, match=why):
        parse_prompt([message], None, ["a"])


@pytest.mark.parametrize("system", [5, [], [7], {"type": "text"}])
def test_malformed_system_is_refused(system: Any) -> None:
    """The system prompt is text or a list of blocks."""
    with pytest.raises(TemplateError, match="system must be"):
        parse_prompt("{a}", system, ["a"])


def test_a_value_that_ends_a_loop_ends_no_column() -> None:
    """Python takes a StopIteration for the end of the rows; ours are counted."""

    class Odd:
        def __format__(self, spec: str) -> str:
            raise StopIteration

    made = parse_text("{a}", ["a"])
    assert isinstance(made, Text)
    with pytest.raises(TemplateError, match=r"^The template cannot be rendered over these values"):
        made.render({"a": ["x", Odd(), "y"]}, range(3))
