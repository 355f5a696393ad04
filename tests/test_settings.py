"""Options: checked when set; set wins over the environment, that over the default."""

from __future__ import annotations

from typing import Any

import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.settings import CHECKS, Options


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> Options:
    monkeypatch.delenv("CLAUDE_BATCH_MODEL", raising=False)
    return Options()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "claude-haiku-5-5"),
        ("max_tokens", 4096),
        ("max_in_flight", 100_000),
        ("poll_seconds", (5.0, 60.0)),
        ("settle_seconds", 900.0),
        ("max_attempts", 3),
        ("max_cost_per_day", None),
        ("progress", "auto"),
    ],
)
def test_defaults(options: Options, name: str, value: Any) -> None:
    """Nothing has to be set."""
    assert getattr(options, name) == value


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("model", "claude-opus-5-5", "claude-opus-5-5"),
        ("max_tokens", 1, 1),
        ("max_in_flight", 7, 7),
        ("poll_seconds", [0.01, 0.01], (0.01, 0.01)),
        ("poll_seconds", (1, 2), (1.0, 2.0)),
        ("settle_seconds", 0.001, 0.001),
        ("max_attempts", 99, 99),
        ("max_cost_per_day", 5, 5.0),
        ("max_cost_per_day", None, None),
        ("confirm_above", 0.5, 0.5),
        ("confirm_above", None, None),
        ("progress", "log", "log"),
        ("progress", print, print),
        ("progress", None, "none"),
        ("progress", False, "none"),
    ],
)
def test_good_values_are_kept(options: Options, name: str, value: Any, kept: Any) -> None:
    """Any positive number is valid, and so are the other documented values."""
    setattr(options, name, value)

    assert getattr(options, name) == kept
    assert type(getattr(options, name)) is type(kept)


@pytest.mark.parametrize("name", ["max_tokens", "max_in_flight", "max_attempts"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "3", None, True, float("nan")])
def test_counts_are_whole_and_positive(options: Options, name: str, value: Any) -> None:
    """A count is a whole number of at least 1."""
    with pytest.raises(InputError, match=rf"options\.{name} must be a whole number of at least 1"):
        setattr(options, name, value)


@pytest.mark.parametrize("name", ["settle_seconds", "max_cost_per_day", "confirm_above"])
@pytest.mark.parametrize("value", [0, -1, "3", True, float("nan"), float("inf"), []])
def test_numbers_are_positive(options: Options, name: str, value: Any) -> None:
    """Seconds and dollars are positive and finite."""
    with pytest.raises(InputError, match=rf"options\.{name} must be a positive number"):
        setattr(options, name, value)


def test_settle_seconds_are_needed(options: Options) -> None:
    """How long to wait for a lost batch cannot be left open."""
    with pytest.raises(InputError, match=r"options\.settle_seconds must be a positive number"):
        options.settle_seconds = None  # type: ignore[assignment]


@pytest.mark.parametrize("value", ["", "  ", None, 5])
def test_model_is_a_name(options: Options, value: Any) -> None:
    """A model is named by text."""
    with pytest.raises(InputError, match=r"options\.model must be a name"):
        options.model = value


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (5, "first wait, longest wait"),
        ((5,), "first wait, longest wait"),
        ((1, 2, 3), "first wait, longest wait"),
        ("ab", "first wait, longest wait"),
        ((0, 5), "must be a positive number"),
        (("a", "b"), "must be a positive number"),
        ((60, 5), "waits 60.0 s first but at most 5.0 s; swap the two"),
    ],
)
def test_waits_are_two_numbers_in_order(options: Options, value: Any, why: str) -> None:
    """The first wait is not longer than the longest."""
    with pytest.raises(InputError, match=why):
        options.poll_seconds = value


@pytest.mark.parametrize("value", ["loud", 3, [1]])
def test_progress_is_a_word_or_a_function(options: Options, value: Any) -> None:
    """Progress is one of four words, off, or a function."""
    with pytest.raises(InputError, match=r"options\.progress must be one of auto, bar, log, none"):
        options.progress = value


def test_unknown_option_is_refused(options: Options) -> None:
    """A misspelled option is told what exists, whether set or read."""
    with pytest.raises(InputError, match=r"no option 'max_token'\. The options are: model, "):
        options.max_token = 5
    with pytest.raises(AttributeError, match="no option 'max_token'"):
        options.max_token  # noqa: B018


def test_refused_value_changes_nothing(options: Options) -> None:
    """After a refusal the option is what it was."""
    options.max_tokens = 8
    with pytest.raises(InputError, match="max_tokens"):
        options.max_tokens = 0

    assert options.max_tokens == 8


def test_environment_wins_over_the_default(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CLAUDE_BATCH_MODEL is read when the model is asked for."""
    monkeypatch.setenv("CLAUDE_BATCH_MODEL", "claude-opus-5-5")

    assert options.model == "claude-opus-5-5"


def test_set_wins_over_the_environment(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that was set wins; after a reset the environment is read again."""
    monkeypatch.setenv("CLAUDE_BATCH_MODEL", "claude-opus-5-5")
    options.model = "claude-sonnet-5-5"
    before = options.model
    options.reset()

    assert (before, options.model) == ("claude-sonnet-5-5", "claude-opus-5-5")


def test_empty_environment_is_none(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable is as good as none."""
    monkeypatch.setenv("CLAUDE_BATCH_MODEL", "")

    assert options.model == "claude-haiku-5-5"


def test_environment_is_checked(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model from the environment is checked like one that was set."""
    monkeypatch.setenv("CLAUDE_BATCH_MODEL", "  ")

    with pytest.raises(InputError, match=r"options\.model must be a name, not '  '"):
        options.model  # noqa: B018


def test_options_show_themselves(options: Options) -> None:
    """The repr and tab completion name every option."""
    options.max_tokens = 12

    assert "max_tokens=12" in repr(options)
    assert repr(options).startswith("Options(model='claude-haiku-5-5', ")
    assert set(CHECKS) <= set(dir(options))


def test_there_is_one_set_of_options() -> None:
    """The package's options are the module's."""
    assert isinstance(cbp.options, Options)
