"""Which requests were sent before: found again by content hash, kept in small files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_batch_pandas import catalog
from claude_batch_pandas.catalog import Catalog, Place
from claude_batch_pandas.exceptions import LedgerError
from claude_batch_pandas.ids import Ids
from claude_batch_pandas.requests import DIGEST_SIZE, custom_id
from claude_batch_pandas.spool import Spool

# Few different bytes, zeros among them at either end: what fixed-width strings get wrong.
digests = st.lists(
    st.sampled_from([b"\0", b"\1", b"\xff", b"a"]), min_size=DIGEST_SIZE, max_size=DIGEST_SIZE
).map(b"".join)
runs = st.lists(st.lists(digests, unique=True, max_size=6), max_size=4)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path)


def keep(spool: Spool, run_id: str, own: list[bytes]) -> None:
    """Write the map of a run that sent all its requests itself."""
    folder = spool.folder(run_id)
    folder.mkdir(exist_ok=True)
    references = [(0, i) for i in range(len(own))]
    catalog.save(folder, range(len(own)), b"".join(own), references)


@given(runs, st.lists(digests, max_size=8))
@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_requests_are_found_where_they_were_sent(
    spool: Spool, sent: list[list[bytes]], asked: list[bytes]
) -> None:
    """A request is found in the first run that has it, at its ordinal; others are not found."""
    names = [f"run-{i}" for i in range(len(sent))]
    for name, own in zip(names, sent, strict=True):
        keep(spool, name, own)
    found = Catalog(spool, names).find([*asked, *(digest for own in sent for digest in own)])

    def expected(digest: bytes) -> Place | None:
        places = zip(names, sent, strict=True)
        return next((Place(n, own.index(digest)) for n, own in places if digest in own), None)

    assert found == [expected(d) for d in [*asked, *(d for own in sent for d in own)]]


@given(st.lists(digests, unique=True, min_size=1, max_size=6), st.data())
@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_map_comes_back_as_it_was(spool: Spool, asked: list[bytes], data: st.DataObject) -> None:
    """Rows, hashes and references survive the disk; the run's own requests keep their ordinals."""
    is_own = data.draw(st.lists(st.booleans(), min_size=len(asked), max_size=len(asked)))
    rows = data.draw(st.lists(st.integers(-3, len(asked) - 1), max_size=10))
    own = [digest for digest, mine in zip(asked, is_own, strict=True) if mine]
    references = [
        (0, own.index(digest)) if mine else (2, 77)
        for digest, mine in zip(asked, is_own, strict=True)
    ]
    folder = spool.folder("run")
    folder.mkdir(exist_ok=True)
    catalog.save(folder, rows, b"".join(asked), references)
    found = catalog.load(folder)

    assert found.rows.tolist() == rows
    assert found.all_digests == asked
    assert [tuple(pair) for pair in found.references.tolist()] == references
    ordinals = range(len(own))
    assert [*Ids("0" * 16, 1, ordinals, found.hashes(ordinals))] == [
        custom_id("0" * 16, 1, i, digest).decode() for i, digest in enumerate(own)
    ]


def test_run_that_only_reuses_adds_nothing(spool: Spool) -> None:
    """A run without requests of its own is no source, and no reason for a warning."""
    folder = spool.folder("reuser")
    folder.mkdir()
    catalog.save(folder, [0], b"a" * 16, [(1, 5)])
    keep(spool, "sender", [b"a" * 16])

    assert Catalog(spool, ["reuser", "sender"]).find([b"a" * 16]) == [Place("sender", 0)]


def test_newer_run_wins(spool: Spool) -> None:
    """When two runs know all that is asked, the first one, the newer, is named."""
    keep(spool, "newer", [b"a" * 16, b"b" * 16])
    keep(spool, "older", [b"b" * 16, b"a" * 16])

    assert Catalog(spool, ["newer", "older"]).find([b"b" * 16]) == [Place("newer", 1)]


def test_empty_catalog_finds_nothing(spool: Spool) -> None:
    """Without runs, and without questions, there is nothing to find."""
    assert Catalog(spool, []).find([b"a" * 16]) == [None]
    assert Catalog(spool, []).find([]) == []


@pytest.mark.parametrize("damage", [b"", b"not an array", b"\x93NUMPY\x01\x00\x05\x00junk", None])
def test_damaged_run_is_told(spool: Spool, damage: bytes | None) -> None:
    """Asking again what a damaged catalog may know would pay twice, so it is an error."""
    keep(spool, "bad", [b"a" * 16])
    keep(spool, "good", [b"a" * 16])
    path = spool.folder("bad") / catalog.KNOWN
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)

    with pytest.raises(LedgerError, match=r"known.npy cannot be read .* or purge its run"):
        Catalog(spool, ["bad", "good"])


@pytest.mark.parametrize("size", [0, 5, 64, 127])
def test_map_that_cannot_be_read_is_told(spool: Spool, size: int) -> None:
    """A map that was cut short is an error of the ledger, with the file's path."""
    keep(spool, "run", [b"a" * 16])
    path = spool.folder("run") / catalog.ROWS
    path.write_bytes(path.read_bytes()[:size])

    with pytest.raises(LedgerError, match=r"rows\.npy cannot be read"):
        catalog.load(spool.folder("run"))


def test_map_that_is_missing_is_told(spool: Spool) -> None:
    """A run without a map is an error of the ledger."""
    with pytest.raises(LedgerError, match=r"rows\.npy cannot be read \(No such file"):
        catalog.load(spool.folder("nothing"))


@given(st.lists(st.integers(0, 99_999_999), unique=True, max_size=20))
@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_ordinals_of_a_shard_come_back(spool: Spool, ordinals: list[int]) -> None:
    """Which requests a shard holds survives the disk, in order."""
    catalog.save_ordinals(spool.root, 3, ordinals)

    assert catalog.load_ordinals(spool.root, 3) == ordinals


def test_ordinals_that_are_missing_are_told(spool: Spool) -> None:
    """A shard without its ordinals is an error of the ledger."""
    with pytest.raises(LedgerError, match="shard-0009"):
        catalog.load_ordinals(spool.root, 9)


@given(st.lists(digests, max_size=5), st.data())
@settings(deadline=None, max_examples=60)
def test_row_digests_follow_the_rows(known: list[bytes], data: st.DataObject) -> None:
    """Each row gives the hash of its request in order, or of the reason why it has none."""
    reasons = [bytes([i]) * 16 for i in (1, 2, 3)]
    rows = data.draw(st.lists(st.integers(-3, len(known) - 1), max_size=12))
    found = b"".join(catalog.row_digests(rows, b"".join(known), reasons))

    assert found == b"".join(known[i] if i >= 0 else reasons[-i - 1] for i in rows)


def test_row_digests_come_in_blocks() -> None:
    """A long frame's hashes come in several blocks that join to the whole."""
    rows = np.zeros(70_000, dtype=np.int32)
    found = list(catalog.row_digests(rows, b"a" * 16, []))

    assert len(found) == 2
    assert b"".join(found) == b"a" * 16 * 70_000
