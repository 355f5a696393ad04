"""Was a submission accepted? Adopt, wait, or send again; never blindly."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from claude_batch_pandas.reconcile import FENCE_MARGIN, Next, candidates, decide, longest_post
from claude_batch_pandas.records import Batch, Counts, Shard

SHARD = Shard(run_id="r", number=0, attempt=1, total=10, size=1, sha256="", intended_at=1_000_000.0)
BATCH = Batch(
    id="msgbatch_1",
    processing_status="in_progress",
    counts=Counts(processing=10),
    created_at=1_000_001.0,
    expires_at=1_086_401.0,
)
ENDED = replace(BATCH, id="msgbatch_2", processing_status="ended", counts=Counts(succeeded=10))

batches = st.builds(
    Batch,
    id=st.sampled_from(["a", "b", "c"]),
    processing_status=st.sampled_from(["in_progress", "canceling", "ended"]),
    counts=st.builds(
        Counts, processing=st.integers(0, 10), succeeded=st.integers(0, 10), errored=st.just(2)
    ),
    created_at=st.floats(990_000, 1_010_000),
    expires_at=st.just(1e9),
)


def test_a_larger_body_is_given_more_time() -> None:
    """Even the largest: at 400 kilobits a second it takes 80 minutes."""
    assert longest_post(250_000_000) >= 80 * 60
    assert longest_post(0) >= 60


def test_same_total_is_a_candidate() -> None:
    """A batch with as many requests may be ours, whatever became of them."""
    other = replace(BATCH, counts=Counts(processing=11))

    assert candidates(SHARD, [BATCH, other, ENDED], (), has_fence=True) == [BATCH, ENDED]


def test_batch_known_to_be_another_is_none() -> None:
    """A batch of another shard or run is never adopted."""
    assert candidates(SHARD, [BATCH, ENDED], {"msgbatch_1"}, has_fence=True) == [ENDED]


def test_without_a_fence_time_decides() -> None:
    """When the fence is gone, batches from well before the intent are not candidates."""
    early = replace(BATCH, created_at=1_000_000.0 - FENCE_MARGIN - 1)
    edge = replace(BATCH, created_at=1_000_000.0 - FENCE_MARGIN)

    assert candidates(SHARD, [early, edge, BATCH], (), has_fence=False) == [edge, BATCH]
    assert candidates(SHARD, [early], (), has_fence=True) == [early]


def test_unknown_intent_time_rules_nothing_out() -> None:
    """Without a time of the intent every batch of the total stays a candidate."""
    shard = replace(SHARD, intended_at=None)

    assert candidates(shard, [BATCH], (), has_fence=False) == [BATCH]


@given(st.lists(batches, max_size=5), st.sets(st.sampled_from(["a", "b", "c"])), st.booleans())
@settings(deadline=None, max_examples=100)
def test_candidates_could_all_be_ours(
    listed: list[Batch], owned: set[str], has_fence: bool
) -> None:
    """No candidate has another total or a known owner, and the list's order is kept."""
    found = candidates(SHARD, listed, owned, has_fence=has_fence)

    assert all(batch.counts.total == 10 and batch.id not in owned for batch in found)
    assert found == [batch for batch in listed if batch in found]


def test_ended_candidate_is_inspected_first() -> None:
    """A candidate that has ended can be recognised for certain, so it is looked at first."""
    assert decide([BATCH, ENDED], 0.0, 900.0) == (Next.INSPECT, [ENDED])


def test_running_candidate_is_watched_for_ever() -> None:
    """A candidate that still runs is waited for, however long it takes, never sent again."""
    assert decide([BATCH], 0.0, 900.0) == (Next.WATCH, [BATCH])
    assert decide([BATCH], 1e9, 900.0) == (Next.WATCH, [BATCH])


def test_a_candidate_whose_results_are_gone_leaves_it_to_a_person() -> None:
    """It can neither be recognised nor ruled out; as long as another one can, that is done."""
    gone = replace(ENDED, id="msgbatch_3", archived=True)

    assert decide([gone], 1e9, 900.0) == (Next.ASK, [gone])
    assert decide([gone, BATCH], 1e9, 900.0) == (Next.WATCH, [BATCH])
    assert decide([gone, BATCH, ENDED], 1e9, 900.0) == (Next.INSPECT, [ENDED])


def test_nothing_found_is_sent_again_only_after_settling() -> None:
    """Without a candidate, sending again waits until a batch must have shown up."""
    assert decide([], 899.9, 900.0) == (Next.WAIT, ())
    assert decide([], 900.0, 900.0) == (Next.RESEND, ())


@given(st.lists(batches, max_size=4), st.floats(0, 1e6), st.floats(0.001, 1e5))
@settings(deadline=None, max_examples=100)
def test_never_sent_again_while_a_candidate_exists(
    found: list[Batch], waited: float, settle: float
) -> None:
    """A shard is sent again only when nothing could be it and the time is over."""
    decision = decide(found, waited, settle)

    assert (decision.next is Next.RESEND) == (not found and waited >= settle)
    assert bool(decision.batches) == bool(found)
