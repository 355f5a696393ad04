"""The same question several times: each answer is a vote, and the row gets what most say. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence

from claude_batch_pandas.records import RowStatus
from claude_batch_pandas.rendered import Rendered
from claude_batch_pandas.requests import DIGEST_SIZE
from claude_batch_pandas.results import Result


def replicated(block: Rendered, votes: int) -> Rendered:
    """Return a block in which every row asks `votes` times, one time after the other.

    The number of the replica is part of the content hash, so that they are not taken for the same
    request; the first has the hash of a row that is asked once, whose answer it may reuse.
    """
    if votes == 1:
        return block
    digests = [
        None if digest is None else replica(digest, k)
        for digest in block.digests
        for k in range(votes)
    ]
    tails = [tail for tail in block.tails for _ in range(votes)]
    reasons = {i * votes + k: reason for i, reason in block.reasons.items() for k in range(votes)}
    return Rendered(tails, digests, reasons)


def replica(digest: bytes, k: int) -> bytes:
    """Return the content hash of a request that is asked once more, for the k-th time."""
    if k == 0:
        return digest
    return hashlib.sha256(b"%b replica %d" % (digest, k)).digest()[:DIGEST_SIZE]


Ballot = Callable[[Result], str]  # what two answers share that say the same


def counted(results: Sequence[Result], votes: int, ballot: Ballot) -> list[Result]:
    """Return one result per row: the first of those that agree with most.

    Parameters
    ----------
    results : sequence of Result
        `votes` per row, one row after the other.
    votes : int
    ballot : callable
        Of an output.

    Returns
    -------
    list of Result
        With the winner's share of the row's votes as its `agreement`: a refusal agrees with none,
        and what is still to come does not count yet.
    """
    if votes == 1:
        return list(results)
    starts = range(0, len(results), votes)
    return [_winner(results[i : i + votes], ballot) for i in starts]


def _winner(results: Sequence[Result], ballot: Ballot) -> Result:
    answers = [result for result in results if result.status is RowStatus.SUCCEEDED]
    waiting = [result for result in results if result.status is RowStatus.PROCESSING]
    if not answers:
        return (waiting or list(results))[0]
    keys = [ballot(result) for result in answers]
    key, count = Counter(keys).most_common(1)[0]  # of equals, the one that was seen first
    return answers[keys.index(key)].with_agreement(count / (len(results) - len(waiting)))
