"""Pictures of a run: true numbers, drawn without a request to anybody, and words for each."""

from __future__ import annotations

import json
import sys
from typing import Any

import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas import frames


@pytest.fixture
def run(client: Any) -> Any:
    """Return a run of labels."""
    frame: Any = pd.DataFrame({"text": [f"row {i} is a" for i in range(9)] + [None]})
    return frame.claude.submit("text", verb="classify", labels=["a", "b"], client=client).wait()


@pytest.mark.parametrize("what", ["answers", "tokens", "dollars", "shards"])
def test_each_picture_has_a_chart_a_table_and_words(what: str, run: Any) -> None:
    plot = run.plot(what)
    bundle = plot._repr_mimebundle_()
    (kind,) = (name for name in bundle if name.startswith("application/vnd.vegalite.v"))

    assert bundle["text/plain"] == plot.summary == repr(plot)
    assert bundle[kind]["description"] == plot.summary
    assert "http" not in json.dumps({k: v for k, v in bundle[kind].items() if k != "$schema"})
    assert "<script" not in bundle["text/html"]
    assert len(plot.table)


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


def test_without_altair_the_extra_is_named(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(cbp.InputError, match=r"pip install 'claude-batch-pandas\[plots\]'"):
        run.plot()
