from __future__ import annotations

import time
from typing import Any

import anthropic
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_batch_pandas.emulator import Emulator, SimulatedClock
from claude_batch_pandas.emulator.catalog import Model
from claude_batch_pandas.emulator.errors import RefusedError
from claude_batch_pandas.emulator.limits import Throttle
from claude_batch_pandas.emulator.pages import Cursor, Shelf
from claude_batch_pandas.exceptions import InputError

PATH = "/v1/messages/batches"


def web_of(emulator: Emulator) -> httpx2.Client:
    return httpx2.Client(transport=emulator.transport(), base_url="http://sim")


def requests(count: int = 1) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Hello"}]
    params = {"model": "claude-haiku-5-5", "max_tokens": 100, "messages": messages}
    return {"requests": [{"custom_id": f"r{i}", "params": params} for i in range(count)]}


@pytest.mark.parametrize(("tier", "per_minute"), [("start", 1_000), ("build", 2_000)])
def test_a_tier_limits_the_calls_of_a_minute(tier: str, per_minute: int) -> None:
    """One call too many is a 429 that says how long to wait; other endpoints do not count."""
    clock = SimulatedClock()
    with web_of(Emulator(clock=clock, tier=tier)) as web:
        seen = {web.get(PATH).status_code for _ in range(per_minute)}
        refused = web.get(f"{PATH}/x")
        other = web.get("/v1/models").status_code
        clock.advance(1)
        after = web.post(PATH, json=requests()).status_code

    assert (seen, refused.status_code, other, after) == ({200}, 429, 200, 200)
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert f"limit of {per_minute} requests per minute" in refused.json()["error"]["message"]
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["request-id"] == refused.json()["request_id"]


def test_the_sdk_waits_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK obeys the retry-after header; here its sleep moves the emulator's clock."""
    clock = SimulatedClock()
    emulator = Emulator(clock=clock, tier="start")
    monkeypatch.setattr(time, "sleep", clock.advance)
    with web_of(emulator) as web:
        client = anthropic.Anthropic(api_key="k", http_client=web, max_retries=1)
        for _ in range(1_001):
            client.messages.batches.list()

    assert [call.status for call in emulator.calls[-2:]] == [429, 200]


def test_without_a_tier_calls_are_not_counted() -> None:
    with web_of(Emulator(clock=SimulatedClock())) as web:
        assert {web.get(PATH).status_code for _ in range(1_100)} == {200}


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({}, 200_000),
        ({"tier": "start"}, 200_000),
        ({"tier": "build"}, 300_000),
        ({"tier": "scale"}, 500_000),
        ({"tier": "scale", "max_queue": 7}, 7),
    ],
)
def test_a_tier_limits_the_queue(options: dict[str, Any], limit: int) -> None:
    """The queue is the tier's unless it is given; a batch that would overfill it is a 429."""
    emulator = Emulator(clock=SimulatedClock(), **options)
    queue = emulator._endpoints["create"].__self__._queue  # type: ignore[attr-defined]
    with pytest.raises(RefusedError, match=f"limit of {limit} requests in the processing queue"):
        queue.check(limit + 1, 0.0)
    queue.check(limit, 0.0)


def test_a_canceled_batch_leaves_the_queue_early() -> None:
    clock = SimulatedClock()
    with web_of(Emulator(clock=clock, duration=600, max_queue=5)) as web:
        first = web.post(PATH, json=requests(5)).json()["id"]
        full = web.post(PATH, json=requests(1))
        web.post(f"{PATH}/{first}/cancel")
        clock.advance(1)
        again = web.post(PATH, json=requests(5)).status_code
        clock.advance(600)
        last = web.post(PATH, json=requests(5)).status_code

    assert (full.status_code, again, last) == (429, 200, 200)
    assert "retry-after" not in full.headers


def test_an_unknown_tier_is_explained() -> None:
    with pytest.raises(
        InputError, match=r"No tier 'gold'. There are: \['start', 'build', 'scale'\]"
    ):
        Emulator(tier="gold")


@given(st.lists(st.floats(0, 10), max_size=200), st.integers(1, 30))
def test_no_minute_has_more_calls_than_twice_the_limit(waits: list[float], limit: int) -> None:
    """A full bucket may be emptied at once, and fills up evenly: n at once, and n a minute."""
    throttle = Throttle(limit)
    now, admitted, pauses = 0.0, list[float](), [1]
    for wait in waits:
        now += wait
        try:
            throttle.admit(now)
        except RefusedError as error:
            pauses.append(int(error.headers["retry-after"]))
        else:
            admitted.append(now)

    assert 1 <= min(pauses) <= max(pauses) <= 60
    for start in admitted:
        within = [moment for moment in admitted if start <= moment < start + 60]
        assert len(within) <= 2 * limit


def shelf(count: int) -> Shelf[Model]:
    return Shelf("model", [Model(str(number), "") for number in range(count)])


@given(st.integers(0, 40), st.integers(1, 50), st.sets(st.integers(0, 40)))
def test_pages_in_either_direction_show_everything_once(
    count: int, limit: int, hidden: set[int]
) -> None:
    """Following the cursors gives every item that is shown, in order, whatever the limit."""
    items = shelf(count)
    visible = [str(n) for n in reversed(range(count)) if n not in hidden]

    def shown(item: Model) -> bool:
        return int(item.id) not in hidden

    older, cursor, more = list[str](), Cursor(limit, None, None), True
    while more:
        page, more = items.page(cursor, shown)
        older += [item.id for item in page]
        cursor = Cursor(limit, older[-1], None) if older else cursor
    newer, more = list[str](), bool(visible)
    cursor = Cursor(limit, None, visible[-1]) if visible else cursor
    while more:
        page, more = items.page(cursor, shown)
        newer = [item.id for item in page] + newer
        cursor = Cursor(limit, None, newer[0]) if newer else cursor

    assert older == visible
    assert newer == visible[:-1]


def test_thousands_of_batches_stay_fast() -> None:
    """A call looks at what it needs, however many batches there are, running or ended."""
    clock = SimulatedClock()
    emulator = Emulator(clock=clock, duration=60, max_queue=None)
    with web_of(emulator) as web:
        for _ in range(2_000):
            web.post(PATH, json=requests())
        seen = Counting(emulator)
        page = web.get(PATH).json()
        web.post(PATH, json=requests())
        found = web.get(f"{PATH}/{page['last_id']}").json()

    assert len(page["data"]) == 20
    assert found["id"] == page["last_id"]
    assert seen.count < 100


class Counting:
    """Counts how often any batch is asked for its end."""

    def __init__(self, emulator: Emulator) -> None:
        self.count = 0
        kind = type(emulator.batches[0])

        class Counted(kind):  # type: ignore[misc,valid-type]
            @property
            def ended_at(inner) -> float:  # noqa: N805
                self.count += 1
                return float(kind.ended_at.fget(inner))  # type: ignore[attr-defined]

        for batch in emulator.batches:
            batch.__class__ = Counted
