"""What became of a POST whose answer was lost: the server's list is asked, and asked again.

`reconcile` decides; this file asks the server what the decision needs, and acts on it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from claude_batch_pandas import resending
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import APIError, PausedError
from claude_batch_pandas.holding import Hold
from claude_batch_pandas.inquiry import Inquiry, NoListError
from claude_batch_pandas.reconcile import Next, decide, longest_post
from claude_batch_pandas.records import Batch, RunRecord, Shard
from claude_batch_pandas.scopes import ANEW, check_key
from claude_batch_pandas.waits import Agenda, Waits

MOST_RESENDS = 3  # of a shard in one go; whatever swallows them needs a person
WATCHED = "a batch of the same size runs; its results will tell whether it is ours"
SHORT_SETTLE_SECONDS = 10.0  # after a 429 or 529 that says in the API's own words that it refused


@dataclass(slots=True)
class Reconciler:
    """Finds out what became of the submissions of one run.

    Parameters
    ----------
    engine : Engine
    waits : Waits
    hold : Hold
    inquiry : Inquiry
    """

    engine: Engine
    waits: Waits
    hold: Hold
    inquiry: Inquiry
    _resent: Counter[int] = field(default_factory=Counter)  # by shard, in this process

    def look(self, record: RunRecord, shard: Shard, agenda: Agenda) -> None:
        """Find out what became of a POST, here or before a crash, as far as it can be seen now.

        Raises
        ------
        PausedError
            When a person has to decide.
        APIError, LedgerError
        """
        engine, waits = self.engine, self.waits
        if agenda.unknown_since is None:
            agenda.unknown_since = waits.now
        try:
            check_key(record, engine, shard.number)
            known = engine.store.batch_ids() | agenda.rejected
            found = self.inquiry.find(record, shard, known)
        except NoListError:
            self._give_up(record, shard, agenda, _no_list(shard, agenda.refusal))
            return
        settle = min(engine.settle_seconds, SHORT_SETTLE_SECONDS if agenda.refusal else math.inf)
        decision = decide(found.batches, self._waited(shard, agenda, found.now), settle)
        match decision.next:
            case Next.INSPECT:
                self._inspect(record, shard, agenda, decision.batches)
            case Next.WATCH:
                waits.note = WATCHED
                waits.wait(agenda)
            case Next.ASK:
                self._give_up(record, shard, agenda, _cannot_tell(shard, decision.batches[0]))
            case Next.RESEND if found.is_ours and (agenda.refusal or record.cancel):
                # It is sent again as it is, or not at all; in case it was accepted, look for it.
                engine.store.mark_doubted(shard, refused=bool(agenda.refusal))
                waits.forget(shard)
            case Next.RESEND if found.is_ours and record.on_unknown != "wait":
                self._resend(record, shard, has_fence=found.has_fence)
            case _:
                waits.note = self._why(record, agenda, settle)
                waits.wait(agenda, min(agenda.pace.next(), settle / 4))

    def _give_up(self, record: RunRecord, shard: Shard, agenda: Agenda, why: str) -> None:
        """Leave to a person what cannot be found out; a run that is canceled can end without it."""
        if not record.cancel:
            raise PausedError(why)
        self.engine.store.mark_doubted(shard, refused=bool(agenda.refusal))
        self.waits.forget(shard)

    def _inspect(
        self, record: RunRecord, shard: Shard, agenda: Agenda, batches: Sequence[Batch]
    ) -> None:
        """Adopt one of some ended batches, and rule others out; what tells nothing is seen again."""
        undecided: list[str] = []
        for batch in batches:
            is_ours = self._is_ours(record, shard, batch)
            if is_ours:
                self.engine.store.mark_submitted(shard, batch)
                self.waits.wait(agenda, 0.0)
                return
            if is_ours is None:
                undecided.append(batch.id)
            else:
                agenda.rejected.add(batch.id)
        if undecided:
            self.waits.note = (
                f"batch {undecided[0]} may be ours, but its results cannot be read yet"
            )
        self.waits.wait(agenda, None if undecided else 0.0)

    def _is_ours(self, record: RunRecord, shard: Shard, batch: Batch) -> bool | None:
        """Tell whether a batch is this shard's; trouble with a stranger's batch is not ours."""
        try:
            return self.inquiry.is_ours(record, shard, batch)
        except APIError as error:
            self.waits.hush(error.retry_after)
            return None

    def _resend(self, record: RunRecord, shard: Shard, *, has_fence: bool) -> None:
        """Plan a shard again that was not accepted, as far as can be known; or ask a person."""
        lost = f"The answer to the submission of shard {shard.number} was lost, and "
        if not has_fence:
            what = "the batch that marked its place in the server's list is gone"
            if shard.fence is None:
                what = "nothing marks its place in the server's list, which it had not at that time"
            msg = (
                f"{lost}{what}, so it cannot be shown that nothing was accepted. It is not sent "
                f"again; {ANEW}."
            )
            raise PausedError(msg)
        if record.on_unknown == "ask":
            msg = (
                f"{lost}no batch of it showed up in the server's list. Run the cell with "
                'on_unknown="resend" to send it again (should it show up later, its price comes '
                'on top), or with on_unknown="wait" to look for it only.'
            )
            raise PausedError(msg)
        self._resent[shard.number] += 1
        if self._resent[shard.number] > MOST_RESENDS:
            msg = (
                f"{lost}so were those of {MOST_RESENDS} more; none became a batch. Check the "
                "network and ANTHROPIC_BASE_URL, then call again."
            )
            raise PausedError(msg)
        resending.replan(self.engine.spool, self.engine.store, record, shard)
        self.waits.forget(shard)

    def _why(self, record: RunRecord, agenda: Agenda, settle: float) -> str:
        if agenda.refusal:
            return self.hold.why
        if record.on_unknown == "wait":
            return 'not in the server\'s list; looked for, and never sent again: on_unknown="wait"'
        then = "sent again" if record.on_unknown == "resend" else "you are asked"
        return f"not in the server's list; {then} if it stays away for {settle:.0f} s"

    def _waited(self, shard: Shard, agenda: Agenda, now: float | None) -> float:
        """Return for how many seconds, at least, the POST has been over.

        The process that sent it knows by its own clock. After a crash the server's clock tells
        when the intent was made, and the longest time that a POST is given is taken off.
        """
        assert agenda.unknown_since is not None, "set when the reconciling began"
        here = self.waits.now - agenda.unknown_since
        if agenda.was_sent_here or now is None or shard.intended_at is None:
            return here
        return max(here, now - shard.intended_at - longest_post(shard.size))


def _cannot_tell(shard: Shard, batch: Batch) -> str:
    return (
        f"The answer to the submission of shard {shard.number} was lost, and batch {batch.id} may "
        "be what it became; but its results are gone from the server, which keeps them for 29 "
        f"days, so nobody can tell. It is not sent again; {ANEW}."
    )


def _no_list(shard: Shard, refusal: str) -> str:
    told = f"was: {refusal} But" if refusal else "was lost, and"
    return (
        f"The answer to the submission of shard {shard.number} {told} this server has no list of "
        f"batches to look for it in. It may have been accepted, so it is not sent again; {ANEW}."
    )
