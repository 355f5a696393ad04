"""The magics: a cell that is a template, a line about runs, and errors of one line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pandas as pd
import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

import claude_batch_pandas as cbp
from claude_batch_pandas import session
from claude_batch_pandas.client import Client
from claude_batch_pandas.emulator import Emulator


@pytest.fixture
def shell(
    jupyter: Any, client: anthropic.Anthropic, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """Return a shell with the extension, whose environment leads to the emulator."""
    monkeypatch.setattr(session, "_client", lambda: Client(client))
    made = InteractiveShell()  # type: ignore[no-untyped-call]
    made.run_line_magic("load_ext", "claude_batch_pandas")
    made.user_ns["df"] = pd.DataFrame({"text": ["a", "b"], "title": ["A", "B"]})
    yield made
    made.history_manager.end_session()  # type: ignore[union-attr]


def test_a_cell_is_a_template(shell: Any, emulator: Emulator) -> None:
    """Its braces are fields; nothing of Python is expanded in it, nor on the line."""
    shell.user_ns["text"] = "a variable"
    out = shell.run_cell_magic(
        "claude_batch", "df -o intent --system 'Be {title}.' --max-tokens 99", "Say {text}!\n{{x}}"
    )
    assert list(out.columns) == ["text", "title", "intent", "intent_status", "intent_error"]
    params = emulator.batches[0].requests[0]["params"]
    assert params["messages"][0]["content"] == "Say a!\n{x}"
    assert params["system"] == "Be A."
    assert params["max_tokens"] == 99


def test_a_result_can_have_a_name(shell: Any) -> None:
    assert shell.run_cell_magic("claude_batch", "df --to out", "{text}") is None
    assert shell.user_ns["out"]["answer_status"].tolist() == ["succeeded"] * 2
    run = shell.run_cell_magic("claude_batch", "df -o later --no-wait", "{text}")
    assert isinstance(run, cbp.Run)
    assert len(run.result()) == 2


def test_a_cell_can_have_a_cap(shell: Any, emulator: Emulator) -> None:
    with pytest.raises(
        UsageError, match=r"can cost up to \$0\.00\d+, more than max_cost=0\.001 all"
    ):
        shell.run_cell_magic("claude_batch", "df --max-cost 0.001", "{text}")
    assert emulator.batches == []


def test_quotes_are_no_part_of_an_argument(shell: Any, emulator: Emulator) -> None:
    line = "df -o 'my intent' -m 'claude-haiku-5-5' --to \"out\""
    shell.run_cell_magic("claude_batch", line, "{text}")
    assert "my intent_status" in shell.user_ns["out"].columns
    assert emulator.batches[0].requests[0]["params"]["model"] == "claude-haiku-5-5"


def test_a_series_can_be_asked_about(shell: Any) -> None:
    shell.user_ns["s"] = pd.Series(["x"])
    assert len(shell.run_cell_magic("claude_batch", "s", "{value}")) == 1


def test_a_line_tells_of_runs(shell: Any) -> None:
    shell.run_cell_magic("claude_batch", "df", "{text}")
    runs = shell.run_line_magic("claude_batch", "runs")
    run_id = runs["id"].iloc[0]
    assert shell.run_line_magic("claude_batch", f"show {run_id}").id == run_id
    shell.user_ns["last"] = run_id
    assert shell.run_line_magic("claude_batch", "show {last}").id == run_id
    costs = shell.run_line_magic("claude_batch", "costs run model")
    assert costs[["run", "rows"]].to_numpy().tolist() == [[run_id, 2]]
    assert shell.run_line_magic("claude_batch", "costs")["dollars"].sum() > 0
    assert shell.run_line_magic("claude_batch", f"cancel {run_id}").done


@pytest.mark.parametrize(
    ("line", "cell", "why"),
    [
        ("nope", "{text}", "There is no variable 'nope'. Name a DataFrame or a Series"),
        ("df", "{texts}", r"columns that the DataFrame lacks: 'texts'.*Did you mean 'text'"),
        ("", "{text}", "the following arguments are required: frame"),
        ("df --max-tokens many", "{text}", "invalid int value: 'many'"),
        ("df --to 1x", "{text}", "--to needs the name of a variable, not '1x'"),
        ("df --system 'oops", "{text}", "No closing quotation"),
        ("df --frobnicate", "{text}", "unrecognized arguments: --frobnicate"),
    ],
)
def test_a_wrong_cell_is_told_in_one_line(line: str, cell: str, why: str, shell: Any) -> None:
    with pytest.raises(UsageError, match=why):
        shell.run_cell_magic("claude_batch", line, cell)


@pytest.mark.parametrize("line", ["", "nope", "show", "cost", "cancel a b"])
def test_a_wrong_line_says_what_there_is(line: str, shell: Any) -> None:
    with pytest.raises(UsageError, match=r"%claude_batch runs \| show ID \| cancel ID"):
        shell.run_line_magic("claude_batch", line)


def test_a_wrong_group_is_told(shell: Any) -> None:
    with pytest.raises(UsageError, match="by must be one or more of day, model, run, key"):
        shell.run_line_magic("claude_batch", "costs week")


def test_an_unknown_run_is_told(shell: Any) -> None:
    with pytest.raises(UsageError, match="There is no run 'x'"):
        shell.run_line_magic("claude_batch", "show x")


def test_the_extension_can_be_taken_away(shell: Any) -> None:
    shell.run_line_magic("unload_ext", "claude_batch_pandas")
    assert "claude_batch" not in shell.magics_manager.magics["cell"]
    assert "claude_batch" not in shell.magics_manager.magics["line"]
    shell.run_line_magic("load_ext", "claude_batch_pandas")
    assert "claude_batch" in shell.magics_manager.magics["cell"]


def test_the_typed_form_does_the_same(queries: pd.DataFrame, client: anthropic.Anthropic) -> None:
    out = cbp.batch(queries, "{text}", output="x", client=client)
    pd.testing.assert_frame_equal(out, queries.claude.batch("{text}", output="x", client=client))
    with pytest.raises(cbp.InputError, match="DataFrame or Series is needed, not a list"):
        cbp.batch([1], "{text}", client=client)  # type: ignore[arg-type]
