"""What is reused when: the table of the README, row by row, and as a property."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import claude_batch_pandas as cbp
from claude_batch_pandas.emulator import Emulator, Rule, serve
from tests.lives import processes

Connect = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("clock")

FRAME = pd.DataFrame({"text": ["a", "b"]})
CALL: dict[str, Any] = {"template": "Say {text}", "system": "Be brief", "max_tokens": 300}


def schema(*names: str) -> dict[str, Any]:
    """Return a schema whose properties stand in that order."""
    return {
        "type": "json_schema",
        "schema": {
            "type": "object",
            "properties": {name: {"type": "string"} for name in names},
            "required": sorted(names),
            "additionalProperties": False,
        },
    }


def sent(emulator: Emulator) -> int:
    """Return how many requests the server ever took."""
    return sum(batch.total for batch in emulator.batches)


@pytest.mark.parametrize(
    "change",
    [
        {"output": "other"},
        {"name": "another-run"},
        {"shard_size": 1},
        {"template": [{"role": "user", "content": "Say {text}"}]},
        {"template": lambda row: f"Say {row.text}"},
        {"max_tokens": None, "params": {"max_tokens": 300}},
        {"on_missing": "empty"},
        {"progress": "log"},
    ],
    ids=lambda change: "+".join(f"{k} {type(v).__name__}" for k, v in change.items()),
)
def test_what_does_not_change_the_request_sends_nothing(
    change: dict[str, Any], client: Any, emulator: Emulator
) -> None:
    """The request is what is sent, not how the call was spelled."""
    FRAME.claude.batch(**CALL, client=client)
    FRAME.claude.batch(**(CALL | change), client=client)

    assert sent(emulator) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"model": "claude-sonnet-5-5"},
        {"max_tokens": 301},
        {"system": "Be brief."},
        {"system": None},
        {"template": "Say: {text}"},
        {"params": {"metadata": {"user_id": "u"}}},
        {"params": {"betas": ["context-1m-2025-08-07"]}},
        {"reuse": False},
    ],
    ids=str,
)
def test_what_changes_the_request_asks_anew(
    change: dict[str, Any], client: Any, emulator: Emulator
) -> None:
    """An answer to another question is no answer."""
    FRAME.claude.batch(**CALL, client=client)
    FRAME.claude.batch(**(CALL | change), client=client)

    assert sent(emulator) == 4


def test_the_order_inside_a_parameter_is_part_of_the_question(
    client: Any, emulator: Emulator
) -> None:
    """The order of a schema's properties is the order of the answer; of parameters it is not."""
    one = {"output_config": {"format": schema("why", "label")}, "metadata": {"user_id": "u"}}
    same = dict(reversed(one.items()))
    other = {**one, "output_config": {"format": schema("label", "why")}}
    for params in (one, same):
        FRAME.claude.batch(**CALL, params=params, client=client)
    assert sent(emulator) == 2
    FRAME.claude.batch(**CALL, params=other, client=client)

    assert sent(emulator) == 4


@pytest.mark.parametrize("outcome", ["succeeded", "refusal", "max_tokens", "empty", "pause_turn"])
def test_answers_are_reused(outcome: str, client: Any, emulator: Emulator) -> None:
    """Whatever the model said was paid for once."""
    emulator.rules = (Rule(outcome=outcome),)
    first = FRAME.claude.batch(**CALL, client=client)
    emulator.rules = ()
    second = FRAME.claude.batch(**CALL, output="other", client=client)

    assert sent(emulator) == 2
    assert second["other_status"].tolist() == first["answer_status"].tolist()


@pytest.mark.parametrize("outcome", ["errored", "canceled"])
def test_failures_wait_for_retry(outcome: str, client: Any, emulator: Emulator) -> None:
    """No other call sends them by itself, and retry sends each once."""
    emulator.rules = (Rule(outcome=outcome, contains="Say a", error_type="permission_error"),)
    FRAME.claude.batch(**CALL, client=client)
    emulator.rules = ()
    other = FRAME.claude.submit(**CALL, output="other", client=client).wait()
    assert sent(emulator) == 2
    assert other.result()["other_status"].tolist() == [outcome, "succeeded"]
    out = other.retry(canceled=True).result()

    assert sent(emulator) == 3
    assert out["other_status"].tolist() == ["succeeded", "succeeded"]
    again = FRAME.claude.batch(**CALL, output="third", client=client)
    assert (sent(emulator), again["third"].isna().any()) == (3, False)


@pytest.mark.parametrize(
    ("keys", "expected"), [(("a", "a2"), 2), (("a", "b"), 4)], ids=["rotated", "another"]
)
def test_answers_stay_in_their_workspace(
    keys: tuple[str, str], expected: int, connect: Connect
) -> None:
    """A rotated key of the workspace reuses; a key of another one never does."""
    emulator = Emulator(duration=0.0, workspaces={"a": "one", "a2": "one", "b": "two"})
    for key in keys:
        FRAME.claude.batch(**CALL, client=connect(emulator, key))

    assert sent(emulator) == expected


def test_answers_stay_at_their_origin(connect: Connect) -> None:
    """What an emulator said never serves another server."""
    one, two = Emulator(duration=0.0), Emulator(duration=0.0)
    FRAME.claude.batch(**CALL, client=connect(one))
    FRAME.claude.batch(**CALL, client=connect(two, base_url="https://relay.example"))

    assert (sent(one), sent(two)) == (2, 2)


CHANGES: dict[str, list[Any]] = {
    "model": ["claude-haiku-5-5", "claude-sonnet-5-5"],
    "max_tokens": [300, 301],
    "system": ["Be brief", None],
    "template": ["Say {text}", "Tell {text}"],
    "params": [
        {},
        {"metadata": {"user_id": "u"}, "service_tier": "auto"},
        {"service_tier": "auto", "metadata": {"user_id": "u"}},
    ],
    "output": ["one", "two"],
    "shard_size": [None, 1],
}


def meaning(call: dict[str, Any], texts: list[str]) -> set[str]:
    """Return what a call asks, one string per different question."""
    parts = (call["model"], call["max_tokens"], call["system"], call["template"])
    told = json.dumps([*parts, sorted(call["params"].items())])
    return {f"{told} {text}" for text in texts}


@given(
    calls=st.lists(
        st.tuples(
            st.fixed_dictionaries({name: st.sampled_from(of) for name, of in CHANGES.items()}),
            st.lists(st.sampled_from("abcd"), min_size=1, max_size=4),
        ),
        min_size=2,
        max_size=4,
    )
)
@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_question_is_sent_once(
    calls: list[tuple[dict[str, Any], list[str]]],
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Over any calls and frames, the server gets each different question exactly once."""
    emulator = Emulator(duration=0.0)
    asked: set[str] = set()
    with tempfile.TemporaryDirectory() as home:
        monkeypatch.setenv("CLAUDE_BATCH_HOME", home)
        for call, texts in calls:
            out = pd.DataFrame({"text": texts}).claude.batch(**call, client=connect(emulator))
            asked |= meaning(call, texts)
            word = call["template"].split(" ")[0]
            told = [f"[simulated] {word} {text}" for text in texts]

            assert out[call["output"]].tolist() == told
            assert sent(emulator) == len(asked)


def ask(url: str, home: str, start: Any) -> None:
    """Ask in a process of its own, at the moment that all of them do."""
    import os

    os.environ |= {"ANTHROPIC_BASE_URL": url, "CLAUDE_BATCH_HOME": home}
    cbp.options.poll_seconds = (0.02, 0.05)
    cbp.options.progress = "none"
    cbp.options.canary = False
    frame = pd.DataFrame({"text": [f"row {i}" for i in range(50)]})
    start.wait()
    out = frame.claude.batch("{text}", output=f"by_{os.getpid()}", shard_size=10)
    assert out.iloc[:, 1].notna().all()


def test_two_kernels_that_ask_the_same_at_once_pay_once(tmp_path: Path) -> None:
    """One of them plans it; the other finds it planned, and both get every answer."""
    emulator = Emulator(duration=0.2)
    with serve(emulator=emulator) as url:
        start = processes.Barrier(2)
        kernels = [
            processes.Process(target=ask, args=(url, str(tmp_path / "ledger"), start))
            for _ in range(2)
        ]
        for kernel in kernels:
            kernel.start()
        for kernel in kernels:
            kernel.join()

    assert [kernel.exitcode for kernel in kernels] == [0, 0]
    assert sent(emulator) == 50


def test_a_canceled_attempt_to_ask_anew_hides_no_answer(client: Any) -> None:
    """Whoever asks anew, and cancels that, still has what was answered before."""
    before = FRAME.claude.batch(**CALL, client=client)
    anew = FRAME.claude.submit(**CALL, client=client, reuse=False)
    anew.cancel().wait()
    again = FRAME.claude.batch(**CALL, client=client)
    pd.testing.assert_frame_equal(again, before)
    more = pd.concat([FRAME, FRAME.iloc[:1]])
    assert more.claude.batch(**CALL, client=client)["answer"].notna().all()
