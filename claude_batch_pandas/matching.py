"""Which rows of a frame a run has answered: by what they ask, never by where they stand.

The rows are rendered again and found by content hash, so a frame that was edited, reordered or
extended since gets each row's own answer, and no row gets another's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

from claude_batch_pandas import attaching, catalog, histories, locks
from claude_batch_pandas.answers import Answers
from claude_batch_pandas.causes import has_answer
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import ChangedFrameError, InputError
from claude_batch_pandas.knowledge import Knowledge
from claude_batch_pandas.preparing import prepare
from claude_batch_pandas.records import RowStatus, RunRecord, RunState
from claude_batch_pandas.rendered import Reason, Rendered
from claude_batch_pandas.rendering import Recipe, Renders
from claude_batch_pandas.requests import DIGEST_SIZE
from claude_batch_pandas.results import UNREADABLE, Result
from claude_batch_pandas.slots import History
from claude_batch_pandas.uploads import Uploads
from claude_batch_pandas.votes import Ballot, counted


class Matched(NamedTuple):
    """What the rows of a frame ask of a run.

    Attributes
    ----------
    places : list of (int or Reason)
        The unique request of each row, or why it has none; of each vote, where there are several.
    unasked : list of int
        Which of them ask what the run did not.
    asking : int
        How many ask anything.
    votes : int
        Per row.
    ballot : callable
        What two votes share that say the same.
    warning : str
        What to say about the rows that the run did not ask; empty when there are none.
    """

    places: list[int | Reason]
    unasked: list[int]
    asking: int
    warning: str = ""
    votes: int = 1
    ballot: Ballot = repr
    digests: Mapping[int, bytes] = MappingProxyType({})  # whole content hashes by request

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Rows that ask what the run did not, that ask anything, all; and where the first is."""
        votes, first = self.votes, next(iter(self.unasked), 0)
        unasked = -(-len(self.unasked) // votes)
        return unasked, self.asking // votes, len(self.places) // votes, first // votes

    def winners(self, answers: Sequence[Result]) -> list[int | Reason]:
        """Return the request of each row that gave its answer, or why it has none."""
        rows = [self.places[i : i + self.votes] for i in range(0, len(self.places), self.votes)]
        winners = self.results(answers)
        return [
            next((p for p in row if isinstance(p, int) and _says(answers[p], winner)), row[0])
            for row, winner in zip(rows, winners, strict=True)
        ]

    def refusing(self, blocks: Iterable[Rendered]) -> Matched:
        """Return it with the reasons of rows that were not asked because their model refuses."""
        places, unasked, start = list(self.places), set(self.unasked), 0
        for block in blocks:
            for i, reason in block.reasons.items():
                if start + i in unasked:
                    places[start + i] = reason
                    unasked.discard(start + i)
            start += len(block)
        gone = len(self.unasked) - len(unasked)
        return self._replace(places=places, unasked=sorted(unasked), asking=self.asking - gone)

    def results(self, answers: Sequence[Result]) -> list[Result]:
        """Return one result per row from those of the unique requests."""
        each = [
            answers[place] if isinstance(place, int) else Result(place.status, error=place.why)
            for place in self.places
        ]
        return counted(each, self.votes, self.ballot)


def _says(answer: Result, winner: Result) -> bool:
    """Tell whether an answer is the winner among the votes of its row."""
    return (answer.status, answer.text, answer.value) == (winner.status, winner.text, winner.value)


class Matcher:
    """Finds the rows of frames among what one run asked.

    Parameters
    ----------
    record : RunRecord
    engine : Engine
    asked : Recipe or None
        What was asked of every row; None when only the ledger knows it.

    Raises
    ------
    InputError
        When what was asked is not known.
    """

    def __init__(self, record: RunRecord, engine: Engine, asked: Recipe | None) -> None:
        self._record, self._engine = record, engine
        self._recipe = asked or _kept_recipe(record, engine)
        # Of an attached run that goes on: its custom_ids are seen in its results only.
        self._is_early = record.attached and record.state is not RunState.ENDED
        self._size = attaching.HASH_BYTES if record.attached else DIGEST_SIZE
        digests = [] if self._is_early else engine.reader().map(record.id).all_digests
        self._requests = {
            digest[: self._size]: i
            for i, digest in enumerate(digests)
            if digest != attaching.NO_DIGEST
        }
        self._unread = 0  # results of which not even the custom_id could be read
        if record.attached and not self._is_early:
            self._unread = digests.count(attaching.NO_DIGEST) - _foreign(record, engine)

    def find(self, df: Any) -> Matched:
        """Find the rows of a frame or Series, whether or not any of them was asked."""
        record, engine = self._record, self._engine
        history, recipe = history_of(df, self._recipe, engine)
        send = Uploads(lambda: engine, record.scope)
        # What was sent was not refused, whatever is known of the model by now.
        renderer = prepare(df, replace(recipe, force=True), send=send, history=history)
        if self._is_early:
            return match(renderer, {}, DIGEST_SIZE, Reason(RowStatus.PROCESSING, "no result yet"))
        why = f"run {record.id} did not ask this: the row is new or was edited"
        stranger = Reason(RowStatus.SKIPPED, why)
        if self._unread:
            stranger = Reason(RowStatus.ERRORED, UNREADABLE)
        matched = match(renderer, self._requests, self._size, stranger)
        if matched.unasked and not recipe.force:
            know = Knowledge(lambda: engine, record.scope.origin)
            checked = prepare(df, recipe, know, send, history)
            matched = matched.refusing(checked.blocks())
        return matched

    def check(self, unasked: int, asking: int, rows: int, first: int) -> str:
        """Return what to say about rows that the run did not ask; empty when there are none.

        Parameters
        ----------
        unasked, asking, rows : int
            Rows that ask what the run did not; that ask anything; all of them.
        first : int
            The position of the first one that the run did not ask.

        Raises
        ------
        ChangedFrameError
            When no row asks what the run did.
        """
        record = self._record
        if not unasked or self._is_early:
            return ""
        if self._unread:
            return (
                f"{self._unread:,} results of run {record.id} cannot be read, and {unasked:,} of "
                f"{rows:,} rows have none: they may have been paid. Asking them again may pay twice."
            )
        if not self._requests and record.attached:
            msg = (
                f"The custom_ids of run {record.id} are not ours, so they do not tell rows. Call "
                f"claude_batch_pandas.run({record.id!r}).result() for a frame indexed by custom_id."
            )
            raise ChangedFrameError(msg)
        if unasked == asking:
            msg = (
                f"No row of this frame asks what run {record.id} sent ({rows:,} rows here, "
                f"{record.rows:,} there). Pass the frame that was sent, call result() without one, "
                "or run the cell again: only what is new is sent."
            )
            raise ChangedFrameError(msg)
        return (
            f"{unasked:,} of {rows:,} rows ask what run {record.id} did not, the first at position "
            f"{first}; they are skipped here. Run the cell again to ask them: only what is new is "
            "sent."
        )


def match_frame(df: Any, record: RunRecord, engine: Engine, asked: Recipe | None) -> Matched:
    """Find the rows of a frame among what a run asked.

    Parameters
    ----------
    df : pandas.DataFrame or pandas.Series
    record : RunRecord
    engine : Engine
    asked : Recipe or None
        As of a `Matcher`.

    Raises
    ------
    ChangedFrameError
        When no row asks what the run did.
    InputError
        When what was asked is not known.
    """
    matcher = Matcher(record, engine, asked)
    matched = matcher.find(df)
    return matched._replace(warning=matcher.check(*matched.counts))


def history_of(df: Any, recipe: Recipe, engine: Engine) -> tuple[History | None, Recipe]:
    """Return what was said before in the conversation of each row, and the recipe that goes on.

    Rows are found in the earlier run by what they asked there, never by where they stand.

    Parameters
    ----------
    df : pandas.DataFrame or pandas.Series
    recipe : Recipe
    engine : Engine

    Raises
    ------
    InputError
        When the earlier run is not over, or its requests are not on this disk.
    ChangedFrameError
        When the frame shares no row with it.
    """
    if not recipe.history:
        return None, recipe
    record = engine.store.run(recipe.history)
    histories.check_history(record)
    matched = match_frame(df, record, engine, recipe.earlier)
    places = matched.winners(engine.reader().of_requests(record).results)
    said = histories.said_in(record, engine, {i for i in places if isinstance(i, int)})
    parts = [place if isinstance(place, Reason) else said[place] for place in places]
    if recipe.system is None:  # the conversation goes on as it began
        earlier = recipe.earlier or engine.reader().recipe(record.id)
        recipe = replace(recipe, system=earlier.system)
    return History(parts), recipe


def match(
    renderer: Renders,
    requests: Mapping[bytes, int],
    size: int,
    stranger: Reason,
) -> Matched:
    """Find the rows of a frame among requests.

    Parameters
    ----------
    renderer : Renders
        Over the frame.
    requests : mapping of bytes to int
        Content hash -> unique request.
    size : int
        Bytes of a content hash that are known.
    stranger : Reason
        Why a row that is not among them has no answer.
    """
    places: list[int | Reason] = []
    unasked: list[int] = []
    digests: dict[int, bytes] = {}
    asking = 0
    for block in renderer.blocks():
        for i, digest in enumerate(block.digests):
            if i in block.reasons or digest is None:
                places.append(block.reasons[i])
                continue
            asking += 1
            place = requests.get(digest[:size])
            if place is None:
                unasked.append(len(places))
            else:
                digests[place] = digest
            places.append(stranger if place is None else place)
    output = renderer.recipe.output
    return Matched(
        places,
        unasked,
        asking,
        votes=output.votes,
        ballot=output.ballot,
        digests=digests,
    )


def keep_digests(record: RunRecord, engine: Engine, matched: Matched, answers: Answers) -> None:
    """Let the ordinary call reuse the answers of an attached run that a frame was found to ask."""
    good = {i: digest for i, digest in matched.digests.items() if has_answer(answers.results[i])}
    with locks.held(engine.store.home / locks.PLANNING):
        attaching.complete(engine.spool.folder(record.id), good)


def _kept_recipe(record: RunRecord, engine: Engine) -> Recipe:
    """Read what was asked of every row; a function is known only where the call was made."""
    recipe = engine.reader().recipe(record.id)
    if recipe.template is not None:
        return recipe
    if record.attached:
        msg = f"Run {record.id} was attached without template=; attach it with one to join a frame."
        raise InputError(msg)
    msg = (
        f"The template of run {record.id} was a function, which is not kept on disk. Run the same "
        "cell again (it sends nothing twice), or call result() without a frame."
    )
    raise InputError(msg)


def _foreign(record: RunRecord, engine: Engine) -> int:
    """Return how many requests of an attached run have custom_ids that are not ours."""
    names = catalog.load_ids(engine.spool.folder(record.id), 0)
    return sum(name is not None and not attaching.known_hash(name) for name in names)
