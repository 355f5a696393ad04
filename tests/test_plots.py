"""Pictures of a run: true numbers, drawn without a request to anybody, and words for each."""

from __future__ import annotations

import base64
import io
import sys
from typing import Any

import pandas as pd
import pytest
from PIL import Image

import claude_batch_pandas as cbp
from claude_batch_pandas import frames


@pytest.fixture
def run(client: Any) -> Any:
    """Return a run of labels."""
    frame: Any = pd.DataFrame({"text": [f"row {i} is a" for i in range(9)] + [None]})
    return frame.claude.submit("text", verb="classify", labels=["a", "b"], client=client).wait()


@pytest.mark.parametrize("what", ["answers", "tokens", "dollars", "shards"])
def test_each_picture_has_pixels_a_table_and_words(what: str, run: Any) -> None:
    """Nothing in it is a script, or leads elsewhere."""
    plot = run.plot(what)
    bundle = plot._repr_mimebundle_()

    assert bundle["text/plain"] == plot.summary == repr(plot)
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert f'alt="{plot.summary}"' in bundle["text/html"]
    assert not any(word in bundle["text/html"] for word in ("<script", "http", "url("))
    assert len(plot.table)
    with Image.open(io.BytesIO(plot.png())) as picture:
        assert picture.width == 770
        assert len(picture.convert("RGB").getcolors(10**6) or ()) > 2  # something is drawn


def test_answers_are_no_formulas_and_need_no_font(client: Any) -> None:
    """Dollar signs, markup and letters that no font has."""
    texts = [
        "$\\frac{1}$ and $",
        "<img src=x onerror=alert(1)>",
        "\U00013080 \u4f60\u597d",
        "a\nb\x1b[31m",
    ]
    frame: Any = pd.DataFrame({"text": texts})
    plot = frame.claude.submit("{text}", client=client).wait().plot()
    assert plot.png().startswith(b"\x89PNG")
    html = plot._repr_mimebundle_()["text/html"]
    assert "<img src=x" not in html
    assert "\x1b" not in plot.summary


def test_of_several_columns_one_is_drawn(client: Any) -> None:
    """Each label of a row is a choice; the fields of a schema are drawn by name."""
    frame: Any = pd.DataFrame({"text": [f"row {i} a b" for i in range(6)]})
    several = frame.claude.submit(
        "text", verb="classify", labels=["a", "b"], multi=True, client=client
    ).wait()
    drawn = several.plot().table.set_index("answer")["rows"]
    out = several.result()
    assert {name: int(out[name].sum()) for name in drawn.index} == drawn.to_dict()
    assert len(drawn) == 2
    schema = {"city": str, "people": int}
    typed = frame.claude.submit("{text}", schema=schema, output="place", client=client).wait()
    assert typed.plot(column="people").summary.startswith("people: ")
    with pytest.raises(cbp.InputError, match="column must be one of city, people, not 'town'"):
        typed.plot(column="town")


def test_a_run_without_answers_can_be_drawn(client: Any) -> None:
    frame: Any = pd.DataFrame({"text": [None, None]})
    run = frame.claude.submit("{text}", client=client).wait()
    for what in ("answers", "tokens", "dollars", "shards"):
        assert run.plot(what).png().startswith(b"\x89PNG")


def test_the_numbers_are_those_of_the_run(run: Any) -> None:
    labels = run.result()["label"].value_counts()
    answers = run.plot("answers")
    drawn = dict(zip(answers.table["answer"], answers.table["rows"], strict=True))
    assert drawn == {name: count for name, count in labels.items() if count}
    assert answers.summary.startswith("label: 9 rows with an answer; most often ")
    details = run.details()
    tokens = run.plot("tokens").table.set_index(["kind", "quantile"])["value"]
    assert tokens["input_tokens", "median"] == details["input_tokens"].median()
    assert tokens["output_tokens", "most"] == details["output_tokens"].max()
    dollars = run.plot("dollars").table.set_index("quantile")["value"]
    assert dollars["most"] == details["dollars"].max()
    shards = run.plot("shards").table
    assert shards["rows"].sum() == 9


def test_what_is_rare_is_counted_together() -> None:
    table = frames.tally([*"aaabbcde", None], 2)
    assert table["answer"].tolist() == ["a", "b", "3 others"]
    assert table["rows"].tolist() == [3, 2, 3]


def test_markup_in_an_answer_is_text() -> None:
    html = frames.plain_html("<b>", frames.tally(["<script>"], 2))
    assert "<b>" not in html
    assert "<script>" not in html


def test_a_picture_of_nothing_says_what_there_is(run: Any) -> None:
    with pytest.raises(cbp.InputError, match="what must be one of answers, tokens, dollars, shar"):
        run.plot("labels")


def test_without_matplotlib_the_extra_is_named(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(cbp.InputError, match=r"pip install 'claude-batch-pandas\[plots\]'"):
        run.plot()
