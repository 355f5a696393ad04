"""The answers beside the rows of a file, some rows at a time: what the whole frame would have."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import anthropic
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import claude_batch_pandas as cbp
from claude_batch_pandas import chunked, exports, session
from claude_batch_pandas.cli import main
from claude_batch_pandas.datafiles import read_chunks, read_rows
from claude_batch_pandas.emulator import Emulator, Rule
from claude_batch_pandas.exceptions import ChangedFrameError, InputError
from tests.test_asks import ROWS, write
from tests.test_commands import emulator as served
from tests.test_commands import prefix, said, told

__all__ = ["prefix", "served"]  # the fixtures

TEXTS = st.lists(st.sampled_from(["a", "b", "c", "d", None]), min_size=1, max_size=12)


def parts(df: pd.DataFrame, size: int) -> list[pd.DataFrame]:
    """Cut a frame."""
    return [df.iloc[i : i + size] for i in range(0, len(df), size)]


def joined(run: cbp.Run, client: anthropic.Anthropic, chunks: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the chunks with their answers, as one frame."""
    engine = session.build_engine(client)
    return pd.concat(chunked.joined(engine.store.run(run.id), engine, chunks))


# Rows of a call


@given(sent=TEXTS, now=TEXTS, size=st.integers(1, 5), shard_size=st.integers(1, 4))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_chunks_are_what_the_whole_frame_is(
    sent: list[str | None],
    now: list[str | None],
    size: int,
    shard_size: int,
    emulator: Emulator,
    client: anthropic.Anthropic,
) -> None:
    """In whatever order, with rows that are new, gone, repeated or empty, over several runs."""
    emulator.rules = (Rule(outcome="errored", error_type="permission_error", contains="d"),)
    df = pd.DataFrame({"text": ["a", *sent]})
    run = df.claude.submit("{text}", shard_size=shard_size, client=client).wait()
    rows = pd.DataFrame({"text": [*now, "a"]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of rows that are new
        whole = run.result(rows)
        found = joined(run, client, parts(rows, size))
    pd.testing.assert_frame_equal(found, whole)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_typed_columns_votes_and_retries_are_the_same(
    size: int, emulator: Emulator, client: anthropic.Anthropic
) -> None:
    df = pd.DataFrame({"text": [f"t{i}" for i in range(7)]})
    schema = {"label": str, "score": int}
    emulator.rules = (Rule(outcome="errored", error_type="permission_error", contains="t3"),)
    first = df.claude.submit("{text}", schema=schema, output="x", shard_size=3, client=client)
    first.wait()
    emulator.rules = ()
    first.retry().wait()
    voted = df.claude.submit("{text}", votes=3, output="y", shard_size=4, client=client).wait()
    for run in (first, voted):
        found = joined(run, client, parts(df, size))
        pd.testing.assert_frame_equal(found, run.result(df))


def test_answers_of_other_runs_are_found(emulator: Emulator, client: anthropic.Anthropic) -> None:
    df = pd.DataFrame({"text": list("abcdef")})
    df.iloc[:3].claude.submit("{text}", client=client).wait()
    df.iloc[2:5].claude.submit("{text}", shard_size=1, client=client).wait()
    run = df.claude.submit("{text}", client=client).wait()
    assert [batch.total for batch in emulator.batches] == [3, 1, 1, 1]
    pd.testing.assert_frame_equal(joined(run, client, parts(df, 2)), run.result(df))


def test_a_file_that_shares_no_row_is_refused(client: anthropic.Anthropic) -> None:
    """Not after the first chunk, of which others may be there: after the last."""
    df = pd.DataFrame({"text": ["a", "b"]})
    run = df.claude.submit("{text}", client=client).wait()
    others = pd.DataFrame({"text": ["x", "y", "z"]})
    with pytest.raises(ChangedFrameError, match=r"No row of this frame .*\(3 rows here, 2 there\)"):
        joined(run, client, parts(others, 2))
    with pytest.warns(
        UserWarning, match="3 of 5 rows ask what .* did not, the first at position 0"
    ):
        joined(run, client, parts(pd.concat([others, df]), 2))
    with pytest.warns(
        UserWarning, match="3 of 5 rows ask what .* did not, the first at position 2"
    ):
        joined(run, client, parts(pd.concat([df, others]), 2))


# Files


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl", ".parquet", ".py"])
@pytest.mark.parametrize("rows", [1, 2, 9])
def test_chunks_of_a_file_are_the_file(suffix: str, rows: int, tmp_path: Path) -> None:
    path = write(tmp_path, suffix)
    chunks = list(read_chunks(path, rows))
    assert [len(chunk) for chunk in chunks] == ([1, 1] if rows == 1 else [2])
    assert pd.concat(chunks).astype(object).to_dict("records") == ROWS


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.just(2**63),
    st.just(1.5),
    st.sampled_from("ab"),
)


@given(
    rows=st.lists(st.dictionaries(st.sampled_from("xyz"), CELLS), min_size=1, max_size=8),
    size=st.integers(1, 4),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_chunks_of_ragged_lines_have_the_cells_of_the_whole(
    rows: list[dict[str, object]], size: int, tmp_path: Path
) -> None:
    """A number is 1 or 1.0 for the whole column, wherever a gap or a fraction stands in it."""
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    whole, chunks = read_rows(path), list(read_chunks(path, size))
    found = pd.concat(chunks, ignore_index=True)
    assert len(found) == len(whole) == len(rows)
    assert all(list(chunk) == list(whole) for chunk in chunks)
    assert [chunk.dtypes.tolist() for chunk in chunks] == [whole.dtypes.tolist()] * len(chunks)
    assert found.astype(str).to_dict("records") == whole.astype(str).to_dict("records")


@pytest.mark.parametrize("size", [1, 2, 5])
def test_chunks_of_parquet_have_the_cells_of_the_whole(size: int, tmp_path: Path) -> None:
    """With gaps, wherever they are, and the index that a file may have."""
    path = tmp_path / "rows.parquet"
    df = pd.DataFrame(
        {
            "whole": pd.array([1, 2, 3, None, 5], dtype="Int64"),
            "flag": pd.array([True, False, None, True, True], dtype="boolean"),
            "plain": [1, 2, 3, 4, 5],
        },
        index=pd.Index(list("abcde"), name="customer"),
    )
    table = pa.Table.from_pandas(df).replace_schema_metadata()  # as others write it
    for kept, index in ((df, True), (table.to_pandas(), False)):
        if index:
            kept.to_parquet(path)
        else:
            pq.write_table(table, path)
        whole = read_rows(path)
        found = pd.concat(read_chunks(path, size), ignore_index=not index)
        pd.testing.assert_frame_equal(found, whole)


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
def test_no_field_moves(name: str, tmp_path: Path) -> None:
    """A comma at the end of each row is no column; a field too many is no data."""
    path = tmp_path / name
    sign = "," if name.endswith("csv") else "\t"
    path.write_text("id,text\n1,hello\n2,bye\n".replace(",", sign))
    [chunk] = read_chunks(path)
    assert chunk.to_dict("records") == [{"id": "1", "text": "hello"}, {"id": "2", "text": "bye"}]
    path.write_text("id,text\n1,hello,more\n2,bye,more\n".replace(",", sign))
    for read in (read_rows, lambda path: list(read_chunks(path))):
        with pytest.raises(InputError, match="rows have more fields than the first line has names"):
            read(path)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_file_without_rows_has_its_columns(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows{suffix}"
    empty = pd.DataFrame({"text": pd.array([], dtype="str")})
    empty.to_csv(path, index=False) if suffix == ".csv" else empty.to_parquet(path)
    [chunk] = read_chunks(path)
    assert (list(chunk), len(chunk)) == (["text"], 0)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("rows.csv", None, "There is no file "),
        ("rows.csv", b"a,b\n1,2\n1,2,3,4\n", "rows.csv is not what its name says"),
        ("rows.jsonl", b'{"a": 1}\n{"a"', "rows.jsonl is not .*: line 2 is no JSON"),
        ("rows.parquet", b"PAR2", "rows.parquet is not what its name says"),
        ("rows.xlsx", b"", r"is no file of rows\. There are: \.csv"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(
    name: str, content: bytes | None, why: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=why):
        list(read_chunks(tmp_path / name, 1))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("size", [1, 3, 10])
def test_what_is_written_in_chunks_is_the_whole(suffix: str, size: int, tmp_path: Path) -> None:
    df = pd.DataFrame(
        {
            "text": ["=1+1", "é\n", "", None, "x"],
            "count": pd.array([1, None, 3, 4, 5], dtype="Int64"),
            "status": pd.Categorical(["a", "b", "a", None, "b"]),
        }
    )
    cbp.export(df, tmp_path / f"whole{suffix}")
    chunks = [part.reset_index(drop=True) for part in parts(df, size)]
    assert exports.export_chunks(chunks, tmp_path / f"parts{suffix}") == 5
    whole, pieces = (tmp_path / f"{name}{suffix}" for name in ("whole", "parts"))
    if suffix == ".parquet":
        pd.testing.assert_frame_equal(pd.read_parquet(pieces), pd.read_parquet(whole))
    else:
        assert pieces.read_bytes() == whole.read_bytes()


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    """A column that is text first and a number later has no type in Parquet."""
    path = tmp_path / "out.parquet"
    path.write_text("mine")
    chunks = [pd.DataFrame({"a": ["x"]}), pd.DataFrame({"a": [b"\xff"]})]
    with pytest.raises(InputError, match=r"The rows cannot be written as \.parquet"):
        exports.export_chunks(chunks, path)
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


# The command


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Return a file of rows, one of which asks nothing."""
    path = tmp_path / "rows.csv"
    path.write_text("id,text\n007,seven\nNA,\n9,=nine\n8,eight\n")
    return path


@pytest.fixture
def built(
    rows: Path, served: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[str, Path]:
    """Return a run that was made of requests that were built of the rows, and those."""
    out = tmp_path / "requests.jsonl"
    said(capsys, "build", str(rows), "-t", "{text}", "-o", str(out))
    return told(capsys, "submit", str(out), "--wait")["id"], out


def test_built_requests_are_joined_to_their_rows(
    built: tuple[str, Path], rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By their cells, wherever they stand now; a row that asked nothing has no answer."""
    head, *lines = rows.read_text().splitlines()
    other, out = tmp_path / "other.csv", tmp_path / "out.tsv"
    other.write_text("\n".join([head, *lines[::-1], "7,new"]))
    said(capsys, "results", built[0], "-o", str(out), "--join", str(other))
    found = read_rows(out)
    assert found["id"].tolist() == ["8", "9", "NA", "007", "7"]
    assert found["answer"].fillna("").tolist() == [
        "[simulated] eight",
        "[simulated] =nine",
        "",
        "[simulated] seven",
        "",
    ]
    assert found["answer_error"][2] == "the run has no request for this row"


def test_rows_that_are_equal_have_an_answer_each(
    served: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    path.write_text("text\none\ntwo\none\n")
    said(capsys, "build", str(path), "-t", "{text}", "-o", str(tmp_path / "requests.jsonl"))
    run_id = told(capsys, "submit", str(tmp_path / "requests.jsonl"), "--wait")["id"]
    said(capsys, "results", run_id, "-o", str(out), "--join", str(path))
    assert read_rows(out)["answer"].tolist() == [f"[simulated] {w}" for w in ("one", "two", "one")]


def test_another_file_is_not_joined(
    built: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "other.csv", tmp_path / "out.csv"
    path.write_text("id,text\n1,apple\n2,pear\n")
    assert main(["results", built[0], "-o", str(out), "--join", str(path)]) == 2
    why = r"error: No row has the cells of a row that run .* was made of\. Join the file as it was.*\n"
    assert re.fullmatch(why, capsys.readouterr().err)
    assert not out.exists()


def send(folder: Path, capsys: pytest.CaptureFixture[str], **texts: str) -> str:
    """Send requests that were made elsewhere; return the run's id."""
    path = folder / "mine.jsonl"
    lines = []
    for name, text in texts.items():
        messages = [{"role": "user", "content": text}]
        params = {"model": "claude-haiku-5-5", "max_tokens": 99, "messages": messages}
        lines.append(json.dumps({"custom_id": name, "params": params}))
    path.write_text("\n".join(lines))
    return str(told(capsys, "submit", str(path), "--wait")["id"])


def test_a_column_of_custom_ids_joins_in_any_order(
    served: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = send(tmp_path, capsys, a="one", b="two", c="three")
    path, out = tmp_path / "other.csv", tmp_path / "out.csv"
    path.write_text("note,custom_id\nlast,c\nfirst,a\nnone,d\n")
    said(capsys, "results", run_id, "-o", str(out), "--join", str(path))
    answers = read_rows(out)["answer"].fillna("").tolist()
    assert answers == ["[simulated] three", "[simulated] one", ""]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (
            "text\nx\n",
            r"error: The requests of run .* so rows are found by a column 'custom_id'.*\n",
        ),
        ("custom_id\na\nb\na\n", r"error: Two rows have the custom_id 'a', so neither tells .*\n"),
        ("custom_id\nx\ny\n", r"error: No row has a custom_id that run .* was made of\. .*\n"),
    ],
)
def test_rows_that_name_no_request_are_refused(
    content: str, why: str, served: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = send(tmp_path, capsys, a="one", b="two")
    path, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    path.write_text(content)
    assert main(["results", run_id, "-o", str(out), "--join", str(path)]) == 2
    assert re.fullmatch(why, capsys.readouterr().err)
    assert not out.exists()


def test_what_is_not_here_yet_is_counted(
    served: Emulator, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served.rules = (Rule(outcome="succeeded", delay=600.0),)
    said(capsys, "submit", str(rows), "-t", "{text}")
    [run_id] = cbp.runs()["id"]
    out = tmp_path / "out.csv"
    assert main(["results", run_id, "-o", str(out), "--join", str(rows)]) == 0
    assert (
        f"3 requests of run {run_id} have no result yet; wait for them: claude-batch watch {run_id}"
        in capsys.readouterr().err
    )
    assert read_rows(out)["answer_status"].tolist() == [
        "processing",
        "skipped",
        *["processing"] * 2,
    ]


@pytest.mark.parametrize("how", [[], ["--join", "ROWS"]])
def test_a_purged_run_has_no_table(
    how: list[str], built: tuple[str, Path], rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, "purge", built[0])
    arguments = [str(rows) if word == "ROWS" else word for word in how]
    out = rows.with_name("out.csv")
    assert main(["results", built[0], "-o", str(out), *arguments]) == 2
    assert re.fullmatch(r"error: .*purged.*\n", capsys.readouterr().err)
    assert not out.exists()


def test_the_table_of_a_run_is_what_python_has(
    served: Emulator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In pieces, each of few rows where answers are long."""
    monkeypatch.setattr(chunked, "LEAST_ROWS", 1)
    monkeypatch.setattr(chunked, "ANSWER_BYTES", 2_000)
    df = pd.DataFrame({"text": ["a", None, "b", "a", "c", "d"]}, index=list("uvwxyz"))
    plain = df.claude.submit("{text}", shard_size=2).wait()
    voted = df.claude.submit("{text}", votes=2, output="v").wait()
    for run in (plain, voted):
        engine = session.build_engine(None)
        record = engine.store.run(run.id)
        rows = chunked.rows_at_once(record, engine)
        tables = list(chunked.answered(record, engine, rows))
        assert rows < len(df)
        pd.testing.assert_frame_equal(pd.concat(tables), run.result())


def test_the_rows_that_were_asked_are_not_written_over(
    built: tuple[str, Path], rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = rows.read_text()
    assert main(["results", built[0], "-o", str(rows), "--join", str(rows)]) == 2
    assert re.fullmatch(r"error: .*rows\.csv holds the rows .*\n", capsys.readouterr().err)
    assert rows.read_text() == before


def test_numbers_stay_numbers(
    served: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only what a spreadsheet computes is defused, unless somebody wants it."""
    path, out = tmp_path / "rows.csv", tmp_path / "out.CSV"
    path.write_text("amount,text\n-12.50,one\n+3,two\n-1+2,three\n")
    run_id = told(capsys, "submit", str(path), "-t", "{text}", "--wait")["id"]
    said(capsys, "results", run_id, "-o", str(out), "--join", str(path))
    assert read_rows(out)["amount"].tolist() == ["-12.50", "+3", "'-1+2"]
    wrote = told(capsys, "results", run_id, "-o", str(out), "--join", str(path), "--formulas")
    assert read_rows(out)["amount"].tolist() == ["-12.50", "+3", "-1+2"]
    assert (wrote["rows"], wrote["left"]) == (3, 0)
