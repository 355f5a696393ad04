"""The package under every fault that has a name: paid once, every row right or accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import anthropic
import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas.emulator import FAILURES, Emulator, Fault, failure, serve
from claude_batch_pandas.emulator.edits import gzip_bomb, gzipped
from tests.conftest import JumpingClock
from tests.soak.spread import dice, spread

Connect = Callable[..., Any]
ROWS = 6
MAYBE_PAID = "no readable result; it may have been paid"
PATH = "/v1/messages/batches"

# In the API's own shape these say that there is no batch; a server that lies is told by nobody.
REFUSALS = {f"status-{status}" for status in (400, 401, 402, 403, 404, 413, 422)}
REFUSALS |= {"html-413", "upload-413"}
CREATIONS = [name for name, (words, _) in FAILURES.items() if words.startswith("POST")]
LOOKS = [name for name, (words, _) in FAILURES.items() if words.startswith("batch")]
DOWNLOADS = [name for name, (words, _) in FAILURES.items() if words.startswith("results")]
LOUD = {"results-cut", "results-cut-chunked", "results-cut-reset", "results-cut-stall"}
LOUD |= {"results-404"}  # asked again until it works


@pytest.fixture
def frame() -> pd.DataFrame:
    """Return rows that all ask something else."""
    return pd.DataFrame({"text": [f"row {i}" for i in range(ROWS)]}, index=[0] * ROWS)


def ours(emulator: Emulator) -> list[str]:
    """Return every request of ours that was accepted, and so may be answered and paid."""
    batches = [batch for batch in emulator.batches if not batch.custom_ids[0].startswith("theirs")]
    return [r["params"]["messages"][0]["content"] for b in batches for r in b.requests]


def check(emulator: Emulator, out: pd.DataFrame, frame: pd.DataFrame) -> None:
    """Assert that every request was accepted once, and that every row has its own answer."""
    assert Counter(ours(emulator)) == Counter(frame["text"])
    assert out["answer"].tolist() == [f"[simulated] {text}" for text in frame["text"]]


def check_accounted(emulator: Emulator, out: pd.DataFrame, frame: pd.DataFrame) -> int:
    """Assert that each row is right or says that it may be paid; return how many say so."""
    lost = out["answer_status"] != "succeeded"

    assert Counter(ours(emulator)) == Counter(frame["text"])
    assert out["answer"][~lost].tolist() == [f"[simulated] {t}" for t in out["text"][~lost]]
    assert out["answer"][lost].isna().all()
    assert out["answer_status"][lost].eq("errored").all()
    assert out["answer_error"][lost].eq(MAYBE_PAID).all()
    return int(lost.sum())


@pytest.mark.parametrize("name", CREATIONS)
def test_a_batch_is_paid_once_whatever_becomes_of_its_answer(
    name: str, frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """A refusal pauses the run, and the same call goes on; everything else heals by itself."""
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[failure(name)])
    client = connect(emulator)
    if name.removesuffix("-after") in REFUSALS:
        with pytest.raises(cbp.PausedError, match="The API answered 4"):
            frame.claude.batch("{text}", client=client)
        assert len(emulator.batches) == name.endswith("-after")
        if name.endswith("-after"):
            return  # nothing goes out unless a person says so
    out = frame.claude.batch("{text}", client=client)

    check(emulator, out, frame)
    assert not any(call.path.endswith("/cancel") for call in emulator.calls)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
@pytest.mark.parametrize("duration", [0.0, 7200.0], ids=["ended", "running"])
@pytest.mark.parametrize("after", [False, True], ids=["never accepted", "accepted"])
def test_somebody_elses_batch_of_the_same_size_is_left_alone(
    when: str, duration: float, after: bool, frame: pd.DataFrame, clock: Any, connect: Connect
) -> None:
    """Before the fence it is not even looked at; behind it, its custom_ids tell."""

    def add(emulator: Emulator) -> None:
        emulator.add_decoy(ROWS, duration=duration)

    meanwhile = add if when == "meanwhile" else None
    lost = failure("drop", after=after, meanwhile=meanwhile)
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[lost])
    if when == "before":
        add(emulator)
    out = frame.claude.batch("{text}", client=connect(emulator))

    check(emulator, out, frame)
    assert not any(call.path.endswith("/cancel") for call in emulator.calls)


def test_a_batch_that_shows_up_late_is_waited_for(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """A list may lag as long as nothing is sent again."""
    emulator = Emulator(clock=clock.now, duration=60, list_lag=600, faults=[failure("drop-after")])
    out = frame.claude.batch("{text}", client=connect(emulator))

    check(emulator, out, frame)


def test_who_waits_waits_longer_than_any_lag(
    frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    emulator = Emulator(
        clock=clock.now, duration=60.0, list_lag=7200.0, faults=[failure("reset-after")]
    )
    out = frame.claude.batch("{text}", client=connect(emulator), on_unknown="wait")

    check(emulator, out, frame)


@pytest.mark.parametrize("name", ["list-short", "list-again"])
@pytest.mark.parametrize("lost", ["drop", "drop-after"])
def test_a_list_that_lies_for_a_while_decides_nothing(
    lost: str, name: str, frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    faults = [failure(lost), failure(name)]
    emulator = Emulator(clock=clock.now, duration=60.0, faults=faults)
    emulator.add_decoy(1)
    out = frame.claude.batch("{text}", client=connect(emulator))

    check(emulator, out, frame)


@pytest.mark.parametrize("name", LOOKS)
def test_looking_is_put_off_and_never_ends_a_run(
    name: str, frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Whatever the server asks for, nobody waits longer than a quarter of an hour."""
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[failure(name)])
    start = clock.now()
    out = frame.claude.batch("{text}", client=connect(emulator))

    check(emulator, out, frame)
    assert clock.now() - start < 900 + 120


# Results


def of_test(name: str, **changes: Any) -> Fault:
    """Return a named fault; the bomb is a smaller one."""
    if name == "results-gzip-bomb":
        changes["edit"] = partial(gzip_bomb, size=20_000_000)
    return failure(name, **changes)


@pytest.mark.parametrize("name", DOWNLOADS)
def test_results_heal(
    name: str, frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """What struck two downloads is gone with the third."""
    emulator = Emulator(clock=clock.now, duration=1.0, faults=[of_test(name, times=2)])
    out = frame.claude.batch("{text}", client=connect(emulator))

    check(emulator, out, frame)


# How many rows are lost when it never heals; what else strikes every download loses none.
LOST = {
    **dict.fromkeys(
        ["malformed", "contradicting", "missing", "exchanged", "not-utf8", "deep", "long"], 1
    ),
    **dict.fromkeys(["empty", "portal", "error", "short", "cut-silent"], ROWS),
}


@pytest.mark.parametrize("name", [name for name in DOWNLOADS if name not in LOUD])
def test_results_that_never_heal_cost_only_their_rows(
    name: str, frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """What cannot be read says that it may have been paid; it is not asked again."""
    emulator = Emulator(clock=clock.now, duration=1.0, faults=[of_test(name, times=None)])
    out = frame.claude.batch("{text}", client=connect(emulator))

    assert check_accounted(emulator, out, frame) == LOST.get(name.removeprefix("results-"), 0)


def cut(way: str, size: int, **how: Any) -> Fault:
    """Return a fault that lets a download end too early."""
    ends: dict[str, dict[str, Any]] = {
        "short": {"truncate": size},
        "length": {"cut": size},
        "chunked": {"cut": size, "framing": "chunked"},
        "close": {"cut": size, "framing": "close"},
        "reset": {"cut": size, "reset": True},
        "gzip": {
            "edit": lambda body: gzipped(body)[: len(gzipped(body)) * size // SIZE],
            "headers": {"content-encoding": "gzip"},
        },
    }
    return Fault(method="GET", path=f"{PATH}/.*/results", **ends[way], **how)


WAYS = ["short", "length", "chunked", "close", "reset", "gzip"]
SIZE = 4_800  # bytes, a little fewer than the results of the frame have
OFFSETS = spread(SIZE, 60)
CUTS = [(dice.choice(WAYS), size) for size in OFFSETS]


@pytest.mark.parametrize(("way", "size"), CUTS)
def test_a_cut_at_any_byte_is_noticed(
    way: str, size: int, frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """Loud or silent: the file is downloaded again, and no row is lost or wrong."""
    emulator = Emulator(clock=clock.now, duration=1.0, faults=[cut(way, size)])
    out = frame.claude.batch("{text}", client=connect(emulator))

    check(emulator, out, frame)
    if way != "gzip":  # without its last bytes, it may be whole
        assert sum(call.path.endswith("/results") for call in emulator.calls) == 2


@pytest.mark.parametrize("way", ["short", "close", "gzip"])
@pytest.mark.parametrize("size", OFFSETS[::10])
def test_a_silent_cut_that_stays_costs_what_is_behind_it(
    size: int, way: str, frame: pd.DataFrame, clock: JumpingClock, connect: Connect
) -> None:
    """The rows before it are right, those behind it say that they may have been paid."""
    emulator = Emulator(clock=clock.now, duration=1.0, faults=[cut(way, size, times=None)])
    out = frame.claude.batch("{text}", client=connect(emulator))

    check_accounted(emulator, out, frame)


# Over a socket


@pytest.mark.parametrize(
    "name",
    [
        *("drop", "drop-after", "reset", "reset-after", "stall", "stall-after", "upload"),
        *(f"results-cut{how}" for how in ("", "-chunked", "-silent", "-reset", "-stall")),
        *("results-short", "results-gzip-cut"),
    ],
)
def test_the_same_holds_over_a_socket(name: str, frame: pd.DataFrame) -> None:
    """The kernel's buffers and the SDK's own connection are in between."""
    cbp.options.poll_seconds = (0.01, 0.05)
    cbp.options.settle_seconds = 0.5
    emulator = Emulator(duration=0, faults=[failure(name)])
    with (
        serve(emulator=emulator) as url,
        anthropic.Anthropic(api_key="k", base_url=url, timeout=0.4) as client,
    ):
        out = frame.claude.batch("{text}", client=client)

    check(emulator, out, frame)
