"""When to ask again, and what an error while asking means."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_batch_pandas.exceptions import APIError, CredentialsError
from claude_batch_pandas.polling import GROWTH, JITTER, LASTING, Pace, Verdict, explain, judge


class Fixed(random.Random):
    """Dice that always show the middle."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


def dice(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - waits are no secret


def test_waits_grow_to_the_longest() -> None:
    """The wait grows by half each time and stays at the longest."""
    pace = Pace(5.0, 12.0, Fixed())

    assert [pace.next() for _ in range(5)] == [5.0, 7.5, 11.25, 12.0, 12.0]


def test_pace_begins_again_when_something_moved() -> None:
    """After a restart the first wait comes again."""
    pace = Pace(5.0, 60.0, Fixed())
    for _ in range(5):
        pace.next()
    pace.restart()

    assert [pace.next(), pace.next()] == [5.0, 7.5]


@given(st.floats(0.001, 1e4), st.floats(1.0, 1e4), st.integers(0, 2**32), st.lists(st.booleans()))
@settings(deadline=None, max_examples=100)
def test_waits_stay_in_their_bounds(
    first: float, factor: float, seed: int, moves: list[bool]
) -> None:
    """Whatever moves, a wait is about the first at least and about the longest at most."""
    longest = first * factor
    pace = Pace(first, longest, dice(seed))
    waits = []
    for moved in moves:
        if moved:
            pace.restart()
        waits.append(pace.next())

    low, high = first * (1 - JITTER), longest * (1 + JITTER)
    assert all(low * 0.999 <= wait <= high * 1.001 for wait in waits)


def test_runs_do_not_ask_in_step() -> None:
    """Two runs with the same waits ask at different times."""
    one, two = Pace(5, 60, dice(1)), Pace(5, 60, dice(2))

    assert [one.next() for _ in range(4)] != [two.next() for _ in range(4)]
    assert GROWTH > 1


@pytest.mark.parametrize("lasted", [0.0, LASTING * 10])
@pytest.mark.parametrize("status", [None, 200, 302, 408, 409, 425, 429, 499, 500, 503, 529])
def test_what_passes_by_itself_is_waited_for(status: int | None, lasted: float) -> None:
    """No answer, overload and server errors are waited out, however long they last."""
    assert judge(APIError("x", status=status), lasted) is Verdict.WAIT


@pytest.mark.parametrize("lasted", [0.0, LASTING * 10])
@pytest.mark.parametrize("status", [400, 401, 402, 403, 405, 410, 413, 422])
def test_what_needs_a_person_pauses(status: int, lasted: float) -> None:
    """A key, credit or permission is for a person to mend; waiting does not help."""
    assert judge(APIError("x", status=status), lasted) is Verdict.PAUSE


def test_missing_batch_is_a_hiccup_at_first() -> None:
    """A 404 may pass; only when it lasts does it need a person."""
    missing = APIError("x", status=404)

    assert judge(missing, 0.0) is Verdict.WAIT
    assert judge(missing, LASTING - 1) is Verdict.WAIT
    assert judge(missing, LASTING) is Verdict.PAUSE


def test_missing_key_pauses() -> None:
    """Without credentials nothing can be asked."""
    assert judge(CredentialsError("no key"), 0.0) is Verdict.PAUSE


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (401, "Check the API key, then call again"),
        (403, "check its workspace and permissions"),
        (404, "belongs to another workspace or key, or was deleted"),
        (400, "Mend the cause, then call again; nothing is lost"),
        (None, "Mend the cause, then call again; nothing is lost"),
    ],
)
def test_pause_says_what_to_do(status: int | None, hint: str) -> None:
    """The API's own words come first, then what a person can do."""
    told = explain(APIError("The API said so.", status=status))

    assert told.startswith("The API said so. ")
    assert hint in told


def test_missing_key_is_explained_by_itself() -> None:
    """The error about credentials says already what to do."""
    assert explain(CredentialsError("Set ANTHROPIC_API_KEY.")) == "Set ANTHROPIC_API_KEY."
