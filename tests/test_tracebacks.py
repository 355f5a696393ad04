"""Tracebacks end at the door for our errors, and show everything for a bug or the user's code."""

from __future__ import annotations

import traceback
from typing import Any

import pandas as pd
import pytest

from claude_batch_pandas.exceptions import InputError, TemplateError
from claude_batch_pandas.tracebacks import Curtain


def files(error: BaseException) -> list[str]:
    """Return the files of the frames of an error, from the outside."""
    return [
        frame.filename.rpartition("/")[2] for frame in traceback.extract_tb(error.__traceback__)
    ]


def test_an_error_of_ours_ends_at_the_door() -> None:
    """What is behind the accessor is not shown."""
    with pytest.raises(InputError, match="max_tokens") as caught:
        pd.DataFrame({"text": ["a"]}).claude.batch("{text}", max_tokens=-1)

    assert files(caught.value)[1:] == ["accessor.py", "tracebacks.py", "tracebacks.py"]


def test_the_users_own_frames_stay() -> None:
    """What a template function did wrong can be found."""

    def template(row: Any) -> str:
        return str(row.text / 2)

    with pytest.raises(TemplateError, match="raised TypeError for the row at position 0") as caught:
        pd.DataFrame({"text": ["a"]}).claude.preview(template)

    assert caught.value.__cause__ is not None
    assert files(caught.value.__cause__) == ["test_tracebacks.py"]


def test_a_bug_keeps_its_frames() -> None:
    """Whoever reports it needs them."""

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught, Curtain():
        fail()

    assert caught.traceback[-1].name == "fail"


def test_nothing_happens_without_an_error() -> None:
    """And an error without a cause has none afterwards."""
    with Curtain():
        pass
    with pytest.raises(InputError, match="no") as caught, Curtain():
        raise InputError("no")  # noqa: EM101

    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
