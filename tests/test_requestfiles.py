"""Files of requests made elsewhere: sent as they stand, each line answered under its own id."""

from __future__ import annotations

import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import claude_batch_pandas as cbp
from claude_batch_pandas import requestfiles
from claude_batch_pandas.cli import main
from claude_batch_pandas.emulator import Emulator, Rule
from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.requestfiles import RequestFile
from tests.test_asks import write as write_rows
from tests.test_commands import emulator, prefix, said, told

__all__ = ["emulator", "prefix"]  # the fixtures

MODEL = "claude-haiku-5-5"


def line(custom_id: Any, text: str = "one", **params: Any) -> dict[str, Any]:
    """Return a request."""
    whole = {"model": MODEL, "max_tokens": 99, "messages": [{"role": "user", "content": text}]}
    return {"custom_id": custom_id, "params": {**whole, **params}}


def save(folder: Path, *lines: Any) -> Path:
    """Write lines: JSON as it is, and bytes as they are."""
    path = folder / "requests.jsonl"
    told = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in lines]
    path.write_bytes(b"\n".join(told))
    return path


def answers(capsys: pytest.CaptureFixture[str], run_id: str) -> dict[str, Any]:
    """Return what the run says of each custom_id, as JSON lines."""
    lines = [json.loads(one) for one in said(capsys, "results", run_id).encode().splitlines()]
    found = {one["custom_id"]: one["result"] for one in lines}
    assert len(found) == len(lines)
    return found


def text_of(result: Any) -> str:
    return str(result["message"]["content"][-1]["text"])


# Reading


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([line("a"), b'{"custom_id"'], r"Line 2 of requests\.jsonl: it is no JSON .*Nothing was s"),
        ([b"", line("a"), b"  ", b"[1]"], "Line 4 of .*: it is not .*, but has list"),
        ([line("a"), b"\xff\xfe"], "Line 2 of .*: it is not UTF-8"),
        ([b"[" * 100_000], "Line 1 of .*: it is no JSON"),
        ([{**line("a"), "method": "POST"}], r"Line 1 of .*but has \['custom_id', 'params', 'met"),
        ([{"custom_id": "a", "params": []}], "Line 1 of .*: its params are no object, but a list"),
        ([{"custom_id": "a", "params": {"model": "m"}}], "Line 1 of .*: its params have no max_t"),
        ([line("a", max_tokens=0)], "Line 1 of .*: max_tokens must be a whole number of at least"),
        ([line("a", model=7)], "Line 1 of .*: model must be a name"),
        ([line("a", messages=[])], "Line 1 of .*: it has no messages"),
        ([line("a", messages=[{"role": "tool", "content": "x"}])], "message 0 has the role 'tool"),
        ([line("a", text=" ")], "Line 1 of .*: a text of its messages is empty"),
        ([line("a", betas=["x"])], "Line 1 of .*: its params have betas, which are a header"),
        ([line("a", text="\ud800")], "Line 1 of .*: messages holds a lone surrogate"),
        ([line("a", metadata=float("nan"))], "Line 1 of .*: metadata cannot be sent as"),
        ([line("a"), line("b"), line("a")], "Line 3 of .*'a' stands in line 1 already.*--fix-ids"),
        ([line("a b")], "Line 1 of .*'a b' is not 1 to 64 letters, digits, _ or -"),
        ([line("")], "Line 1 of .*: its custom_id '' is not 1 to 64"),
        ([line("é")], "Line 1 of .*: its custom_id 'é' is not 1 to 64"),
        ([line("a\n")], "Line 1 of .*: its custom_id .* is not 1 to 64"),
        ([line("x" * 65)], "Line 1 of .*: its custom_id 'xxx.* is not 1 to 64"),
        ([line(7)], "Line 1 of .*: its custom_id 7 is not 1 to 64"),
        ([{"params": line("a")["params"]}], "Line 1 of .*: its custom_id None is not 1 to 64"),
        ([], r"requests\.jsonl holds no requests"),
    ],
)
def test_a_line_that_is_no_request_is_named(lines: list[Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=why):
        RequestFile(save(tmp_path, *lines))


def test_a_line_that_no_batch_holds_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requestfiles, "LARGEST_PARAMS", 1_000)
    path = save(tmp_path, line("a"), line("b", "x" * 1_000))
    with pytest.raises(InputError, match=r"Line 2 of .*: the request has 1,\d\d\d bytes; a batch"):
        RequestFile(path)
    monkeypatch.setattr(requestfiles, "LONGEST_LINE", 500)
    with pytest.raises(InputError, match=r"Line 2 of .*: it has more than 500 bytes"):
        RequestFile(path)


def test_a_mark_of_the_byte_order_is_no_part_of_a_line(tmp_path: Path) -> None:
    path = save(tmp_path, b"\xef\xbb\xbf" + json.dumps(line("a")).encode())
    assert RequestFile(path).ids == ["a"]


def test_a_file_that_changes_is_not_sent(tmp_path: Path) -> None:
    path = save(tmp_path, line("a"), line("b"))
    file = RequestFile(path)
    save(tmp_path, line("b"), line("a"), line("c"))
    with pytest.raises(InputError, match=r"was changed while it was read\. Nothing was sent"):
        list(file.lines())
    path.write_bytes(b"{}")
    recipe: Any = type("Recipe", (), {"force": True})
    with pytest.raises(InputError, match=r"was changed while it was read\. Nothing was sent"):
        list(requestfiles.FileRenderer(file, recipe).blocks())


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jsonl cannot be read: No such file"):
        RequestFile(tmp_path / "none.jsonl")


def test_a_large_file_is_read_in_little_memory(tmp_path: Path) -> None:
    """30 MB of requests, and never more than a few of them at once."""
    path = save(tmp_path, *(line(f"r{i}", f"{i}" + "x" * 100_000) for i in range(300)))
    recipe: Any = type("Recipe", (), {"force": True})
    tracemalloc.start()
    file = RequestFile(path)
    blocks = requestfiles.FileRenderer(file, recipe).blocks()
    rows = sum(len(block) for block in blocks)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows == 300
    assert peak < 2.5 * requestfiles.BLOCK_BYTES


# Ids


def test_bad_ids_are_replaced_and_written_down(tmp_path: Path) -> None:
    """Whatever stands there, each request has an id of its own, and good ones stay."""
    path = save(tmp_path, line("a"), line("a"), line("line-2"), line("ü"), line(None))
    file = RequestFile(path, fix_ids=True)
    assert file.ids == ["a", "line-2-", "line-2", "line-4", "line-5"]
    written = [json.loads(one) for one in file.write_map().read_text().splitlines()]
    assert written == [
        {"line": 2, "custom_id": "a", "new_id": "line-2-"},
        {"line": 4, "custom_id": "ü", "new_id": "line-4"},
        {"line": 5, "custom_id": None, "new_id": "line-5"},
    ]
    assert RequestFile(path, fix_ids=True).write_map().exists()


def test_the_map_of_another_file_stays(tmp_path: Path) -> None:
    path = save(tmp_path, line("a"), line("a"))
    kept = path.with_name(path.name + ".ids.jsonl")
    kept.write_text("mine")
    with pytest.raises(InputError, match=r"requests\.jsonl\.ids\.jsonl holds the ids of another"):
        RequestFile(path, fix_ids=True).write_map()
    assert kept.read_text() == "mine"


@given(ids=st.lists(st.one_of(st.sampled_from(["a", "line-2", "line-3"]), st.text(max_size=3))))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_fixed_ids_are_legal_and_each_stands_once(ids: list[str], tmp_path: Path) -> None:
    lines = [line(custom_id) for custom_id in [*ids, "last"]]
    file = RequestFile(save(tmp_path, *lines), fix_ids=True)
    assert len(set(file.ids)) == len(lines)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", custom_id) for custom_id in file.ids)
    replaced = {new.new_id for new in file.fixed}
    kept = [mine for mine in file.ids if mine not in replaced]
    assert kept == [one for one in dict.fromkeys([*ids, "last"]) if one in kept]


# Sending

params = st.fixed_dictionaries(
    {"max_tokens": st.integers(50, 4_000), "messages": st.just([])},
    optional={
        "system": st.text("ab", min_size=1),
        "metadata": st.just({"user_id": "u"}),
        "stop_sequences": st.just(["zzz"]),
    },
)


@given(asked=st.lists(st.tuples(st.text(min_size=1).filter(str.strip), params), min_size=1))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_sent_is_what_stands_there(
    asked: list[tuple[str, dict[str, Any]]],
    emulator: Emulator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The same params, nothing added; every line has the answer to its own question."""
    told_before = len(emulator.batches)
    lines = [
        line(f"id-{i}", **{**more, "messages": [{"role": "user", "content": text}]})
        for i, (text, more) in enumerate(asked)
    ]
    path = save(tmp_path, *lines)
    found = told(capsys, "submit", str(path), "--wait", "--name", f"n{told_before}")
    sent = [r["params"] for batch in emulator.batches for r in batch.requests]
    assert all(one["params"] in sent for one in lines)
    results = answers(capsys, found["id"])
    assert results.keys() == {one["custom_id"] for one in lines}
    for one in lines:
        text = one["params"]["messages"][0]["content"]
        said_ = text_of(results[one["custom_id"]])
        assert said_ == f"[simulated] {text}"[: len(said_)]


def test_the_same_question_twice_is_two_requests(
    emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever writes it down twice wants two answers; the same file again sends nothing."""
    path = save(tmp_path, *(line(f"r{i}") for i in range(3)), line("other", "two"))
    first = told(capsys, "submit", str(path), "--wait")
    again = told(capsys, "submit", str(path), "--wait")
    messages = {result["message"]["id"] for result in answers(capsys, first["id"]).values()}
    assert [batch.total for batch in emulator.batches] == [4]
    assert len(messages) == 4
    assert first["id"] == again["id"]


def test_a_longer_file_sends_what_is_new(
    emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Answers that another run has are found, and stand under this file's ids."""
    told(capsys, "submit", str(save(tmp_path, line("a", "one"), line("b", "two"))), "--wait")
    longer = save(tmp_path, line("z", "two"), line("y", "three"), line("x", "one"))
    found = told(capsys, "submit", str(longer), "--wait")
    assert [batch.total for batch in emulator.batches] == [2, 1]
    results = answers(capsys, found["id"])
    texts = {name: text_of(result) for name, result in results.items()}
    assert texts == {
        "x": "[simulated] one",
        "y": "[simulated] three",
        "z": "[simulated] two",
    }


def test_several_models_are_sent_together(
    emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [line("a"), line("b", model="claude-opus-5-5", max_tokens=50)]
    found = told(capsys, "submit", str(save(tmp_path, *lines)), "--wait", "--max-cost", "0.01")
    models = {n: r["message"]["model"] for n, r in answers(capsys, found["id"]).items()}
    assert models == {"a": MODEL, "b": "claude-opus-5-5"}
    assert found["statuses"] == {"succeeded": 2}


def test_the_table_is_by_custom_id(
    emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(capsys, "submit", str(save(tmp_path, line("a"), line("b", "two"))), "--wait")
    out = tmp_path / "out.csv"
    said(capsys, "results", found["id"], "-o", str(out))
    assert out.read_text().splitlines()[1:] == [
        '"a","[simulated] one","succeeded",""',
        '"b","[simulated] two","succeeded",""',
    ]
    assert cbp.run(found["id"]).result().index.tolist() == ["a", "b"]


def test_what_is_built_is_sent(
    emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "requests.jsonl"
    said(capsys, "build", str(write_rows(tmp_path, ".csv")), "-t", "{text}", "-o", str(out))
    estimate = told(capsys, "submit", str(out), "--estimate")
    found = told(capsys, "submit", str(out), "--wait")
    assert (estimate["rows"], estimate["requests"]) == (2, 2)
    names = sorted(answers(capsys, found["id"]))
    assert [name[:6] for name in names] == ["row-0-", "row-1-"]


def test_what_the_model_will_refuse_is_named(
    emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is sent, unless somebody insists."""
    path = save(tmp_path, line("a"), line("b", "two", temperature=0.5))
    assert main(["submit", str(path)]) == 2
    why = r"error: Line 2 of requests\.jsonl: temperature is an error for every model.*\n"
    assert re.fullmatch(why, capsys.readouterr().err)
    assert emulator.batches == []
    found = told(capsys, "submit", str(path), "--force", "--wait")
    assert found["statuses"] == {"succeeded": 1, "errored": 1}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (
            ["--system", "be brief"],
            r"error: --system needs a template: requests have their own\.\n",
        ),
        (["--max-tokens", "9"], r"error: --max-tokens needs a template.*\n"),
        (["-t", "{custom_id}", "--fix-ids"], r"error: --fix-ids is for files of requests.*\n"),
        (["--max-cost", "0.00001"], r"error: Nothing was sent\. This run of 1 requests can .*\n"),
    ],
)
def test_what_is_wrong_beside_the_file_is_one_line(
    arguments: list[str],
    why: str,
    emulator: Emulator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["submit", str(save(tmp_path, line("a"))), *arguments]) == 2
    assert re.fullmatch(why, capsys.readouterr().err)
    assert emulator.batches == []


def test_an_estimate_writes_no_map(
    emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path, line("a"), line("a"))
    said(capsys, "submit", str(path), "--fix-ids", "--estimate")
    assert [one.name for one in tmp_path.iterdir() if "ids" in one.name] == []
    said(capsys, "submit", str(path), "--fix-ids", "--wait")
    assert [one.name for one in tmp_path.iterdir() if "ids" in one.name] == [
        "requests.jsonl.ids.jsonl"
    ]


def test_a_failed_line_keeps_its_id_and_is_asked_again(
    emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    emulator.rules = (Rule(outcome="errored", error_type="permission_error", contains="two"),)
    found = told(capsys, "submit", str(save(tmp_path, line("a"), line("b", "two"))), "--wait")
    failed = answers(capsys, found["id"])["b"]
    assert failed["type"] == "errored"
    emulator.rules = ()
    said(capsys, "retry", found["id"], "--wait")
    assert text_of(answers(capsys, found["id"])["b"]) == "[simulated] two"
