"""Any bytes as a results file: none raises, hides a good line, or answers for another request."""

from __future__ import annotations

from claude_batch_pandas.results import Result, read, read_tags

GOOD = (
    b'{"custom_id":"good","result":{"type":"succeeded","message":{"id":"msg_1","type":"message",'
    b'"role":"assistant","model":"m","content":[{"type":"text","text":"yes"}],'
    b'"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":1}}}}'
)
SEEDS = (
    GOOD,
    GOOD.replace(b"yes", b"\\ud800"),
    b'{"custom_id":"a","result":{"type":"errored","error":{"error":{"type":"api_error"}}}}',
    b'{"custom_id":"a","result":{"type":"expired"}}\n{"custom_id":"b","result":{"type":"canceled"}}',
    b'{"custom_id":"a","result":{"type":"new"}}\r\n\n\xef\xbb\xbf{"custom_id":"b"}\n',
    b'{"custom_id":"a","result":' + b"[" * 2000 + b"]" * 2000 + b"}",
)


def results_of(data: bytes) -> list[tuple[str, Result]]:
    """Return every readable line of a file."""
    return [found for block in read([data]) for found in block]


def check(data: bytes) -> None:
    """Read some bytes as a results file, in one piece and line by line, beside a good line."""
    lines = data.split(b"\n")
    found = results_of(data)
    assert found == [pair for line in lines for pair in results_of(line)], "by line it differs"
    tags = [tag for block in read_tags([data]) for tag in block]
    names = [tag[0] for tag in tags if tag is not None]
    assert names == [name for name, _ in found], "the tags are of other lines"
    assert len(tags) <= len(lines), "one line became two"
    for name, result in found:
        name.encode()
        (result.text or "").encode()
        (result.error or "").encode()
    after = results_of(data + b"\n" + GOOD)
    assert after == [*found, *results_of(GOOD)], "a good line was hidden"
