"""Ways back: a batch id alone, a frame and its template alone, a key that was rotated."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas import session
from claude_batch_pandas.emulator import Emulator, Fault, Rule
from claude_batch_pandas.exceptions import OutputExistsError
from claude_batch_pandas.records import RunState
from claude_batch_pandas.store import Store
from tests.conftest import JumpingClock
from tests.test_reconciling import whole

Connect = Callable[..., Any]


@pytest.fixture
def frame() -> pd.DataFrame:
    """Return rows of which two ask the same, and one nothing."""
    texts = ["row 0", "row 1", "row 0", None, "row 3"]
    return pd.DataFrame({"text": texts}, index=[7, 7, 8, 9, 9])


def send(emulator: Emulator, *ids: str) -> str:
    """Send a batch as somebody else would, and return its id."""
    client = anthropic.Anthropic(
        api_key="k", http_client=httpx2.Client(transport=emulator.transport())
    )
    message: Any = {"role": "user", "content": "Hello"}
    params: Any = {"model": "claude-haiku-5-5", "max_tokens": 99, "messages": [message]}
    requests: Any = [{"custom_id": name, "params": params} for name in ids]
    return client.messages.batches.create(requests=requests).id


def lose_ledger(home: Path) -> None:
    """Delete everything that is remembered."""
    shutil.rmtree(home)


# attach


def test_a_batch_of_somebody_else_is_indexed_by_custom_id(
    emulator: Emulator, client: Any, home: Path
) -> None:
    """With nothing but its id: every request's answer under its own custom_id, in their order."""
    emulator.rules = (Rule(outcome="errored", every=2, message="no"),)
    run = cbp.attach(send(emulator, "b", "a", "c"), client=client)
    out = run.result()

    assert out.index.tolist() == ["a", "b", "c"]
    assert out.index.name == "custom_id"
    assert out["answer_status"].tolist() == ["errored", "succeeded", "succeeded"]
    assert out["answer"].tolist()[1:] == ["[simulated] Hello"] * 2
    assert out["answer_error"].iloc[0] == "api_error: no"
    assert run.details()["text"].notna().tolist() == [False, True, True]
    assert len(emulator.batches) == 1
    assert cbp.runs()["name"].tolist() == ["attached"]


def test_attaching_again_is_the_same_run(emulator: Emulator, client: Any) -> None:
    """Nothing is downloaded twice, in this kernel or the next."""
    batch_id = send(emulator, "a")
    first = cbp.attach(batch_id, client=client).wait()
    calls = len(emulator.calls)
    second = cbp.attach(batch_id, client=client)

    assert second.id == first.id
    assert second.result()["answer"].tolist() == ["[simulated] Hello"]
    assert len(emulator.calls) == calls


def test_a_batch_of_ours_joins_its_frame_without_the_ledger(
    frame: pd.DataFrame, client: Any, emulator: Emulator, home: Path
) -> None:
    """The hashes in custom_ids tell which row is whose, wherever the rows stand now."""
    told = frame.claude.batch("{text}", client=client)
    lose_ledger(home)
    changed = frame.iloc[::-1]
    run = cbp.attach(emulator.batches[0].id, changed, "{text}", client=client)

    pd.testing.assert_frame_equal(run.result(), told.iloc[::-1])
    assert len(emulator.batches) == 1


def test_attaching_to_a_batch_that_the_ledger_knows_is_its_run(
    frame: pd.DataFrame, client: Any, emulator: Emulator
) -> None:
    """The id that the Console shows leads back to the run."""
    run = frame.claude.submit("{text}", client=client).wait()
    back = cbp.attach(emulator.batches[0].id, frame, "{text}", client=client)

    assert back.id == run.id
    pd.testing.assert_frame_equal(back.result(), run.result(frame))


def test_a_known_batch_joins_a_changed_frame_by_what_it_asks(
    frame: pd.DataFrame, client: Any, emulator: Emulator
) -> None:
    """Rows that moved since take their answers along."""
    told = frame.claude.batch("{text}", client=client)
    back = cbp.attach(emulator.batches[0].id, frame.iloc[::-1], "{text}", client=client)

    pd.testing.assert_frame_equal(back.result(), told.iloc[::-1])


def test_a_submission_that_is_being_checked_is_not_attached(
    frame: pd.DataFrame, connect: Connect, clock: JumpingClock
) -> None:
    """The run that lost the answer has to find its batch, or it would send it again."""
    lost = Fault(method="POST", path="/v1/messages/batches", after=True, drop=True)
    no_list = Fault(method="GET", path="/v1/messages/batches", status=529, skip=2, times=None)
    emulator = Emulator(clock=clock.now, duration=60.0, faults=[lost, no_list])
    client = connect(emulator)
    run = frame.claude.submit("{text}", client=client)
    session.crew.leave(60.0)

    with pytest.raises(cbp.InputError, match=f"may be what became of a submission of run {run.id}"):
        cbp.attach(emulator.batches[0].id, client=client)
    assert cbp.runs()["id"].tolist() == [run.id]


def test_what_was_attached_with_its_frame_is_not_sent_again(
    frame: pd.DataFrame, client: Any, emulator: Emulator, home: Path
) -> None:
    """The ordinary call reuses what joined; what failed is asked anew, and nothing else."""
    emulator.rules = (Rule(outcome="errored", error_type="permission_error", contains="row 1"),)
    frame.claude.batch("{text}", client=client)
    lose_ledger(home)
    emulator.rules = ()
    cbp.attach(emulator.batches[0].id, frame, "{text}", client=client).result()
    out = frame.claude.batch("{text}", client=client)

    assert [batch.total for batch in emulator.batches] == [3, 1]
    assert out["answer"].notna().sum() == 4


def test_a_purged_batch_can_be_attached_again(
    frame: pd.DataFrame, client: Any, emulator: Emulator
) -> None:
    """The server has it for 29 days, whatever was deleted here."""
    told = frame.claude.batch("{text}", client=client)
    cbp.run(cbp.runs()["id"].iloc[0], client=client).purge()
    back = cbp.attach(emulator.batches[0].id, frame, "{text}", client=client).result()

    pd.testing.assert_frame_equal(back, told)
    pd.testing.assert_frame_equal(cbp.recover(frame, "{text}", client=client).result(), told)
    assert len(emulator.batches) == 1


def test_an_attached_batch_that_still_runs_is_processing(
    frame: pd.DataFrame, connect: Connect, home: Path
) -> None:
    """Its custom_ids are seen in its results only; until then every row waits."""
    emulator = Emulator(duration=3600.0)
    frame.claude.submit("{text}", client=connect(emulator))
    session.crew.leave(60.0)
    lose_ledger(home)
    run = cbp.attach(emulator.batches[0].id, frame, "{text}", client=connect(emulator))
    out = run.result(partial=True)

    assert out["answer_status"].tolist() == [*["processing"] * 3, "skipped", "processing"]
    assert out["answer_error"].iloc[0] == "no result yet"
    assert run.result(partial=True)["answer"].isna().all()
    run.detach()
    alone = cbp.run(run.id, client=connect(emulator))
    assert alone.result(partial=True).index.tolist() == [0, 1, 2]
    alone.detach()


def test_foreign_custom_ids_tell_no_rows(
    frame: pd.DataFrame, client: Any, emulator: Emulator
) -> None:
    """A frame is never joined by guesswork; the error says what works."""
    run = cbp.attach(send(emulator, "row-0", "row-1"), frame, "{text}", client=client)

    with pytest.raises(cbp.ChangedFrameError, match=r"custom_ids of run .* are not ours"):
        run.result()
    again = cbp.run(run.id, client=client)
    assert again.result().index.tolist() == ["row-0", "row-1"]
    message = f"Run {run.id} was attached without template=; attach it with one to join a frame."
    bare = cbp.attach(send(emulator, "row-2"), client=client).wait()
    with pytest.raises(cbp.InputError, match=whole(message.replace(run.id, bare.id))):
        bare.result(frame)


def spoil(emulator: Emulator, *faults: Fault) -> None:
    """Have something go wrong from now on."""
    emulator.faults = faults


def garble(number: int, body: bytes) -> bytes:
    """Spoil one line of a results file."""
    lines = body.split(b"\n")
    lines[number] = lines[number][:-9]
    return b"\n".join(lines)


def test_unreadable_results_of_an_attached_batch_may_have_been_paid(
    frame: pd.DataFrame, client: Any, emulator: Emulator, home: Path
) -> None:
    """The row whose line is spoiled is not told that it was never asked."""
    told = frame.claude.batch("{text}", client=client)
    lose_ledger(home)
    spoiled = Fault(method="GET", path=".*/results", edit=partial(garble, 1), times=None)
    spoil(emulator, spoiled)
    run = cbp.attach(emulator.batches[0].id, frame, "{text}", client=client)
    message = (
        f"1 results of run {run.id} cannot be read, and {{}} of 5 rows have none: they may have "
        "been paid. Asking them again may pay twice."
    )
    with pytest.warns(UserWarning, match="cannot be read") as warned:
        out = run.result()

    lost = out["answer_error"] == "no readable result; it may have been paid"
    assert set(out["answer_status"][lost]) == {"errored"}
    assert 1 <= lost.sum() <= 2
    assert [str(warning.message) for warning in warned] == [message.format(lost.sum())]
    assert out["answer"][~lost].equals(told["answer"][~lost])


def test_unreadable_results_are_told_when_recovering(
    frame: pd.DataFrame, client: Any, emulator: Emulator, home: Path
) -> None:
    """What is asked again because it could not be read may be paid twice, and that is said."""
    frame.claude.batch("{text}", client=client)
    lose_ledger(home)
    spoil(emulator, Fault(method="GET", path=".*/results", edit=partial(garble, 1), times=None))
    with pytest.warns(UserWarning, match="results that cannot be read: 1, which may be among"):
        out = cbp.recover(frame, "{text}", client=client).result()

    assert sorted(set(out["answer_status"])) == ["errored", "skipped", "succeeded"]
    assert "may have been paid" in set(out["answer_error"]).__str__()


def test_results_that_are_gone_are_not_called_foreign(
    frame: pd.DataFrame, client: Any, emulator: Emulator, home: Path, clock: JumpingClock
) -> None:
    """After 29 days nothing can be read of a batch, which was paid all the same."""
    frame.claude.batch("{text}", client=client)
    lose_ledger(home)
    clock.advance(30 * 86_400.0)
    run = cbp.attach(emulator.batches[0].id, frame, "{text}", client=client)
    with pytest.warns(UserWarning, match="3 results of run .* cannot be read, and 4 of 5 rows"):
        out = run.result()

    assert out["answer_status"].tolist() == [*["errored"] * 3, "skipped", "errored"]
    assert out["answer_error"].iloc[0] == "no readable result; it may have been paid"


def test_a_batch_that_counted_nothing_at_first_is_counted_at_its_end(
    connect: Connect, clock: JumpingClock
) -> None:
    """Some relays count a batch only when it has ended."""
    emulator = Emulator(duration=60.0, clock=clock.now)
    batch_id = send(emulator, "a", "b")
    none = Fault(
        method="GET",
        path=f".*/{batch_id}",
        edit=lambda body: re.sub(rb'"processing": ?\d+', b'"processing":0', body),
    )
    spoil(emulator, none)
    run = cbp.attach(batch_id, client=connect(emulator))

    assert run.result()["answer"].tolist() == ["[simulated] Hello"] * 2
    assert cbp.runs()["rows"].tolist() == [2]


def test_an_awaited_run_joins_the_frame_it_was_attached_with(
    frame: pd.DataFrame, client: Any, emulator: Emulator, home: Path
) -> None:
    told = frame.claude.batch("{text}", client=client)
    lose_ledger(home)

    async def main() -> pd.DataFrame:
        return await cbp.attach(emulator.batches[0].id, frame, "{text}", client=client)

    pd.testing.assert_frame_equal(asyncio.run(main()), told)


def test_a_column_of_the_users_own_is_not_rewritten(frame: pd.DataFrame, client: Any) -> None:
    """The three columns of a run are; so `df = run.result(df)` can be run again."""
    run = frame.claude.submit("{text}", output="intent", client=client)
    once = run.result(frame)

    pd.testing.assert_frame_equal(run.result(once), once)
    with pytest.raises(OutputExistsError, match=r"\['intent'\], which are not a run's. Rename"):
        run.result(frame.assign(intent="gold"))


def test_an_attached_run_cannot_send_again(emulator: Emulator, client: Any) -> None:
    """Its requests are not here; the error says what to do."""
    emulator.rules = (Rule(outcome="errored"),)
    run = cbp.attach(send(emulator, "a"), client=client).wait()

    with pytest.raises(cbp.InputError, match="is an attached batch, whose requests are not on"):
        run.retry()
    assert len(emulator.batches) == 1


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"batch_id": "msgbatch_none"}, cbp.APIError, "404 not_found_error"),
        ({"batch_id": "../../etc"}, cbp.InputError, "is not a batch id; they look like"),
        ({"batch_id": "msgbatch_\ud800"}, cbp.InputError, "is not a batch id; they look like"),
        ({"batch_id": None}, cbp.InputError, "'None' is not a batch id; they look like"),
        ({"data": pd.DataFrame({"a": [1]})}, cbp.InputError, "A frame needs template= too"),
        (
            {"data": pd.DataFrame({"a": [1]}), "template": "{b}"},
            cbp.InputError,
            "lacks: 'b'",
        ),
        ({"colour": 1}, cbp.InputError, "no argument 'colour'"),
        ({"template": 5}, cbp.InputError, "template must be text, a list of messages or a func"),
    ],
)
def test_what_cannot_be_attached_is_told_of(
    arguments: dict[str, Any],
    error: type[Exception],
    words: str,
    emulator: Emulator,
    client: Any,
    home: Path,
) -> None:
    """Nothing is written for it."""
    given = {"batch_id": send(emulator, "a"), **arguments}

    with pytest.raises(error, match=words):
        cbp.attach(**given, client=client)
    assert not home.exists() or Store(home).runs() == []


# recover


def test_a_lost_ledger_is_rebuilt_from_the_server(
    frame: pd.DataFrame, client: Any, emulator: Emulator, home: Path
) -> None:
    """Every answer comes back, and the same cell then sends nothing."""
    told = frame.claude.batch("{text}", client=client, shard_size=1)
    sent = len(emulator.batches)
    lose_ledger(home)
    out = cbp.recover(frame, "{text}", client=client).result()
    again = frame.claude.batch("{text}", client=client)

    pd.testing.assert_frame_equal(out, told)
    pd.testing.assert_frame_equal(again, told)
    assert len(emulator.batches) == sent == 3


def test_what_is_not_found_is_left_for_the_next_call(
    frame: pd.DataFrame, client: Any, emulator: Emulator, home: Path
) -> None:
    """Recovering sends nothing; the ordinary call sends only what has no answer."""
    emulator.rules = (
        Rule(outcome="errored", error_type="permission_error", contains="row 1", message="no"),
    )
    frame.claude.batch("{text}", client=client)
    lose_ledger(home)
    more = pd.concat([frame, pd.DataFrame({"text": ["new"]})])
    with pytest.warns(
        UserWarning, match=r"2 of 4 requests have no answer on the server \(batches read: 1\)"
    ):
        out = cbp.recover(more, "{text}", client=client).result()

    assert out["answer_status"].tolist() == [
        "succeeded",
        "errored",
        "succeeded",
        "skipped",
        "succeeded",
        "skipped",
    ]
    assert out["answer_error"].iloc[1] == "permission_error: no; run the cell again to ask anew"
    assert len(emulator.batches) == 1
    emulator.rules = ()
    again = more.claude.batch("{text}", client=client)
    assert [batch.total for batch in emulator.batches] == [3, 2]
    assert again["answer"].notna().tolist() == [True, True, True, False, True, True]


def test_batches_that_still_run_are_warned_of(
    frame: pd.DataFrame, connect: Connect, home: Path
) -> None:
    """What they hold cannot be seen yet, and would be paid twice."""
    emulator = Emulator(duration=0.0)
    client = connect(emulator)
    frame.iloc[:1].claude.batch("{text}", client=client)
    emulator.rules = (Rule(outcome="succeeded", delay=3600.0),)
    frame.claude.submit("{text}", client=client)
    session.crew.leave(60.0)
    lose_ledger(home)

    with pytest.warns(
        UserWarning, match="still running: 1, which cannot be seen into; call recover"
    ):
        out = cbp.recover(frame, "{text}", client=client).result()
    assert out["answer"].notna().tolist() == [True, False, True, False, False]


@pytest.mark.parametrize("path", [".*/batches", ".*/results"])
def test_a_hiccup_does_not_end_a_recovery(
    path: str, frame: pd.DataFrame, client: Any, emulator: Emulator, home: Path
) -> None:
    """What passes by itself is waited out."""
    told = frame.claude.batch("{text}", client=client)
    lose_ledger(home)
    spoil(
        emulator,
        Fault(method="GET", path=path, status=529),
        Fault(method="GET", path=path, status=500, skip=1),
    )

    pd.testing.assert_frame_equal(cbp.recover(frame, "{text}", client=client).result(), told)


def test_a_hiccup_does_not_end_an_attachment(emulator: Emulator, client: Any) -> None:
    batch_id = send(emulator, "a")
    spoil(emulator, Fault(method="GET", path=f".*/{batch_id}", status=503))

    assert len(cbp.attach(batch_id, client=client).result()) == 1


def test_foreign_results_are_left_after_their_first_line(
    frame: pd.DataFrame, client: Any, emulator: Emulator, clock: JumpingClock, home: Path
) -> None:
    """A custom_id that is not ours says enough of a colleague's batch."""
    told = frame.claude.batch("{text}", client=client)
    lose_ledger(home)
    theirs = send(emulator, "theirs")
    clock.advance(3600.0)
    # Whatever follows the first line is not looked at, not even whether it is ours.
    ours = client.messages.batches.results(emulator.batches[0].id)
    lines = b"".join(line.to_json(indent=None).encode() + b"\n" for line in ours)
    path = f".*/{theirs}/results"
    spoil(emulator, Fault(method="GET", path=path, edit=lambda body: body + lines, times=None))

    pd.testing.assert_frame_equal(cbp.recover(frame, "{text}", client=client).result(), told)
    assert cbp.runs()["name"].tolist().count("attached") == 1


def test_nothing_found_is_said(
    frame: pd.DataFrame, client: Any, emulator: Emulator, clock: JumpingClock
) -> None:
    """Another frame's batches are no answers, and nothing is attached."""
    send(emulator, "theirs")
    clock.advance(3600.0)

    with pytest.raises(cbp.RunNotFoundError, match=r"answers this frame \(batches read: 1\)"):
        cbp.recover(frame, "{text}", client=client)
    assert cbp.runs().empty


def test_what_was_attached_before_is_found_too(
    frame: pd.DataFrame, client: Any, emulator: Emulator, home: Path
) -> None:
    """A batch that was attached by hand, or by a call that was cut short, still has answers."""
    told = frame.claude.batch("{text}", client=client)
    lose_ledger(home)
    cbp.attach(emulator.batches[0].id, client=client).wait()

    pd.testing.assert_frame_equal(cbp.recover(frame, "{text}", client=client).result(), told)


def test_the_newest_good_answer_wins(
    frame: pd.DataFrame, client: Any, emulator: Emulator, home: Path
) -> None:
    """Of a request asked twice, an answer beats a failure, whichever came last."""
    first = frame.claude.batch("{text}", client=client)
    emulator.rules = (Rule(outcome="errored"),)
    frame.claude.batch("{text}", client=client, reuse=False)
    lose_ledger(home)

    pd.testing.assert_frame_equal(cbp.recover(frame, "{text}", client=client).result(), first)


def test_a_frame_changed_in_place_gets_no_wrong_answers(
    frame: pd.DataFrame, client: Any, emulator: Emulator, home: Path
) -> None:
    """The run joins to the frame as it was given."""
    told = frame.claude.batch("{text}", client=client)
    lose_ledger(home)
    run = cbp.recover(frame, "{text}", client=client)
    frame.loc[:, "text"] = frame["text"].to_numpy()[::-1]
    frame.index = pd.RangeIndex(5)

    pd.testing.assert_frame_equal(run.result(), told)


def test_a_recovery_that_was_cut_short_goes_on(
    frame: pd.DataFrame, connect: Connect, home: Path, clock: JumpingClock
) -> None:
    """A batch that was attached and not yet collected is collected by the next call."""
    emulator = Emulator(clock=clock.now, duration=60.0)
    client = connect(emulator)
    told = frame.claude.batch("{text}", client=client)
    lose_ledger(home)
    cbp.attach(emulator.batches[0].id, client=client).detach()
    Store(home).set_state(cbp.runs()["id"].iloc[0], RunState.IN_PROGRESS)

    pd.testing.assert_frame_equal(cbp.recover(frame, "{text}", client=client).result(), told)
    assert len(emulator.batches) == 1


def test_of_two_good_answers_the_newer_wins(
    frame: pd.DataFrame, client: Any, emulator: Emulator, home: Path, clock: JumpingClock
) -> None:
    """As it does in a ledger that is not lost, in whatever order the batches are found."""
    for text in ("old", "new"):
        emulator.rules = (Rule(outcome="succeeded", text=text),)
        frame.claude.batch("{text}", client=client, reuse=False)
        clock.advance(1_000.0)
    lose_ledger(home)

    out = cbp.recover(frame, "{text}", client=client).result()
    assert set(out["answer"].dropna()) == {"new"}


def test_recovering_with_a_ledger_reads_no_results(
    frame: pd.DataFrame, client: Any, emulator: Emulator
) -> None:
    """What the ledger knows is not asked of the server."""
    told = frame.claude.batch("{text}", client=client)
    calls = len(emulator.calls)
    out = cbp.recover(frame, "{text}", client=client).result()

    pd.testing.assert_frame_equal(out, told)
    assert len(emulator.calls) == calls


# keys


def test_a_rotated_key_of_the_workspace_collects(frame: pd.DataFrame, connect: Connect) -> None:
    """The workspace is what counts, not the key."""
    emulator = Emulator(duration=0.0, workspaces={"old": "one", "new": "one", "alien": "two"})
    run = frame.claude.submit("{text}", client=connect(emulator, "old"))
    session.crew.leave(60.0)
    out = cbp.run(run.id, client=connect(emulator, "new")).result(frame)
    again = frame.claude.batch("{text}", client=connect(emulator, "new"))

    assert out["answer"].notna().sum() == 4
    pd.testing.assert_frame_equal(again, out)
    assert len(emulator.batches) == 1


def test_a_key_of_another_workspace_is_told_so(
    frame: pd.DataFrame, connect: Connect, clock: JumpingClock
) -> None:
    """At once, not after the quarter of an hour that a 404 is given."""
    emulator = Emulator(duration=60.0, clock=clock.now, workspaces={"old": "one", "alien": "two"})
    run = frame.claude.submit("{text}", client=connect(emulator, "old"))
    session.crew.leave(60.0)
    began = clock.now()

    with pytest.raises(cbp.PausedError, match="key belongs to the workspace 'two', but the run to"):
        cbp.run(run.id, client=connect(emulator, "alien")).result(frame)
    assert clock.now() - began < 60
    assert cbp.run(run.id, client=connect(emulator, "old")).result(frame)["answer"].notna().any()
