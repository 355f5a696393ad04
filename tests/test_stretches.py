"""Requests that follow each other: their lines, and the bytes that are joined without them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from claude_batch_pandas.requests import DIGEST_SIZE, MAX_ATTEMPTS, custom_id
from claude_batch_pandas.stretches import Stretch

NONCE = "0123456789abcdef"

attempts = st.integers(1, MAX_ATTEMPTS)
heads = st.sampled_from([b"", b'{"model":"a","messages":['])
digests = st.binary(min_size=DIGEST_SIZE, max_size=DIGEST_SIZE)
requests = st.dictionaries(digests, st.binary(max_size=9), max_size=6)


def written(attempt: int, first: int, head: bytes, asked: dict[bytes, bytes]) -> list[bytes]:
    """Return request lines, each written by hand."""
    return [
        b'{"custom_id":"%b","params":%b%b}'
        % (custom_id(NONCE, attempt, first + i, digest), head, tail)
        for i, (digest, tail) in enumerate(asked.items())
    ]


@given(attempts, st.integers(0, 99_999_990), heads, requests, st.slices(6))
@settings(deadline=None, max_examples=200)
def test_lines_are_numbered_from_the_first(
    attempt: int, first: int, head: bytes, asked: dict[bytes, bytes], part: slice
) -> None:
    """One by one, in a loop, joined or in part: each with the hash of its own content."""
    found = Stretch.of(NONCE, attempt, first, head, asked)
    lines = written(attempt, first, head, asked)

    assert [*found] == lines
    assert [found[i] for i in range(len(found))] == lines
    for some, its in ((found, lines), (found[part], lines[part])):
        assert len(some) == len(its)
        assert [*some] == its
        assert some.sizes == [*map(len, its)]
        assert some.join(b",\n") == b",\n".join(its)
