from __future__ import annotations

from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types import Usage
from hypothesis import given
from hypothesis import strategies as st

from claude_batch_pandas.emulator import Emulator, Rule, SimulatedClock
from claude_batch_pandas.emulator.caches import PromptCache
from claude_batch_pandas.emulator.models import cache_minimum
from claude_batch_pandas.emulator.prefixes import Boundary

MODEL = "claude-haiku-5-5"
LONG = "Be kind. " * 400  # some 1,160 tokens


def block(text: str = LONG, ttl: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a text block with a breakpoint."""
    mark = {"type": "ephemeral"} if ttl is None else {"type": "ephemeral", "ttl": ttl}
    return {"type": "text", "text": text, "cache_control": mark, **more}


def plain(text: str = LONG) -> dict[str, Any]:
    return {"type": "text", "text": text}


def client_of(emulator: Emulator, key: str = "k") -> anthropic.Anthropic:
    web = httpx2.Client(transport=emulator.transport())
    return anthropic.Anthropic(api_key=key, http_client=web, max_retries=0)


def params(text: Any = "Hi", **changes: Any) -> Any:
    messages = [{"role": "user", "content": text}]
    return {"model": MODEL, "max_tokens": 100, "messages": messages, **changes}


def send(client: anthropic.Anthropic, text: Any = "Hi", **changes: Any) -> Usage:
    usage: Usage = client.messages.create(**params(text, **changes)).usage
    return usage


def run(client: anthropic.Anthropic, requests: list[Any]) -> list[Usage]:
    """Return the usages of a batch, in the order of its requests."""
    batch = client.messages.batches.create(
        requests=[{"custom_id": f"r{i:04}", "params": each} for i, each in enumerate(requests)]
    )
    return usages(client, batch.id)


def usages(client: anthropic.Anthropic, batch_id: str) -> list[Usage]:
    lines = sorted(client.messages.batches.results(batch_id), key=lambda line: line.custom_id)
    return [line.result.message.usage for line in lines if line.result.type == "succeeded"]


def split(usage: Usage) -> tuple[int, int, int]:
    """Return what was new, written and read."""
    assert usage.cache_creation is not None
    created = usage.cache_creation
    assert usage.cache_creation_input_tokens == (
        created.ephemeral_5m_input_tokens + created.ephemeral_1h_input_tokens
    )
    return (
        usage.input_tokens,
        usage.cache_creation_input_tokens or 0,
        usage.cache_read_input_tokens or 0,
    )


def test_the_second_message_reads_what_the_first_wrote() -> None:
    """The prefix is written once and read exactly; what varies is always new."""
    client = client_of(Emulator())
    first = split(send(client, "One", system=[block()]))
    second = split(send(client, "Another", system=[block()]))

    assert first[1] > 1_000
    assert first[2] == 0
    assert second[1:] == (0, first[1])
    assert second[0] < 20


def test_without_a_breakpoint_nothing_is_cached() -> None:
    client = client_of(Emulator())
    send(client, system=[block()])
    new, *cached = split(send(client, system=LONG))

    assert new > 1_000
    assert cached == [0, 0]


@pytest.mark.parametrize(("ttl", "seconds"), [(None, 300), ("5m", 300), ("1h", 3_600)])
def test_an_entry_lives_its_time_after_each_use(ttl: str | None, seconds: int) -> None:
    """Five minutes or an hour, begun anew by each read."""
    clock = SimulatedClock()
    client = client_of(Emulator(clock=clock))
    seen = []
    for wait in (0, seconds - 1, seconds - 1, seconds):
        clock.advance(wait)
        seen.append(split(send(client, system=[block(ttl=ttl)]))[2] > 0)

    assert seen == [False, True, True, False]


def test_the_hours_writes_are_told_apart() -> None:
    """Two breakpoints of different times split what is written."""
    usage = send(client_of(Emulator()), [block()], system=[block("Be brief. " * 400, ttl="1h")])
    assert usage.cache_creation is not None

    assert usage.cache_creation.ephemeral_1h_input_tokens > 1_000
    assert usage.cache_creation.ephemeral_5m_input_tokens > 1_000


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "claude-opus-5-5"},
        {"tools": [{"name": "t", "input_schema": {"type": "object"}}]},
        {"system": [block(LONG + "!")]},
        {"output_config": {"effort": "low"}},
    ],
)
def test_another_prefix_is_another_entry(changes: dict[str, Any]) -> None:
    """Model, tools, text and the shape of the answer all belong to what must be the same."""
    client = client_of(Emulator())
    send(client, system=[block()])

    assert split(send(client, **{"system": [block()], **changes}))[2] == 0


def test_thinking_changes_the_conversation_but_not_the_system_prompt() -> None:
    client = client_of(Emulator())
    request = {"system": [block("Be brief. " * 400)]}
    wrote = split(send(client, [block()], **request))[1]
    read = split(send(client, [block()], **request, thinking={"type": "disabled"}))

    assert 0 < read[2] < wrote
    assert read[1] == wrote - read[2]


def test_workspaces_share_nothing() -> None:
    emulator = Emulator(workspaces={"ann": "wrkspc_a", "bob": "wrkspc_b"})
    send(client_of(emulator, "ann"), system=[block()])

    assert split(send(client_of(emulator, "bob"), system=[block()]))[2] == 0
    assert split(send(client_of(emulator, "ann"), system=[block()]))[2] > 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SDK's, of models that go
@pytest.mark.parametrize(
    ("model", "minimum"),
    [
        ("claude-haiku-5-5", 512),
        ("claude-opus-5", 512),
        ("claude-fable-5-1", 512),
        ("claude-sonnet-5-5", 512),
        ("claude-sonnet-5", 1_024),
        ("claude-opus-4-8", 1_024),
        ("claude-sonnet-4-5-20250929", 1_024),
        ("claude-opus-4-7", 2_048),
        ("claude-mythos-preview", 2_048),
        ("claude-opus-4-6", 4_096),
        ("claude-haiku-4-5", 4_096),
    ],
)
def test_short_prefixes_are_silently_not_cached(model: str, minimum: int) -> None:
    """Below the model's minimum a breakpoint does nothing; at it, it works."""
    client = client_of(Emulator())
    short = split(send(client, model=model, system=[block("x" * round((minimum - 2) * 3.1))]))
    long = split(send(client, model=model, system=[block("y" * round((minimum + 1) * 3.1))]))

    assert short[1:] == (0, 0)
    assert long[1] >= minimum == cache_minimum(model)


def test_the_top_level_breakpoint_marks_the_last_block() -> None:
    """So a row's own text is in the prefix, and only the very same request reads it."""
    client = client_of(Emulator())
    send(client, "One", system=LONG, cache_control={"type": "ephemeral"})
    same = split(send(client, "One", system=LONG, cache_control={"type": "ephemeral"}))
    other = split(send(client, "Two", system=LONG, cache_control={"type": "ephemeral"}))

    assert same[2] > 1_000
    assert other[2] == 0
    assert other[1] > 1_000


def test_a_conversation_that_grows_reads_its_own_past() -> None:
    """An older entry is found up to 20 blocks before the breakpoint, and not further back."""
    client = client_of(Emulator())
    send(client, [block()])
    near = split(send(client, [plain(), *map(plain, "a" * 19), block("end")]))
    send(client, [block(LONG + "!")])
    far = split(send(client, [plain(LONG + "!"), *map(plain, "a" * 20), block("end")]))

    assert near[2] > 1_000
    assert far[2] == 0


def test_no_tokens_at_all_only_warm_the_cache() -> None:
    """max_tokens 0 writes the prefix and answers nothing; a batch refuses it."""
    client = client_of(Emulator())
    message = client.messages.create(**params(system=[block()], max_tokens=0))

    assert (message.content, message.stop_reason, message.usage.output_tokens) == (
        [],
        "max_tokens",
        0,
    )
    assert split(send(client, system=[block()]))[2] > 1_000
    with pytest.raises(anthropic.BadRequestError, match="0 cannot be combined with tool_choice"):
        send(client, max_tokens=0, tool_choice={"type": "any"})


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"system": [block(cache_control="yes")]}, "cache_control: Input should be an object"),
        (
            {"system": [block(ttl="2h")]},
            "cache_control.ttl: Input should be '5m' or '1h', not '2h'",
        ),
        ({"text": [block()] * 5}, "A maximum of 4 blocks with cache_control.*Found 5"),
        ({"system": [block()], "text": [block(ttl="1h")]}, "must not come after a ttl='5m'"),
    ],
)
def test_bad_breakpoints_are_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(anthropic.BadRequestError, match=problem):
        send(client_of(Emulator()), **changes)


def rows(count: int = 200, **changes: Any) -> list[Any]:
    return [params(f"Row {i}", **{"system": [block(ttl="1h")], **changes}) for i in range(count)]


def test_a_batch_hits_its_own_prefix_at_best_effort() -> None:
    """The first answered row writes; of the others a share reads, the same each time."""
    clock = SimulatedClock()
    found = run(client_of(Emulator(clock=clock, duration=0)), rows())
    again = run(client_of(Emulator(clock=clock, duration=0)), rows())
    read = sum(split(usage)[2] > 0 for usage in found)

    assert 80 < read < 160
    assert all((split(usage)[1] > 0) != (split(usage)[2] > 0) for usage in found)
    assert found == again


def test_another_seed_misses_other_rows() -> None:
    clock = SimulatedClock()
    one, two = (
        [split(u)[2] > 0 for u in run(client_of(Emulator(clock=clock, duration=0, seed=s)), rows())]
        for s in (1, 2)
    )

    assert one != two


def test_warming_up_pays() -> None:
    """One row with an hour's entry, ended before the rest is sent: nearly all others read."""
    clock = SimulatedClock()
    client = client_of(Emulator(clock=clock, duration=600))
    warm = client.messages.batches.create(requests=[{"custom_id": "w", "params": rows(1)[0]}])
    clock.advance(600)
    assert client.messages.batches.retrieve(warm.id).processing_status == "ended"
    requests = [{"custom_id": f"r{i}", "params": row} for i, row in enumerate(rows())]
    rest = client.messages.batches.create(requests=requests)  # type: ignore[arg-type]
    clock.advance(600)

    assert sum(split(usage)[2] > 0 for usage in usages(client, rest.id)) > 175


def test_a_batch_and_messages_share_the_workspaces_cache() -> None:
    client = client_of(Emulator(duration=0))
    run(client, rows(1))

    assert split(send(client, system=[block(ttl="1h")]))[2] > 1_000


def test_rows_without_an_answer_use_no_cache() -> None:
    client = client_of(Emulator(duration=0, rules=[Rule(outcome="expired", contains="Row")]))
    run(client, rows(5))

    assert split(send(client, system=[block(ttl="1h")]))[2] == 0


TEXTS = st.sampled_from(["Be kind. ", "Be brief. ", "東京 "])


@given(
    st.lists(
        st.tuples(st.lists(st.tuples(TEXTS, st.integers(1, 300), st.booleans()), max_size=4)),
        min_size=1,
        max_size=6,
    )
)
def test_no_token_is_counted_twice_or_lost(requests: list[Any]) -> None:
    """New, written and read tokens add up to what token counting says, whatever was cached."""
    client = client_of(Emulator())
    for (blocks,) in requests:
        content = [
            block(text * times) if marked else plain(text * times) for text, times, marked in blocks
        ]
        request = params([*content, plain("end")])
        usage = client.messages.create(**request).usage
        count = client.messages.count_tokens(model=MODEL, messages=request["messages"])

        assert sum(split(usage)) == count.input_tokens
        assert min(split(usage)) >= 0


def test_expired_entries_are_forgotten() -> None:
    """A server that lives long does not keep every prefix it ever saw."""
    cache = PromptCache()
    for number in range(25_000):
        prefix = Boundary(str(number).encode(), 1_000, "5m")
        cache.use("w", [prefix], minimum=1, origin="o", now=number, until=number)

    assert len(cache._entries) <= 10_001
