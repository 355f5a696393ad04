"""The main job, as a user calls it: df.claude and s.claude over the real SDK and the emulator."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import numpy as np
import orjson
import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas.emulator import Emulator, Fault, Rule
from tests.conftest import JumpingClock


def posts(emulator: Emulator) -> int:
    """Return how many batches were asked for."""
    return sum(call.method == "POST" for call in emulator.calls)


def prompts(emulator: Emulator) -> list[str]:
    """Return every prompt that reached the API, in order."""
    return [
        request["params"]["messages"][-1]["content"]
        for batch in emulator.batches
        for request in batch.requests
    ]


def test_batch_joins_one_answer_per_row(queries: pd.DataFrame, client: Any) -> None:
    """Each row gets its own answer, whatever the index is."""
    out = queries.claude.batch("Echo {n}: {text}", output="intent", client=client)

    assert out["intent"].tolist() == [
        f"[simulated] Echo {n}: {text}"
        for n, text in zip(queries["n"], queries["text"], strict=True)
    ]
    assert out["intent_status"].tolist() == ["succeeded"] * 4
    assert out["intent_error"].isna().all()


def test_frame_comes_back_as_it_went_in(queries: pd.DataFrame, client: Any) -> None:
    """Index, order, columns, dtypes and attrs stay; the input is not touched."""
    queries.attrs["source"] = "bank"
    before = queries.copy(deep=True)
    out = queries.claude.batch("{text}", client=client)

    pd.testing.assert_frame_equal(out[["text", "n"]], before)
    pd.testing.assert_frame_equal(queries, before)
    assert out.attrs == {"source": "bank"}
    assert list(out.columns) == ["text", "n", "answer", "answer_status", "answer_error"]
    assert isinstance(out["answer"].dtype, pd.StringDtype)
    assert isinstance(out["answer_status"].dtype, pd.CategoricalDtype)
    assert isinstance(out["answer_error"].dtype, pd.StringDtype)


def test_series_gives_a_frame_of_three_columns(queries: pd.DataFrame, client: Any) -> None:
    """A Series names its values {value}; what comes back is on its index."""
    out = queries["text"].claude.batch("Say {value}", output="said", client=client)

    assert list(out.columns) == ["said", "said_status", "said_error"]
    assert out.index.tolist() == [7, 7, 8, 9]
    assert out["said"].tolist()[2] == "[simulated] Say Top up failed"


def test_identical_requests_are_sent_once(
    queries: pd.DataFrame, client: Any, emulator: Emulator
) -> None:
    """Two rows that ask the same share one request and its answer."""
    out = queries.claude.batch("{text}", client=client)

    assert sorted(prompts(emulator)) == sorted(set(queries["text"]))
    assert out["answer"].iloc[0] == out["answer"].iloc[3]


def test_same_cell_again_is_free_and_the_same_run(
    queries: pd.DataFrame, client: Any, emulator: Emulator
) -> None:
    """A rerun sends nothing, asks nothing and gives the same frame."""
    told: list[str] = []

    def show(progress: Any) -> None:
        told.append(progress.summary)

    first = queries.claude.batch("{text}", client=client, progress=show)
    calls = len(emulator.calls)
    second = queries.claude.batch("{text}", client=client, progress=show)

    pd.testing.assert_frame_equal(first, second)
    assert ["nothing was sent" in line for line in told if line] == [False, True]
    assert len(emulator.calls) == calls
    assert len(cbp.runs()) == 1


def test_lines_that_stand_twice_cost_no_row(
    queries: pd.DataFrame, connect: Callable[..., Any], clock: JumpingClock
) -> None:
    """A results file with every line repeated is downloaded once and believed."""
    twice = Fault(method="GET", path=".*/results", edit=lambda body: body * 2, times=None)
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[twice])
    out = queries.claude.batch("{text}", client=connect(emulator))

    assert out["answer_status"].tolist() == ["succeeded"] * 4
    assert sum(call.path.endswith("/results") for call in emulator.calls) == 1


def test_replace_can_be_run_again_and_again(
    queries: pd.DataFrame, client: Any, emulator: Emulator
) -> None:
    """``df = df.claude.batch(..., replace=True)`` is idempotent."""
    df = queries.claude.batch("{text}", client=client)
    for _ in range(2):
        df = df.claude.batch("{text}", replace=True, client=client)

    assert posts(emulator) == 1
    assert list(df.columns) == ["text", "n", "answer", "answer_status", "answer_error"]


def test_added_rows_alone_are_sent(queries: pd.DataFrame, client: Any, emulator: Emulator) -> None:
    """Add a row and one request goes out; all rows have answers."""
    queries.claude.batch("{text}", client=client)
    more = pd.concat([queries, pd.DataFrame({"text": ["New one"], "n": [5]}, index=[1])])
    out = more.claude.batch("{text}", client=client)

    assert prompts(emulator).count("New one") == 1
    assert len(prompts(emulator)) == 4
    assert out["answer"].tolist() == [f"[simulated] {text}" for text in more["text"]]


def test_reuse_false_asks_anew(queries: pd.DataFrame, client: Any, emulator: Emulator) -> None:
    """What was answered before is asked again when told so."""
    queries.claude.batch("{text}", client=client)
    queries.claude.batch("{text}", client=client, reuse=False)

    assert len(prompts(emulator)) == 6


def test_reuse_stops_at_the_workspace(
    queries: pd.DataFrame, clock: JumpingClock, connect: Callable[..., Any]
) -> None:
    """Answers of one workspace never serve the key of another."""
    emulator = Emulator(
        clock=clock.now, duration=0.0, workspaces={"a": "wrkspc_a", "b": "wrkspc_b"}
    )
    queries.claude.batch("{text}", client=connect(emulator, "a"))
    queries.claude.batch("{text}", client=connect(emulator, "b"))

    assert [batch.workspace for batch in emulator.batches] == ["wrkspc_a", "wrkspc_b"]


def test_reuse_survives_a_rotated_key(
    queries: pd.DataFrame, clock: JumpingClock, connect: Callable[..., Any]
) -> None:
    """A new key of the same workspace is served by what the old one asked."""
    emulator = Emulator(clock=clock.now, duration=0.0)
    queries.claude.batch("{text}", client=connect(emulator, "old"))
    queries.claude.batch("{text}", client=connect(emulator, "new"))

    assert posts(emulator) == 1


def test_reuse_stops_at_the_origin(
    queries: pd.DataFrame, emulator: Emulator, connect: Callable[..., Any]
) -> None:
    """Emulator answers never serve a real key, nor the other way round."""
    queries.claude.batch("{text}", client=connect(emulator, base_url="http://127.0.0.1:1"))
    queries.claude.batch("{text}", client=connect(emulator, base_url="https://api.example.com"))

    assert posts(emulator) == 2


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT])
def test_missing_values_never_reach_the_wire(missing: Any, client: Any, emulator: Emulator) -> None:
    """A row with a missing value is skipped, with the reason, at no cost."""
    df = pd.DataFrame({"text": pd.Series(["a", missing, "b"], dtype=object)})
    out = df.claude.batch("Say {text}", client=client)

    assert prompts(emulator) == ["Say a", "Say b"]
    assert out["answer_status"].tolist() == ["succeeded", "skipped", "succeeded"]
    assert out["answer_error"].iloc[1] == "column 'text' is missing a value"
    assert out["answer"].isna().tolist() == [False, True, False]


def test_blank_texts_are_skipped(client: Any, emulator: Emulator) -> None:
    """A row whose rendered text is empty or white space is not sent."""
    out = pd.DataFrame({"text": ["a", "", " \n\t"]}).claude.batch("{text}", client=client)

    assert prompts(emulator) == ["a"]
    assert out["answer_status"].tolist() == ["succeeded", "skipped", "skipped"]
    assert out["answer_error"].iloc[2] == "the rendered text is empty"


def test_missing_values_can_be_empty_or_refused(client: Any, emulator: Emulator) -> None:
    """on_missing="empty" renders nothing in their place; "error" names the position."""
    df = pd.DataFrame({"text": ["a", "b"], "price": [1.5, np.nan]})
    df.claude.batch("{text} {price:.2f}!", client=client, on_missing="empty")

    assert prompts(emulator) == ["a 1.50!", "b !"]
    with pytest.raises(cbp.InputError, match=r"'price' is missing a value at position 1"):
        df.claude.batch("{text} {price:.2f}", client=client, on_missing="error")


@pytest.mark.parametrize(
    "df",
    [
        pd.DataFrame({"text": pd.Series([], dtype="str")}),
        pd.DataFrame({"text": [None, None]}, index=[3, 3]),
    ],
    ids=["empty", "all missing"],
)
def test_nothing_to_send_sends_nothing(df: pd.DataFrame, emulator: Emulator, client: Any) -> None:
    """An empty or all-missing frame gives typed empty columns without any call."""
    out = df.claude.batch("{text}", client=client)

    assert emulator.calls == []
    assert len(out) == len(df)
    assert isinstance(out["answer"].dtype, pd.StringDtype)
    assert isinstance(out["answer_status"].dtype, pd.CategoricalDtype)


def test_integers_with_gaps_render_as_integers(client: Any, emulator: Emulator) -> None:
    """A column that became float only by its missing values is still of integers."""
    pd.DataFrame({"n": [1, None, 30]}).claude.batch("n={n}", client=client)

    assert prompts(emulator) == ["n=1", "n=30"]


def test_unknown_column_names_the_near_miss(queries: pd.DataFrame, emulator: Emulator) -> None:
    """A typo is refused before a cent is spent, with what exists."""
    with pytest.raises(cbp.InputError, match=r"lacks: 'txt'.*It has: 'text', 'n'.*mean 'text'"):
        queries.claude.batch("{txt}")

    assert emulator.calls == []


def test_existing_output_is_refused(queries: pd.DataFrame, client: Any, home: Path) -> None:
    """An output name that exists is refused, with replace=True named; nothing is written."""
    df = queries.assign(answer_status="mine")
    with pytest.raises(cbp.InputError, match=r"'answer_status'.*replace=True"):
        df.claude.batch("{text}", client=client)

    assert not home.exists()


def test_duplicate_column_names_are_refused(client: Any) -> None:
    """A name that stands twice cannot say which column is meant."""
    df = pd.DataFrame([["a", "b"]], columns=["text", "text"])
    with pytest.raises(cbp.InputError, match=r"several columns of the same name.*'text'"):
        df.claude.batch("{text}", client=client)


@pytest.mark.parametrize("max_tokens", [0, -1, 1.5, True, "9"])
def test_impossible_max_tokens_is_refused(
    max_tokens: Any, queries: pd.DataFrame, client: Any, home: Path
) -> None:
    """No request can have it, so none is made."""
    with pytest.raises(
        cbp.InputError,
        match=r"max_tokens(=-?\d asks for no answer| must be a whole number of at least 1)",
    ):
        queries.claude.batch("{text}", max_tokens=max_tokens, client=client)

    assert not home.exists()


def test_no_credentials_names_every_way_and_a_later_call_works(
    queries: pd.DataFrame, clock: JumpingClock, client: Any, home: Path
) -> None:
    """One message tells how to give a key; nothing is lost or planned."""
    with pytest.raises(cbp.CredentialsError, match=r"ANTHROPIC_API_KEY.*PROFILE.*client=.*emulate"):
        queries.claude.batch("{text}")

    assert len(cbp.runs()) == 0
    assert queries.claude.batch("{text}", client=client)["answer"].notna().all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: anthropic.AsyncAnthropic(api_key="k"),
        lambda: anthropic.AnthropicBedrock(aws_region="us-east-1"),
        lambda: anthropic.AnthropicVertex(region="r", project_id="p", access_token="t"),  # noqa: S106 - not a secret,
    ],
    ids=["async", "bedrock", "vertex"],
)
def test_other_clients_are_refused_by_name(
    make: Callable[[], Any], queries: pd.DataFrame, home: Path
) -> None:
    """A client that cannot send message batches from here is named."""
    other = make()
    with pytest.raises(cbp.InputError, match=f"client={type(other).__name__} cannot be used"):
        queries.claude.batch("{text}", client=other)

    assert not home.exists()


def test_invalid_rows_cost_only_themselves(client: Any, emulator: Emulator) -> None:
    """A row that is not UTF-8 is invalid, with its position kept; the others go."""
    out = pd.DataFrame({"text": pd.Series(["a", "bad \ud800", "c"], dtype=object)})
    out = out.claude.batch("{text}", client=client)

    assert prompts(emulator) == ["a", "c"]
    assert out["answer_status"].tolist() == ["succeeded", "invalid", "succeeded"]
    assert "surrogate" in out["answer_error"].iloc[1]


def test_messages_and_system_are_templated(
    queries: pd.DataFrame, client: Any, emulator: Emulator
) -> None:
    """A list of messages and the system prompt take columns too."""
    template = [
        {"role": "user", "content": "Query: {text}"},
        {"role": "assistant", "content": "Noted {{it}}."},
        {"role": "user", "content": [{"type": "text", "text": "Number {n}?"}]},
    ]
    queries.head(1).claude.batch(template, system="About {n}", client=client)

    assert emulator.batches[0].requests[0]["params"] == {
        "max_tokens": 4096,
        "model": "claude-haiku-5-5",
        "system": "About 1",
        "messages": [
            {"role": "user", "content": "Query: Where is my card?"},
            {"role": "assistant", "content": "Noted {it}."},
            {"role": "user", "content": [{"type": "text", "text": "Number 1?"}]},
        ],
    }


def test_params_are_merged_last_and_betas_become_the_header(
    queries: pd.DataFrame, client: Any, emulator: Emulator
) -> None:
    """Any other Messages parameter goes through; an unknown model is accepted."""
    queries.head(1).claude.batch(
        "{text}",
        model="claude-of-tomorrow",
        client=client,
        params={"betas": ["a-1", "b-2"], "metadata": {"user_id": "u"}, "max_tokens": 7},
    )

    sent = emulator.batches[0]
    assert sent.betas == ("a-1", "b-2")
    assert sent.requests[0]["params"]["max_tokens"] == 7
    assert sent.requests[0]["params"]["metadata"] == {"user_id": "u"}
    assert sent.requests[0]["params"]["model"] == "claude-of-tomorrow"


def test_no_sampling_parameter_is_sent(
    queries: pd.DataFrame, client: Any, emulator: Emulator
) -> None:
    """What was not given is not sent."""
    queries.claude.batch("{text}", client=client)

    names = {name for batch in emulator.batches for r in batch.requests for name in r["params"]}
    assert names == {"model", "max_tokens", "messages"}


def test_every_outcome_is_a_status(clock: JumpingClock, connect: Callable[..., Any]) -> None:
    """Failed rows are data: a status and the reason in words; only answers are values."""
    outcomes = {
        "refusal": "refused",
        "max_tokens": "truncated",
        "pause_turn": "truncated",
        "context_window": "truncated",
        "errored": "errored",
        "expired": "expired",
        "canceled": "canceled",
        "empty": "succeeded",
        "tool_use": "succeeded",
        "unknown_type": "errored",
        "succeeded": "succeeded",
    }
    rules = [Rule(outcome=outcome, contains=f"<{outcome}>", text="half") for outcome in outcomes]
    client = connect(Emulator(clock=clock.now, duration=0.0, rules=rules))
    df = pd.DataFrame({"text": [f"<{outcome}>" for outcome in outcomes]})
    out = df.claude.batch("{text}", client=client).set_index(pd.Index(outcomes))

    assert out["answer_status"].to_dict() == outcomes
    assert out.loc["empty", "answer"] == ""
    assert out.loc["max_tokens", "answer"] in {"ha", "hal"}
    assert out.loc["succeeded", "answer"] == "half"
    assert out["answer"].isna().to_dict() == {
        outcome: status not in {"succeeded", "truncated"} for outcome, status in outcomes.items()
    }
    assert out["answer_error"].isna().to_dict() == {
        outcome: status == "succeeded" for outcome, status in outcomes.items()
    }


@pytest.mark.parametrize("flat", [False, True])
def test_errors_are_read_from_both_shapes(
    flat: bool, clock: JumpingClock, connect: Callable[..., Any]
) -> None:
    """The API nests errors twice, its own samples once."""
    rule = Rule(outcome="errored", error_type="overloaded_error", message="Too busy", flat=flat)
    client = connect(Emulator(clock=clock.now, duration=0.0, rules=[rule]))
    out = pd.DataFrame({"text": ["a"]}).claude.batch("{text}", client=client)

    assert out["answer_error"].tolist() == ["overloaded_error: Too busy"]


def test_preview_shows_what_would_be_sent_and_sends_nothing(
    queries: pd.DataFrame, emulator: Emulator, client: Any, home: Path
) -> None:
    """The preview is exactly the params that go out later."""
    shown = queries.claude.preview("{text}", n=2, system="Be brief")
    text = repr(shown)
    untouched = not home.exists()
    queries.claude.batch("{text}", system="Be brief", client=client)

    assert shown.requests == [r["params"] for r in emulator.batches[0].requests[:2]]
    assert untouched
    assert "nothing was sent" in text
    with pytest.raises(cbp.InputError, match="n must be a whole number"):
        queries.claude.preview("{text}", n=0)


def test_shards_go_out_within_max_in_flight(
    clock: JumpingClock, connect: Callable[..., Any]
) -> None:
    """No more requests are open than allowed; totals of shards differ."""
    cbp.options.max_in_flight = 25
    emulator = Emulator(clock=clock.now, duration=30.0)
    df = pd.DataFrame({"text": [f"row {i}" for i in range(74)]})
    out = df.claude.batch("{text}", client=connect(emulator), shard_size=20)

    assert out["answer"].tolist() == [f"[simulated] row {i}" for i in range(74)]
    assert [batch.total for batch in emulator.batches] == [20, 19, 18, 17]
    starts = [batch.created_at for batch in emulator.batches]
    assert all(later - earlier >= 30.0 for earlier, later in itertools.pairwise(starts))


def test_no_shard_is_larger_than_max_in_flight(
    clock: JumpingClock, connect: Callable[..., Any]
) -> None:
    """The cap holds for the default shard size too."""
    cbp.options.max_in_flight = 25
    emulator = Emulator(clock=clock.now, duration=30.0)
    df = pd.DataFrame({"text": [f"row {i}" for i in range(60)]})
    df.claude.batch("{text}", client=connect(emulator))

    assert max(batch.total for batch in emulator.batches) <= 25
    starts = [batch.created_at for batch in emulator.batches]
    assert all(later - earlier >= 30.0 for earlier, later in itertools.pairwise(starts))


def test_a_full_queue_waits_for_a_shard_to_end(
    clock: JumpingClock, connect: Callable[..., Any]
) -> None:
    """A queue-limit 429 is no failure; nothing is sent twice."""
    emulator = Emulator(clock=clock.now, duration=30.0, max_queue=45)
    df = pd.DataFrame({"text": [f"row {i}" for i in range(90)]})
    out = df.claude.batch("{text}", client=connect(emulator), shard_size=20)

    assert out["answer_status"].eq("succeeded").all()
    assert sorted(prompts(emulator)) == sorted(df["text"])


def test_custom_ids_carry_no_row_data_and_fit_the_api(
    queries: pd.DataFrame, client: Any, emulator: Emulator
) -> None:
    """Fixed width, the API's alphabet, unique."""
    queries.claude.batch("{text}", client=client)

    names = [name for batch in emulator.batches for name in batch.custom_ids]
    assert {len(name) for name in names} == {45}
    assert len(set(names)) == 3
    assert all(set(name) <= set("0123456789abcdef-") for name in names)


def test_the_wire_does_not_depend_on_the_run(
    queries: pd.DataFrame, clock: JumpingClock, client: Any, home: Path, emulator: Emulator
) -> None:
    """Two runs of the same question write the same bytes but for the custom_ids."""
    queries.claude.batch("{text}", client=client)
    queries.claude.batch("{text}", client=client, reuse=False)

    bodies = sorted(home.glob("runs/*/shard-0000.requests.json"))
    first, second = (orjson.loads(path.read_bytes())["requests"] for path in bodies)
    assert [r["params"] for r in first] == [r["params"] for r in second]
    assert {r["custom_id"] for r in first}.isdisjoint({r["custom_id"] for r in second})


def test_the_ledger_is_private(queries: pd.DataFrame, client: Any, home: Path) -> None:
    """Folders are 0700 and files 0600, whatever the umask; the key is nowhere."""
    old = os.umask(0)
    try:
        queries.claude.batch("{text}", client=client)
    finally:
        os.umask(old)

    paths = [home, *home.rglob("*")]
    assert all(path.stat().st_mode & 0o077 == 0 for path in paths)
    assert not any(b"key-of-a-test" in path.read_bytes() for path in paths if path.is_file())


def test_results_may_come_in_any_order(clock: JumpingClock, connect: Callable[..., Any]) -> None:
    """Answers are joined by custom_id, never by line."""

    def reverse(body: bytes) -> bytes:
        return b"".join(reversed(body.splitlines(keepends=True)))

    fault = Fault(method="GET", path=r".*/results", edit=reverse, times=None)
    emulator = Emulator(clock=clock.now, duration=0.0, faults=[fault])
    df = pd.DataFrame({"text": [f"row {i}" for i in range(50)]}, index=[0] * 50)
    out = df.claude.batch("{text}", client=connect(emulator))

    assert out["answer"].tolist() == [f"[simulated] row {i}" for i in range(50)]
