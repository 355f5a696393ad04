"""``confirm=True`` asks before much is spent, and sends nothing without a yes."""

from __future__ import annotations

import io
import sys
from typing import Any

import anthropic
import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas.emulator import Emulator
from claude_batch_pandas.exceptions import CostLimitError, InputError
from claude_batch_pandas.store import Store

HIGH = r"40 requests: about \$0\.00\d+, at least \$0\.00\d+, at most \$0\.04\."


class Terminal(io.StringIO):
    """Somebody who types one answer."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def frame() -> Any:
    cbp.options.confirm_above = 0.01
    return pd.DataFrame({"text": [f"row {i:02d}" for i in range(40)]})


def sent(emulator: Emulator) -> int:
    return sum(len(batch.requests) for batch in emulator.batches)


@pytest.mark.parametrize("answer", ["y", "Y ", "yes"])
def test_a_yes_sends(
    answer: str,
    frame: Any,
    client: anthropic.Anthropic,
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(f"{answer}\n"))
    frame.claude.batch("{text}", confirm=True, client=client)
    assert sent(emulator) == 40
    assert "at most $0.04. Send them? [y/N] " in capsys.readouterr().out


@pytest.mark.parametrize("answer", ["", "n", "no", "yess"])
def test_anything_else_sends_nothing(
    answer: str,
    frame: Any,
    client: anthropic.Anthropic,
    emulator: Emulator,
    home: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(f"{answer}\n"))
    with pytest.raises(CostLimitError, match=r"Nothing was sent: it was not confirmed\."):
        frame.claude.batch("{text}", confirm=True, client=client)
    assert sent(emulator) == 0
    assert Store(home).runs() == []


@pytest.mark.parametrize("stdin", [io.StringIO("y\n"), Terminal("")])
def test_where_nobody_can_answer_nothing_is_sent(
    stdin: io.StringIO,
    frame: Any,
    client: anthropic.Anthropic,
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such as in a script, or when the terminal is gone."""
    monkeypatch.setattr(sys, "stdin", stdin)
    words = f"nobody is here to be asked. Nothing was sent. {HIGH} Leave confirm= out, or set"
    with pytest.raises(InputError, match=words):
        frame.claude.batch("{text}", confirm=True, client=client)
    assert sent(emulator) == 0


def test_what_is_cheap_is_not_asked_for(
    frame: Any, client: anthropic.Anthropic, emulator: Emulator
) -> None:
    """Nor what was asked before, nor anything when options.confirm_above is None."""
    cbp.options.confirm_above = 0.06
    frame.claude.batch("{text}", confirm=True, client=client)
    cbp.options.confirm_above = 0.01
    frame.claude.batch("{text}", confirm=True, client=client)
    cbp.options.confirm_above = None
    frame.claude.batch("again {text}", confirm=True, client=client)
    assert sent(emulator) == 80


def test_an_interrupt_at_the_question_leaves_nothing(
    frame: Any,
    client: anthropic.Anthropic,
    emulator: Emulator,
    home: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Interrupted(Terminal):
        def readline(self, *_: Any) -> Any:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        frame.claude.batch("{text}", confirm=True, client=client)
    assert sent(emulator) == 0
    assert Store(home).runs() == []
    assert [path.name for path in (home / "runs").iterdir()] == []
