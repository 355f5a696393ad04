"""Planning: every row that can be sent is in exactly one shard, as the bytes that go out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_batch_pandas import catalog
from claude_batch_pandas.catalog import Catalog
from claude_batch_pandas.exceptions import APIError, InputError, LedgerError, MissingValueError
from claude_batch_pandas.frames import Source
from claude_batch_pandas.planning import INDEX, NO_SCOPE, Draft, Planner
from claude_batch_pandas.records import RunRecord, Scope, Shard
from claude_batch_pandas.rendering import Recipe, Renderer
from claude_batch_pandas.requests import CUSTOM_ID, MAX_REQUESTS
from claude_batch_pandas.sharding import MAX_BATCH_BYTES, PLANNED_BYTES
from claude_batch_pandas.spool import Spool, read_sealed
from tests.strategies import texts

SCOPE = Scope("https://api.example", "org_1", "wrkspc_1")
PARAMS = {"model": "claude-haiku-5-5", "max_tokens": 64}
NONCE = "0123456789abcdef"


def planner_of(
    spool: Spool,
    rows: Sequence[Any],
    *,
    known: Sequence[str] = (),
    scope: Scope = SCOPE,
    shard_size: int | None = None,
    params: dict[str, Any] | None = None,
    template: Any = "{text}",
    on_missing: str = "skip",
    betas: tuple[str, ...] = (),
    **record: Any,
) -> Planner:
    """Return a planner over one column of texts, that knows the runs it is told."""
    frame = pd.DataFrame({"text": pd.Series(list(rows), dtype=object)})
    recipe = Recipe(template=template, params=params or PARAMS, on_missing=on_missing, betas=betas)
    plain: dict[str, Any] = {
        "id": "r",
        "name": "answer",
        "key": "",
        "scope": NO_SCOPE,
        "nonce": NONCE,
        "model": "m",
        "output": "answer",
        "rows": 0,
        "requests": 0,
        "created_at": 0.0,
    }
    renderer = Renderer(Source(frame), recipe)
    return Planner(
        renderer,
        renderer.blocks(),
        spool,
        RunRecord(**(plain | record)),
        lambda: (scope, Catalog(spool, known)),
        shard_size,
    )


def plan(spool: Spool, rows: Sequence[Any], **options: Any) -> Draft:
    """Plan a run over one column of texts and give its folder the final name."""
    draft = planner_of(spool, rows, **options).plan()
    spool.publish(draft.record.id)
    return draft


def read_body(spool: Spool, shard: Shard) -> list[dict[str, Any]]:
    """Return the requests of a shard's body."""
    value = json.loads(spool.body(shard.run_id, shard.number).read_bytes())
    assert list(value) == ["requests"]
    requests: list[dict[str, Any]] = value["requests"]
    return requests


def prompts(spool: Spool, draft: Draft) -> list[str]:
    """Return what the shards of a run ask, in order."""
    return [
        request["params"]["messages"][0]["content"]
        for shard in draft.shards
        for request in read_body(spool, shard)
    ]


@pytest.fixture
def spool(home: Path) -> Spool:
    return Spool(home)


cells = st.one_of(
    st.sampled_from(["a", "b", "c", "", " \n", 'quote " and \\ and {braces}']),
    st.none(),
    texts,
)


@given(st.lists(cells, max_size=25), st.none() | st.integers(1, 6))
@settings(deadline=None, max_examples=40)
def test_every_row_is_in_exactly_one_shard(rows: list[str | None], size: int | None) -> None:
    """Each sendable text is one request, once; rows that share it point at it; the rest says why."""
    wanted = list(dict.fromkeys(row for row in rows if row is not None and row.strip()))
    with TemporaryDirectory() as folder:
        spool = Spool(Path(folder))
        draft = plan(spool, rows, shard_size=size)
        record = draft.record
        asked = catalog.load(spool.folder("r"))
        reasons = catalog.load_reasons(spool.folder("r"))
        seen: list[int] = []
        for shard in draft.shards:
            body = spool.body("r", shard.number).read_bytes()
            requests = read_body(spool, shard)
            ordinals = catalog.load_ordinals(spool.folder("r"), shard.number)
            parts = [CUSTOM_ID.fullmatch(request["custom_id"].encode()) for request in requests]
            found = [part.groups() for part in parts if part]

            assert (shard.size, shard.sha256) == (len(body), hashlib.sha256(body).hexdigest())
            assert shard.total == len(requests) == len(ordinals)
            assert shard.total <= (size or 500)
            assert {part[:2] for part in found} == {(NONCE.encode(), b"01")}
            assert [int(part[2]) for part in found] == ordinals
            hashes = asked.hashes(ordinals)
            assert b"".join(part[3] for part in found) == hashes.tobytes()
            for request, ordinal in zip(requests, ordinals, strict=True):
                content = wanted[ordinal]
                message = {"role": "user", "content": content}
                assert request["params"] == {**PARAMS, "messages": [message]}
            seen += ordinals
        rest = sorted(path.name for path in Path(folder, "runs").iterdir())

    assert rest == ["r"]
    assert seen == list(range(len(wanted)))
    assert [shard.number for shard in draft.shards] == list(range(len(draft.shards)))
    assert (record.rows, record.requests) == (len(rows), len(wanted))
    assert len(asked.rows) == len(rows)
    for row, at in zip(rows, asked.rows.tolist(), strict=True):
        if at >= 0:
            assert row == wanted[at]
        else:
            why = "the rendered text is empty" if row is not None else "column 'text' is missing"
            assert reasons[-at - 1][0] == "skipped"
            assert reasons[-at - 1][1].startswith(why)
    assert record.scope == (SCOPE if wanted else NO_SCOPE)
    assert record.sources == ()


def test_a_row_that_is_not_utf8_is_invalid(spool: Spool) -> None:
    """It has a reason of its own and costs no other row."""
    draft = plan(spool, ["a", "bad \ud800", "", "b", "\udfff"])

    assert prompts(spool, draft) == ["a", "b"]
    reasons = catalog.load_reasons(spool.folder(draft.record.id))
    assert [status for status, _ in reasons] == ["invalid", "skipped", "invalid"]
    assert catalog.load(spool.folder("r")).rows.tolist() == [0, -1, -2, 1, -3]


def test_many_blocks_of_rows_become_one_plan(spool: Spool) -> None:
    """Rows are rendered in blocks; duplicates are found across them, shards go across them."""
    rows = [f"row {i % 2500}" for i in range(5000)]
    draft = plan(spool, rows, shard_size=700)

    assert prompts(spool, draft) == rows[:2500]
    assert sum(shard.total for shard in draft.shards) == 2500
    assert len({shard.total for shard in draft.shards}) == len(draft.shards) == 4
    assert catalog.load(spool.folder("r")).rows.tolist() == [i % 2500 for i in range(5000)]


def test_a_template_without_columns_asks_once(spool: Spool) -> None:
    """Rows that all ask the same share one request."""
    draft = plan(spool, ["x"] * 2000, template="Tell a joke")

    assert prompts(spool, draft) == ["Tell a joke"]
    assert draft.record.rows == 2000
    assert not np.any(catalog.load(spool.folder("r")).rows)


def test_large_texts_open_a_new_shard(spool: Spool) -> None:
    """Two requests that together pass the planned bytes go out in two batches."""
    large = "x" * (PLANNED_BYTES // 2)
    draft = plan(spool, ["small", f"1{large}", f"2{large}", "last"])

    assert [shard.total for shard in draft.shards] == [2, 2]
    assert all(shard.size <= MAX_BATCH_BYTES for shard in draft.shards)
    assert all(spool.body("r", shard.number).stat().st_size == shard.size for shard in draft.shards)


def test_betas_are_kept_with_every_shard(spool: Spool) -> None:
    """They are the header that goes out with the shard's body."""
    draft = plan(spool, ["a", "b"], shard_size=1, betas=("x-1", "y-2"))

    assert [shard.betas for shard in draft.shards] == [("x-1", "y-2")] * 2


def test_known_requests_are_not_written_again(spool: Spool) -> None:
    """Only what is new has a line; the rest points at the run that sent it, the newest first."""
    plan(spool, ["a", "b"], id="one", nonce="1" * 16)
    plan(spool, ["b", "c"], id="two", nonce="2" * 16)
    draft = plan(spool, ["new", "c", "a", "b", "a"], known=["two", "one"], id="three")
    asked = catalog.load(spool.folder("three"))

    assert prompts(spool, draft) == ["new"]
    assert draft.record.sources == ("two", "one")
    assert draft.record.requests == 4
    assert asked.references.tolist() == [[0, 0], [1, 1], [2, 0], [1, 0]]
    assert asked.rows.tolist() == [0, 1, 2, 3, 2]


def test_a_run_that_knows_everything_has_no_shards(spool: Spool) -> None:
    """Nothing is written but the map."""
    plan(spool, ["a", "b"], id="one")
    draft = plan(spool, ["b", "a"], known=["one"], id="two")
    names = {path.name for path in spool.folder("two").iterdir()}

    assert draft.shards == []
    assert names == {
        "rows.npy",
        "digests.npy",
        "references.npy",
        "known.npy",
        "known-ordinals.npy",
        catalog.RECIPE,
    }
    assert INDEX not in names


def test_what_a_run_asked_is_kept_to_check_frames_later(spool: Spool) -> None:
    """The recipe reads back as it was."""
    draft = plan(spool, ["a"], betas=("x-1",), on_missing="empty")
    recipe = Recipe.load(read_sealed(spool.folder("r") / catalog.RECIPE))

    assert draft.record.rows == 1
    assert recipe == Recipe(template="{text}", params=PARAMS, on_missing="empty", betas=("x-1",))


# The key of a run

ROWS = ["a", "b", "a", None]
SAME: dict[str, dict[str, Any]] = {
    "other run": {"id": "s", "nonce": "f" * 16, "created_at": 99.0},
    "other shards": {"shard_size": 1},
    "order of params": {"params": dict(reversed(PARAMS.items()))},
    "asks anew": {"reuse": False},
}
DIFFERENT: dict[str, dict[str, Any]] = {
    "order of rows": {"rows": ["b", "a", "a", None]},
    "a row more": {"rows": [*ROWS, "a"]},
    "a row that is never sent": {"rows": [*ROWS, None]},
    "place of the gap": {"rows": ["a", "b", None, "a"]},
    "text": {"rows": ["a", "c", "a", None]},
    "name": {"name": "another"},
    "output": {"output": "another"},
    "name and output swapped": {"name": "x", "output": "answer"},
    "workspace": {"scope": SCOPE._replace(workspace="wrkspc_2")},
    "organization": {"scope": SCOPE._replace(organization="org_2")},
    "origin": {"scope": SCOPE._replace(origin="https://elsewhere.example")},
    "model": {"params": PARAMS | {"model": "claude-of-tomorrow"}},
    "max_tokens": {"params": PARAMS | {"max_tokens": 65}},
    "template": {"template": "{text}!"},
    "betas": {"betas": ("x-1",)},
}


def key(spool: Spool, *, rows: Sequence[Any] = ROWS, **options: Any) -> str:
    """Return the key of a plan, and forget the plan."""
    draft = planner_of(spool, rows, **options).plan()
    spool.discard(draft.record.id)
    return draft.record.key


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_the_same_question_has_the_same_key(change: dict[str, Any], spool: Spool) -> None:
    """How it is sent does not matter, only what is asked of which rows."""
    assert key(spool, **change) == key(spool)


@pytest.mark.parametrize("change", DIFFERENT.values(), ids=DIFFERENT)
def test_another_question_has_another_key(change: dict[str, Any], spool: Spool) -> None:
    """Rows, their order, name, output, scope and every parameter count."""
    assert key(spool, **change) != key(spool)


def test_reuse_does_not_change_the_key(spool: Spool) -> None:
    """The same cell is the same run whether its answers were known or not."""
    before = key(spool)
    plan(spool, ["a", "b"], id="one")

    assert key(spool, known=["one"]) == before


rows_of_two = st.lists(st.sampled_from(["a", "b", None, ""]), max_size=4)


@given(rows_of_two, rows_of_two)
@settings(deadline=None, max_examples=60)
def test_keys_are_equal_exactly_when_the_rows_are(
    first: list[str | None], second: list[str | None]
) -> None:
    """Two frames share a key if and only if they ask the same row by row, or fail to for the same reason."""

    def meaning(rows: list[str | None]) -> list[str | None]:
        return ["" if row is not None and not row.strip() else row for row in rows]

    with TemporaryDirectory() as folder:
        spool = Spool(Path(folder))
        same = key(spool, rows=first) == key(spool, rows=second)

    assert same == (meaning(first) == meaning(second))


# Refused plans


def raise_(error: BaseException) -> Callable[[], Any]:
    """Return a function that raises."""

    def fail() -> Any:
        raise error

    return fail


def test_a_refused_row_leaves_no_draft(spool: Spool) -> None:
    """A missing value in the third block ends a plan whose first shards were already written."""
    rows = [f"row {i}" for i in range(2500)] + [None]
    with pytest.raises(MissingValueError, match="at position 2500"):
        planner_of(spool, rows, on_missing="error", shard_size=100).plan()

    assert list(spool.root.iterdir()) == []


@pytest.mark.parametrize(
    "error", [APIError("no answer"), KeyboardInterrupt("no answer")], ids=["error", "interrupt"]
)
def test_a_plan_that_learns_nothing_of_its_scope_leaves_no_draft(
    error: BaseException, spool: Spool
) -> None:
    """Who the key belongs to could not be asked, or somebody pressed stop."""
    planner = planner_of(spool, ["a"])
    planner.look_up = raise_(error)
    with pytest.raises(type(error), match="no answer"):
        planner.plan()

    assert list(spool.root.iterdir()) == []


def test_the_scope_is_asked_once_and_only_when_there_is_something_to_send(spool: Spool) -> None:
    """Rows that are never sent need no credentials."""
    asked: list[int] = []
    planner = planner_of(spool, ["", None])
    planner.look_up = raise_(APIError("never asked"))
    nothing = planner.plan()
    planner = planner_of(spool, [f"row {i}" for i in range(3000)], id="s")
    known = planner.look_up

    def look_up() -> Any:
        asked.append(1)
        return known()

    planner.look_up = look_up
    planner.plan()

    assert nothing.record.scope == NO_SCOPE
    assert nothing.shards == []
    assert asked == [1]


def test_more_rows_than_a_run_can_number_are_refused(spool: Spool) -> None:
    """Before a row is rendered, with what to do."""
    planner = planner_of(spool, [])
    frame = pd.DataFrame(index=pd.RangeIndex(MAX_REQUESTS + 1))
    planner.renderer = Renderer(Source(frame), Recipe(template="x", params=PARAMS))
    with pytest.raises(InputError, match=r"has 100,000,000 rows; one run holds 99,999,999"):
        planner.plan()

    assert list(spool.root.iterdir()) == []


def test_a_disk_that_refuses_is_told(spool: Spool) -> None:
    """A file stands where the draft's folder should be; nothing else is left."""
    (spool.root / ".draft-r").touch()

    with pytest.raises(LedgerError, match="Could not"):
        planner_of(spool, ["a"]).plan()
