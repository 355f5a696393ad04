"""What was said in a run that is over: its requests and answers, for conversations that go on."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any

import orjson

from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.records import RowStatus, RunRecord, RunState, ShardState
from claude_batch_pandas.rendered import Reason
from claude_batch_pandas.requests import ORDINAL
from claude_batch_pandas.resending import latest_lines
from claude_batch_pandas.spool import read_lines

THINKING = frozenset({"thinking", "redacted_thinking"})  # of a turn that is over; need not go back
UNANSWERED = Reason(RowStatus.SKIPPED, "the run in history= has no full answer for this row")
CALLED = Reason(
    RowStatus.SKIPPED, "the answer in history= calls a tool, and nobody answered the call"
)


def check_history(record: RunRecord) -> None:
    """Refuse to go on from a run that is not over, or whose requests are gone.

    Raises
    ------
    InputError
    """
    if record.state is not RunState.ENDED:
        msg = (
            f"Run {record.id}, given as history=, is not over (it is {record.state}). Wait for it: "
            "run.wait()."
        )
        raise InputError(msg)
    _check_requests(record)


def _check_requests(record: RunRecord) -> None:
    if record.attached or not record.keep_requests:
        msg = (
            f"Run {record.id}, given as history=, has no requests on this disk, so its "
            "conversations cannot go on."
        )
        raise InputError(msg)


def said_in(record: RunRecord, engine: Engine, wanted: Iterable[int]) -> dict[int, bytes | Reason]:
    """Return what was said in some conversations of a run, as JSON without the brackets.

    Parameters
    ----------
    record : RunRecord
    engine : Engine
    wanted : iterable of int
        Unique requests.

    Raises
    ------
    InputError, LedgerError
    """
    reader = engine.reader()
    references = reader.map(record.id).references.tolist()
    runs = (record.id, *record.sources)
    by_run: dict[str, dict[int, int]] = {}
    for i in wanted:
        source, ordinal = references[i]
        by_run.setdefault(runs[source], {})[ordinal] = i
    said: dict[int, bytes | Reason] = {}
    for run_id, places in by_run.items():
        if engine.store.run(run_id).state is RunState.PURGED:  # and its answers with it
            said |= dict.fromkeys(places.values(), UNANSWERED)
            continue
        _check_requests(engine.store.run(run_id))
        asked = _asked(engine, run_id, places)
        contents = contents_of(engine, run_id, places)
        for ordinal, i in places.items():
            said[i] = _turns(asked[ordinal], contents.get(ordinal))
    results = reader.of_requests(record).results
    return {
        i: turns if results[i].status is RowStatus.SUCCEEDED else UNANSWERED
        for i, turns in said.items()
    }


def _asked(engine: Engine, run_id: str, places: Iterable[int]) -> dict[int, list[Any]]:
    """Return the messages of some of a run's own requests, as they were last sent."""
    store = engine.store
    lines = latest_lines(engine.spool, store.run(run_id), store.shards(run_id), frozenset(places))
    return {ordinal: json.loads(line)["params"]["messages"] for ordinal, line in lines.items()}


def contents_of(engine: Engine, run_id: str, places: Collection[int]) -> dict[int, Any]:
    """Return the contents of some answers of a run by ordinal, the latest attempt's.

    Raises
    ------
    LedgerError
    """
    contents: dict[int, Any] = {}
    for shard in engine.store.shards(run_id):
        if shard.state is not ShardState.COLLECTED:
            continue
        for line in read_lines(engine.spool.results(run_id, shard.number)):
            ordinal, content = _answer(line)
            if ordinal in places and content is not None:
                contents[ordinal] = content
    return contents


def _answer(line: bytes) -> tuple[int, Any]:
    try:
        value = orjson.loads(line)
        return int(value["custom_id"][ORDINAL]), value["result"]["message"]["content"]
    except (ValueError, KeyError, TypeError, IndexError):
        return -1, None


def _turns(asked: list[Any], content: Any) -> bytes | Reason:
    """Return a conversation with its last answer, as JSON without the brackets."""
    blocks = [block for block in content or [] if block.get("type") not in THINKING]
    if any(block.get("type") == "tool_use" for block in blocks):
        return CALLED
    kept = [
        {"type": "text", "text": block["text"]} if block.get("type") == "text" else block
        for block in blocks
        if block.get("type") != "text" or block.get("text", "").strip()
    ]
    if not kept:
        return UNANSWERED
    whole = [*asked, {"role": "assistant", "content": kept}]
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":"))[1:-1].encode()
