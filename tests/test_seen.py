"""Requests that were seen: each has one number, whatever collides, and however many there are."""

from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from claude_batch_pandas.seen import FEWEST, Seen

# Hashes of which many begin alike, so that they want the same slot of the table.
alike = st.builds(
    lambda start, end: bytes([start, 255, 255, 255]) + bytes(11) + bytes([end]),
    st.integers(250, 255),
    st.integers(0, 5),
)


@given(st.lists(st.lists(alike | st.binary(min_size=16, max_size=16), max_size=8), max_size=8))
@settings(deadline=None, max_examples=200)
def test_numbers_are_those_of_a_dict(blocks: list[list[bytes]]) -> None:
    """In the order in which they come, twice in a block or in several."""
    seen, expected = Seen(), dict[bytes, int]()
    for block in blocks:
        for digest in block:
            expected.setdefault(digest, len(expected))
        assert seen.number(block).tolist() == [expected[digest] for digest in block]

    assert len(seen) == len(expected)
    assert bytes(seen.digests) == b"".join(expected)


def test_a_table_that_grows_loses_none() -> None:
    """Several times its first size, all are found under their first numbers."""
    digests = [hashlib.sha256(b"%d" % i).digest()[:16] for i in range(5 * FEWEST)]
    seen = Seen()
    for start in range(0, len(digests), 1_000):
        seen.number(digests[start : start + 1_000])

    assert seen.number(digests).tolist() == [*range(len(digests))]
    assert len(seen) == len(digests)
