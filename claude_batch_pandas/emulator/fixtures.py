"""A pytest fixture for tests of code that talks to the Message Batches API.

In a ``conftest.py``: ``from claude_batch_pandas.emulator.fixtures import claude_emulator``. Only
this file imports pytest, and nothing else of the package imports this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_batch_pandas.emulator import Emulator, serve

_KEY = "key-of-a-test"


@pytest.fixture
def claude_emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Serve an emulator on this machine, and let everything in the test find it.

    `ANTHROPIC_BASE_URL` names it, no real key is in the environment, and `CLAUDE_BATCH_HOME` is a
    folder of the test's own. Batches end when they are first looked at.

    Yields
    ------
    Emulator
        The one that is served; set its `rules`, read its `batches` and `calls`.

    Examples
    --------
    >>> def test_refusals_are_counted(claude_emulator):
    ...     claude_emulator.rules = (Rule(outcome="refusal", contains="secret"),)
    ...     assert count_refusals(["a secret", "a letter"]) == 1
    """
    emulator = Emulator(duration=0)
    with serve(emulator=emulator) as url:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", _KEY)
        for name in ("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE", "ANTHROPIC_CUSTOM_HEADERS"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("CLAUDE_BATCH_HOME", str(tmp_path / "ledger"))
        yield emulator
