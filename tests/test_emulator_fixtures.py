from __future__ import annotations

import os
from pathlib import Path

import anthropic
import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas.emulator import Emulator, Rule
from claude_batch_pandas.emulator.fixtures import claude_emulator

__all__ = ["claude_emulator"]  # imported for its name, as a conftest does

pytest_plugins = ["pytester"]

CONFTEST = "from claude_batch_pandas.emulator.fixtures import claude_emulator\n"
TESTS = """
import os
import anthropic

def test_one(claude_emulator):
    client = anthropic.Anthropic()
    message = client.messages.create(
        model="claude-haiku-5-5", max_tokens=100, messages=[{"role": "user", "content": "Hello"}]
    )
    assert message.content[-1].text == "[simulated] Hello"
    assert [call.path for call in claude_emulator.calls] == ["/v1/messages"]

def test_two(claude_emulator):
    assert claude_emulator.calls == []
    assert os.environ["ANTHROPIC_API_KEY"] != "a-real-key"

def test_three():
    assert "ANTHROPIC_BASE_URL" not in os.environ
    assert os.environ["ANTHROPIC_API_KEY"] == "a-real-key"
"""


def test_a_frame_is_answered_by_the_emulator(claude_emulator: Emulator) -> None:
    """The package finds it by the environment, and what was sent can be looked at."""
    cbp.options.poll_seconds = (0.01, 0.05)
    claude_emulator.rules = (Rule(outcome="refusal", contains="secret"),)
    df = pd.DataFrame({"text": ["a secret", "a letter"]})
    out = df.claude.batch("{text}", output="answer")

    assert list(out["answer_status"]) == ["refused", "succeeded"]
    assert claude_emulator.batches[0].total == 2


def test_the_sdk_finds_it_too(claude_emulator: Emulator) -> None:
    assert anthropic.Anthropic().messages.batches.list().data == []
    assert [call.method for call in claude_emulator.calls] == ["GET"]


def test_the_ledger_is_the_tests_own(claude_emulator: Emulator, tmp_path: Path) -> None:
    assert Path(os.environ["CLAUDE_BATCH_HOME"]).parent == tmp_path


def test_a_users_conftest_imports_it(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each test has an emulator of its own, and the environment is as it was afterwards."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a-real-key")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TESTS)

    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=3)


def test_nothing_else_imports_pytest() -> None:
    """People without pytest can serve an emulator."""
    folder = Path(cbp.__file__).parent / "emulator"
    importing = [path.name for path in folder.glob("*.py") if "import pytest" in path.read_text()]

    assert importing == ["fixtures.py"]
