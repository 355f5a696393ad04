"""The results of an ended batch -> a verified file in the spool.

The raw bytes are kept first and believed later: every custom_id of the shard must be there exactly
once, readable, the counts must match, and the last byte must be a newline. A file that fails is
downloaded again, three times in all; what is still missing then costs those rows and no others.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from claude_batch_pandas.client import Client
from claude_batch_pandas.columns import Builder, Part, Places
from claude_batch_pandas.exceptions import LedgerError
from claude_batch_pandas.ids import Ids
from claude_batch_pandas.lines import lines_of
from claude_batch_pandas.outputs import Output
from claude_batch_pandas.records import Batch, Shard
from claude_batch_pandas.results import read_block, read_tags
from claude_batch_pandas.spool import PART, Writing, move, read_blocks, read_line_blocks

MAX_DOWNLOADS = 3
ARCHIVED = "its results are gone from the server"
COUNTED = ("succeeded", "errored", "canceled", "expired")


@dataclass(frozen=True, slots=True)
class Check:
    """What is wrong with a results file.

    Attributes
    ----------
    readable : int
        Requests of the shard with exactly one readable result.
    problem : str
        Empty when the file is whole.
    places : array of int64, shape (lines,), or None
        The request of each line, where there is one for each.
    """

    readable: int
    problem: str
    places: Places | None = field(default=None, compare=False)


class Collected(NamedTuple):
    """A results file in the spool; if it is whole, with what it says."""

    sha256: str
    complete: bool
    problem: str
    part: Part | None = None


def collect(
    client: Client,
    batch: Batch,
    shard: Shard,
    expected: Ids | None,
    path: Path,
    output: Output,
) -> Collected:
    """Download the results of a batch to `path`, and check them.

    Parameters
    ----------
    client : Client
    batch : Batch
        Ended.
    shard : Shard
    expected : Ids or None
        None where only the number of custom_ids is known.
    path : Path
        Of the results in the spool.
    output : Output
        What the answers are read as.

    Raises
    ------
    APIError
        When the download breaks; nothing is kept, call again.
    LedgerError
    """
    aside = path.with_name(f"{path.name}.best{PART}")  # the best of those that are not whole
    best: Collected | None = None
    readable = -1
    try:
        for _ in range(MAX_DOWNLOADS):
            with Writing(path) as file:
                if not batch.archived:
                    total = batch.counts.total if expected is None else len(expected)
                    for block in client.download(_id(shard), total):
                        file.write(block)
                lines = _read(file.temporary, output)
                check = verify(file.temporary, lines, expected, batch)
                if not check.problem:
                    sha256 = file.keep()
                    part = None if check.places is None else lines.part(check.places)
                    return Collected(sha256, True, "", part)
                if check.readable > readable:
                    readable = check.readable
                    best = Collected(file.keep(aside), False, check.problem)
            if batch.archived:
                break
        assert best is not None, "the first download was kept"
        move(aside, path)
    finally:
        with contextlib.suppress(OSError):  # the next driver deletes it
            aside.unlink(missing_ok=True)
    return best._replace(problem=ARCHIVED) if batch.archived else best


def _read(path: Path, output: Output) -> Builder:
    """Read a results file, at least as texts: what was paid is kept, whatever it should be."""
    try:
        return read(path, output)
    except LedgerError:
        raise
    except Exception:  # noqa: BLE001 - of a user's types; whoever asks for the rows is told
        return read(path, Output(output.name))


def read(path: Path, output: Output) -> Builder:
    """Read a results file once, for all that is asked of it."""
    lines = Builder(output)
    for block in read_line_blocks(path):
        lines.add(read_block(block), len(block))
    lines.flush()
    return lines


def verify(path: Path, lines: Builder, expected: Ids | None, batch: Batch) -> Check:
    """Check a results file against what was sent, as far as known, and what the API counted."""
    places = None if expected is None else lines.places(expected)
    if places is not None:  # as nearly always
        return Check(len(places), _doubt(path, lines.kinds, batch), places)
    tags = [*zip(lines.names, lines.kinds, strict=True)]
    ours = tags
    if expected is not None:
        ours = [tag for tag in tags if tag[0] in expected]
    foreign = len(tags) - len(ours)
    seen = Counter([name for name, _ in ours])
    if len(ours) > len(seen):
        ours = _without_echoes(path, ours)
        seen = Counter([name for name, _ in ours])
    total = batch.counts.total if expected is None else len(expected)
    readable = sum(times == 1 for times in seen.values())
    problems = {
        "unreadable": lines.unreadable,
        "foreign": foreign,
        "repeated": len(seen) - readable,
        "missing": max(0, total - len(seen)),
    }
    told = [f"{count} {what}" for what, count in problems.items() if count]
    return Check(readable, ", ".join(told) or _doubt(path, [kind for _, kind in ours], batch))


def _without_echoes(path: Path, tags: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return tags with lines that stand twice, byte for byte, counted once."""
    times = Counter(name for name, _ in tags)
    lines: dict[str, set[bytes]] = {}
    for line in lines_of(read_blocks(path)):
        for tag in chain.from_iterable(read_tags([line])):
            if tag is not None and times[tag[0]] > 1:
                lines.setdefault(tag[0], set()).add(hashlib.sha256(line).digest())
    echoes = {name for name, different in lines.items() if len(different) == 1}
    once = {name: (name, kind) for name, kind in tags if name in echoes}
    return [tag for tag in tags if tag[0] not in echoes] + list(once.values())


def _doubt(path: Path, types: Iterable[str], batch: Batch) -> str:
    """Return why a file that holds every request once may not be whole all the same."""
    if not _ends_with_newline(path):
        return "no newline at the end"
    times = Counter(types)
    if not times.keys() <= set(COUNTED):  # a result type that nobody counts yet
        return ""
    if any(times[name] != getattr(batch.counts, name) for name in COUNTED):
        return "counts that differ from request_counts"
    return ""


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        if not file.seek(0, 2):
            return False
        file.seek(-1, 2)
        return file.read(1) == b"\n"


def _id(shard: Shard) -> str:
    assert shard.batch_id is not None, "only a submitted shard has results"
    return shard.batch_id
