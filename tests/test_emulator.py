from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import pytest

from claude_batch_pandas.emulator import Emulator, Rule
from claude_batch_pandas.exceptions import InputError

DAY = 86_400.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_795_000_000.25

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def client_of(emulator: Emulator, key: str = "k") -> anthropic.Anthropic:
    web = httpx2.Client(transport=emulator.transport())
    return anthropic.Anthropic(api_key=key, http_client=web, max_retries=0)


def requests(count: int = 3, text: str = "Hello") -> list[Any]:
    return [
        {
            "custom_id": f"r{number}",
            "params": {
                "model": "claude-haiku-5-5",
                "max_tokens": 100,
                "messages": [{"role": "user", "content": f"{text} {number}"}],
            },
        }
        for number in range(count)
    ]


def types_of(client: anthropic.Anthropic, batch_id: str) -> dict[str, str]:
    return {line.custom_id: line.result.type for line in client.messages.batches.results(batch_id)}


def test_batch_goes_from_in_progress_to_ended(clock: Clock) -> None:
    """A batch is in progress until its duration is over, then ended with counts and a URL."""
    client = client_of(Emulator(clock=clock, duration=60))
    created = client.messages.batches.create(requests=requests(3))
    clock.now += 59.9
    running = client.messages.batches.retrieve(created.id)
    clock.now += 0.1
    ended = client.messages.batches.retrieve(created.id)

    assert created.processing_status == running.processing_status == "in_progress"
    assert running.results_url is None
    assert running.ended_at is None
    assert ended.processing_status == "ended"
    assert ended.request_counts.succeeded == 3
    assert (ended.expires_at - ended.created_at).total_seconds() == DAY
    assert ended.results_url == f"https://api.anthropic.com/v1/messages/batches/{ended.id}/results"


def test_counts_stay_frozen_until_the_end(clock: Clock) -> None:
    """All requests are processing until the batch ends, as the API says of its counts."""
    client = client_of(Emulator(clock=clock, duration=60))
    batch = client.messages.batches.create(requests=requests(10))
    clock.now += 59

    counts = client.messages.batches.retrieve(batch.id).request_counts
    assert (counts.processing, counts.succeeded) == (10, 0)


def test_counts_move_when_told_to(clock: Clock) -> None:
    """With moving_counts, half of the requests are through at half time."""
    rules = [Rule(outcome="errored", every=2)]
    client = client_of(Emulator(clock=clock, duration=60, moving_counts=True, rules=rules))
    batch = client.messages.batches.create(requests=requests(100))
    clock.now += 30

    counts = client.messages.batches.retrieve(batch.id).request_counts
    assert counts.processing == 50
    assert counts.succeeded + counts.errored == 50
    assert counts.errored > 0


def test_duration_zero_ends_at_the_first_retrieve() -> None:
    """A test need not wait: create says in_progress, the first look says ended."""
    client = client_of(Emulator(duration=0))
    batch = client.messages.batches.create(requests=requests())

    assert batch.processing_status == "in_progress"
    assert client.messages.batches.retrieve(batch.id).processing_status == "ended"


@pytest.mark.parametrize(("speed", "seconds"), [(1.0, 2.5), (1000.0, 0.0025)])
def test_speed_divides_a_plausible_duration(clock: Clock, speed: float, seconds: float) -> None:
    """By default a small batch takes a few seconds; speed divides them."""
    client = client_of(Emulator(clock=clock, speed=speed))
    batch = client.messages.batches.create(requests=requests())
    clock.now += seconds / 2
    early = client.messages.batches.retrieve(batch.id).processing_status
    clock.now += seconds / 2

    assert early == "in_progress"
    assert client.messages.batches.retrieve(batch.id).processing_status == "ended"


def test_a_rule_can_hold_a_batch_up(clock: Clock) -> None:
    """The longest delay of a batch's rows is added to its duration; other batches are not held."""
    rules = [Rule(outcome="succeeded", contains="slow", delay=100.0)]
    client = client_of(Emulator(clock=clock, duration=1, rules=rules))
    slow = client.messages.batches.create(requests=requests(2, "slow"))
    quick = client.messages.batches.create(requests=requests(2, "quick"))
    clock.now += 50

    assert client.messages.batches.retrieve(slow.id).processing_status == "in_progress"
    assert client.messages.batches.retrieve(quick.id).processing_status == "ended"


def test_answers_come_out_of_order_and_all() -> None:
    """Every custom_id comes once, not in the order of the requests, the same way each time."""
    client = client_of(Emulator(duration=0))
    batch = client.messages.batches.create(requests=requests(50))
    first = list(types_of(client, batch.id))

    assert first != [f"r{number}" for number in range(50)]
    assert sorted(first) == sorted(f"r{number}" for number in range(50))
    assert list(types_of(client, batch.id)) == first


def test_a_large_result_is_streamed() -> None:
    """Results of more than a block carry no length and lose no line."""
    emulator = Emulator(duration=0)
    client = client_of(emulator)
    batch = client.messages.batches.create(requests=requests(2_500))
    with client.messages.batches.with_streaming_response.results(batch.id) as response:
        lines = b"".join(response.iter_bytes()).split(b"\n")

    assert "content-length" not in response.headers
    assert len(lines) == 2_501


@pytest.mark.parametrize("count", [2, 1_000])
def test_a_small_result_has_its_length(count: int) -> None:
    """A file of one block, a full one too, goes out whole."""
    client = client_of(Emulator(duration=0))
    batch = client.messages.batches.create(requests=requests(count))
    with client.messages.batches.with_streaming_response.results(batch.id) as response:
        body = b"".join(response.iter_bytes())

    assert int(response.headers["content-length"]) == len(body)
    assert body.count(b"\n") == count


def test_cancel_keeps_what_was_through(clock: Clock) -> None:
    """Canceled at a quarter of its time, a quarter of the rows succeed and the rest is canceled."""
    client = client_of(Emulator(clock=clock, duration=40))
    batch = client.messages.batches.create(requests=requests(100))
    clock.now += 10
    canceling = client.messages.batches.cancel(batch.id)
    again = client.messages.batches.cancel(batch.id)
    clock.now += 1
    ended = client.messages.batches.retrieve(batch.id)

    assert canceling.processing_status == again.processing_status == "canceling"
    assert canceling.cancel_initiated_at is not None
    assert canceling.request_counts.processing == 100
    assert ended.processing_status == "ended"
    assert (ended.request_counts.succeeded, ended.request_counts.canceled) == (25, 75)
    assert sorted(types_of(client, batch.id).values()) == ["canceled"] * 75 + ["succeeded"] * 25


def test_cancel_at_duration_zero_ends_at_the_next_look() -> None:
    client = client_of(Emulator(duration=0))
    batch = client.messages.batches.create(requests=requests(4))
    canceling = client.messages.batches.cancel(batch.id)
    ended = client.messages.batches.retrieve(batch.id)

    assert canceling.processing_status == "canceling"
    assert ended.processing_status == "ended"
    assert ended.request_counts.canceled == 4


def test_an_ended_batch_cannot_be_canceled() -> None:
    client = client_of(Emulator(duration=0))
    batch = client.messages.batches.create(requests=requests())
    client.messages.batches.retrieve(batch.id)

    with pytest.raises(anthropic.BadRequestError, match="cannot be canceled any more"):
        client.messages.batches.cancel(batch.id)


def test_a_canceled_batch_cannot_be_canceled_after_its_end(clock: Clock) -> None:
    client = client_of(Emulator(clock=clock, duration=40))
    batch = client.messages.batches.create(requests=requests())
    client.messages.batches.cancel(batch.id)
    clock.now += 2

    with pytest.raises(anthropic.BadRequestError, match="cannot be canceled any more"):
        client.messages.batches.cancel(batch.id)


def test_a_running_batch_cannot_be_deleted(clock: Clock) -> None:
    client = client_of(Emulator(clock=clock, duration=40))
    batch = client.messages.batches.create(requests=requests())

    with pytest.raises(anthropic.BadRequestError, match="still processing"):
        client.messages.batches.delete(batch.id)


def test_a_deleted_batch_is_gone_for_clients_only() -> None:
    """The API forgets a deleted batch; the emulator still shows it to a test."""
    emulator = Emulator(duration=0)
    client = client_of(emulator)
    batch = client.messages.batches.create(requests=requests())
    deleted = client.messages.batches.delete(batch.id)

    assert deleted.type == "message_batch_deleted"
    assert client.messages.batches.list().data == []
    assert [kept.id for kept in emulator.batches] == [batch.id]
    with pytest.raises(anthropic.NotFoundError, match="not found"):
        client.messages.batches.retrieve(batch.id)


def test_unfinished_requests_expire_after_a_day(clock: Clock) -> None:
    """A batch that would take two days ends after one, half of it expired."""
    client = client_of(Emulator(clock=clock, duration=2 * DAY))
    batch = client.messages.batches.create(requests=requests(10))
    clock.now += DAY
    ended = client.messages.batches.retrieve(batch.id)

    assert ended.processing_status == "ended"
    assert ended.ended_at == ended.expires_at
    assert (ended.request_counts.succeeded, ended.request_counts.expired) == (5, 5)
    assert sorted(types_of(client, batch.id).values()) == ["expired"] * 5 + ["succeeded"] * 5


def test_results_are_archived_after_29_days(clock: Clock) -> None:
    """29 days after its creation the batch is still there, its results are not."""
    client = client_of(Emulator(clock=clock, duration=0))
    batch = client.messages.batches.create(requests=requests())
    clock.now += 29 * DAY
    archived = client.messages.batches.retrieve(batch.id)

    assert archived.results_url is None
    assert archived.archived_at is not None
    assert (archived.archived_at - archived.created_at).days == 29
    with pytest.raises(anthropic.NotFoundError, match="archived"):
        client.get(f"/v1/messages/batches/{batch.id}/results", cast_to=httpx2.Response)


def test_results_before_the_end_are_not_found(clock: Clock) -> None:
    client = client_of(Emulator(clock=clock, duration=60))
    batch = client.messages.batches.create(requests=requests())

    with pytest.raises(anthropic.NotFoundError, match="no results yet"):
        client.get(f"/v1/messages/batches/{batch.id}/results", cast_to=httpx2.Response)


def made(client: anthropic.Anthropic, count: int) -> list[str]:
    """Create batches and return their ids, newest first."""
    ids = [client.messages.batches.create(requests=requests(1)).id for _ in range(count)]
    return ids[::-1]


def test_list_is_newest_first_and_pages_by_twenty() -> None:
    client = client_of(Emulator(duration=0))
    ids = made(client, 25)
    page = client.messages.batches.list()

    assert [batch.id for batch in page.data] == ids[:20]
    assert (page.has_more, page.first_id, page.last_id) == (True, ids[0], ids[19])
    assert [batch.id for batch in page] == ids


def test_list_after_a_cursor_goes_to_older_batches() -> None:
    client = client_of(Emulator(duration=0))
    ids = made(client, 5)
    page = client.messages.batches.list(after_id=ids[1], limit=2)

    assert [batch.id for batch in page.data] == ids[2:4]
    assert page.has_more


def test_list_before_a_cursor_is_the_page_next_to_it() -> None:
    """before_id gives the newer neighbours, still newest first; the SDK pages on to the newest."""
    client = client_of(Emulator(duration=0))
    ids = made(client, 5)
    page = client.messages.batches.list(before_id=ids[3], limit=2)

    assert [batch.id for batch in page.data] == ids[1:3]
    assert page.has_more
    assert {batch.id for batch in page} == set(ids[:3])


def test_list_before_the_newest_is_empty() -> None:
    client = client_of(Emulator(duration=0))
    ids = made(client, 2)
    page = client.messages.batches.list(before_id=ids[0])

    assert (page.data, page.has_more, page.first_id, page.last_id) == ([], False, None, None)


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ({"limit": 0}, "between 1 and 1000, not 0"),
        ({"limit": 1001}, "between 1 and 1000, not 1001"),
        ({"limit": "many"}, "valid integer, not 'many'"),
        ({"after_id": "msgbatch_none"}, "after_id: no batch 'msgbatch_none'"),
        ({"before_id": "msgbatch_none"}, "before_id: no batch 'msgbatch_none'"),
        ({"before_id": "a", "after_id": "b"}, "cannot be used together"),
    ],
)
def test_list_refuses_bad_queries(query: dict[str, Any], problem: str) -> None:
    client = client_of(Emulator())

    with pytest.raises(anthropic.BadRequestError, match=problem):
        client.messages.batches.list(extra_query=query)


def test_workspaces_do_not_see_each_other() -> None:
    """A key of another workspace finds nothing, in the list or by id; the headers say which."""
    emulator = Emulator(duration=0, workspaces={"ann": "wrkspc_a", "bob": "wrkspc_b"})
    ann, bob = client_of(emulator, "ann"), client_of(emulator, "bob")
    batch = ann.messages.batches.create(requests=requests())
    response = bob.messages.batches.with_raw_response.list()

    assert response.parse().data == []
    assert response.headers["anthropic-workspace-id"] == "wrkspc_b"
    assert emulator.batches[0].workspace == "wrkspc_a"
    with pytest.raises(anthropic.NotFoundError, match="not found"):
        bob.messages.batches.retrieve(batch.id)


def test_every_response_is_signed_and_says_it_is_simulated(clock: Clock) -> None:
    """Headers name the request, the organization and the workspace, and the simulation."""
    emulator = Emulator(clock=clock, organization="org_test")
    headers = client_of(emulator).messages.batches.with_raw_response.list().headers

    assert headers["request-id"].startswith("req_sim_")
    assert headers["anthropic-organization-id"] == "org_test"
    assert headers["anthropic-workspace-id"] == "wrkspc_simulated"
    assert headers["date"] == "Wed, 18 Nov 2026 11:06:40 GMT"
    assert headers["x-simulated"] == "claude_batch_pandas emulator"


def test_no_key_is_needed_and_a_bad_one_is_refused() -> None:
    emulator = Emulator()
    with httpx2.Client(transport=emulator.transport(), base_url="http://sim") as web:
        status = web.get("/v1/messages/batches").status_code
        old = web.get("/v1/messages/batches", headers={"x-api-key": "bad-key"}).status_code

    assert (status, old) == (200, 401)
    with pytest.raises(anthropic.AuthenticationError, match="invalid x-api-key"):
        client_of(emulator, "bad-key").messages.batches.list()


def test_unknown_paths_and_methods_have_the_errors_shape() -> None:
    with httpx2.Client(transport=Emulator().transport(), base_url="http://sim") as web:
        missing = web.get("/v1/elsewhere")
        wrong = web.put("/v1/messages/batches", json={})

    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")
    assert (wrong.status_code, wrong.json()["error"]["type"]) == (405, "invalid_request_error")
    assert missing.json()["request_id"] == missing.headers["request-id"]


def test_the_queue_is_limited_over_all_batches(clock: Clock) -> None:
    """More requests in processing than the tier allows is a 429; ended batches make room."""
    client = client_of(Emulator(clock=clock, duration=60, max_queue=5))
    client.messages.batches.create(requests=requests(3))
    with pytest.raises(anthropic.RateLimitError, match="limit of 5 requests"):
        client.messages.batches.create(requests=requests(3))
    clock.now += 60

    assert client.messages.batches.create(requests=requests(3)).request_counts.processing == 3


def test_the_queue_can_be_without_limit() -> None:
    client = client_of(Emulator(max_queue=None))
    client.messages.batches.create(requests=requests(3))

    assert client.messages.batches.create(requests=requests(3)).id


def test_tests_see_what_was_sent() -> None:
    """`batches` and `calls` show ids, requests, betas and every HTTP call."""
    emulator = Emulator(duration=0)
    sent = requests(2)
    client_of(emulator).messages.batches.create(
        requests=sent, extra_headers={"anthropic-beta": "one-2026-01-01, two-2026-01-01"}
    )
    (batch,) = emulator.batches
    (call,) = emulator.calls

    assert batch.requests == sent
    assert (batch.custom_ids, batch.total) == (["r0", "r1"], 2)
    assert batch.betas == ("one-2026-01-01", "two-2026-01-01")
    assert (call.method, call.path, call.status) == ("POST", "/v1/messages/batches", 200)
    assert repr(batch) == f"<SimulatedBatch {batch.id} of 2 requests>"


def test_ids_differ_over_time_and_repeat_with_the_clock(clock: Clock) -> None:
    """The same script gives the same ids; an emulator started later gives others."""
    first = made(client_of(Emulator(clock=clock)), 2)
    same = made(client_of(Emulator(clock=clock)), 2)
    clock.now += 1
    later = made(client_of(Emulator(clock=clock)), 2)

    assert first == same
    assert not set(first) & set(later)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Emulator(speed=0), "speed=0 does not move"),
        (lambda: Emulator(duration=-1), "duration=-1 is in the past"),
        (lambda: Rule(outcome="failed"), "No outcome 'failed'. A rule can ask for"),
        (lambda: Rule(outcome="errored", every=0), "every=0 matches nothing"),
        (lambda: Rule(outcome="errored", delay=-1.0), "delay=-1.0 is in the past"),
    ],
)
def test_bad_options_are_refused(make: Callable[[], object], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        make()
