"""Private files: whole and synced under their final name, or not there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_batch_pandas.exceptions import LedgerError
from claude_batch_pandas.folders import make_folder
from claude_batch_pandas.spool import (
    BLOCK,
    Body,
    Spool,
    Writing,
    file_sha256,
    read_blocks,
    read_line_blocks,
    read_lines,
    write,
)

on_posix = pytest.mark.skipif(os.name == "nt", reason="modes are those of POSIX")


INSIDE = "inside"


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_written_file_is_whole_and_hashed(tmp_path: Path) -> None:
    """What was written piece by piece is there under its name, with its size and SHA-256."""
    path = tmp_path / "a.json"
    with Writing(path) as file:
        file.write(b"one ")
        file.write(b"two")
        size, before = file.size, path.exists()
        sha256 = file.keep()

    assert (path.read_bytes(), size, before) == (b"one two", 7, False)
    assert sha256 == hashlib.sha256(b"one two").hexdigest() == file_sha256(path)
    assert names(tmp_path) == ["a.json"]


def test_file_that_is_not_kept_leaves_nothing(tmp_path: Path) -> None:
    """Leaving without keeping deletes the temporary file and leaves the old one."""
    path = tmp_path / "a.json"
    write(path, b"old")
    with Writing(path) as file:
        file.write(b"new")

    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_error_leaves_no_temporary_file(tmp_path: Path, kind: type[BaseException]) -> None:
    """An error or interrupt while writing leaves the old file and nothing else."""
    path = tmp_path / "a.json"
    write(path, b"old")
    with pytest.raises(kind, match="inside"), Writing(path) as file:  # noqa: PT012
        file.write(b"new")
        raise kind(INSIDE)

    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.json"]


def test_name_that_cannot_be_taken_leaves_no_temporary_file(tmp_path: Path) -> None:
    """When the final name is taken by a folder, the error is the ledger's and nothing is left."""
    path = tmp_path / "taken"
    (path / "inside").mkdir(parents=True)

    with pytest.raises(LedgerError, match=r"Could not keep .*taken"):
        write(path, b"x")
    assert names(tmp_path) == ["taken"]


def test_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    """A file whose folder is missing cannot be written, which is an error of the ledger."""
    with pytest.raises(LedgerError, match=r"Could not write .*a\.json: No such file"):
        write(tmp_path / "nowhere" / "a.json", b"x")


@on_posix
def test_full_disk_is_told() -> None:
    """A disk without room is an error of the ledger."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    file = Writing(Path("unused"))
    with full.open("wb", buffering=0) as disk:
        file._file = disk
        with pytest.raises(LedgerError, match="Could not write unused: No space left"):
            file.write(b"x")


@on_posix
def test_files_and_folders_are_for_their_owner(tmp_path: Path, umask: int) -> None:
    """Files have mode 0600 and folders 0700 whatever the umask."""
    spool = Spool(tmp_path / "ledger")
    draft = spool.draft("run")
    write(draft / "a.json", b"x")
    final = spool.publish("run")

    assert [mode(folder) for folder in (tmp_path / "ledger", spool.root, final)] == [0o700] * 3
    assert mode(final / "a.json") == 0o600


@on_posix
def test_folders_made_on_the_way_are_not_for_others(tmp_path: Path, umask: int) -> None:
    """Nobody else can write to the parents that are made, so nobody can swap the ledger out."""
    Spool(tmp_path / "one" / "two" / "ledger")

    assert mode(tmp_path / "one") & 0o022 == 0
    assert mode(tmp_path / "one" / "two") & 0o022 == 0


def test_draft_is_nothing_until_published(tmp_path: Path) -> None:
    """A run's folder has its name only once it is published; a discarded draft is gone."""
    spool = Spool(tmp_path)
    write(spool.draft("run") / "a.json", b"x")
    before = spool.folder("run").exists()
    spool.publish("run")
    spool.draft("other")
    spool.discard("other")
    spool.discard("never was")

    assert not before
    assert (spool.folder("run") / "a.json").read_bytes() == b"x"
    assert names(spool.root) == ["run"]


def test_drafts_of_dead_planners_are_swept(tmp_path: Path) -> None:
    """A sweep deletes every draft, whatever is in it, and no run."""
    spool = Spool(tmp_path)
    spool.draft("kept")
    spool.publish("kept")
    write(spool.draft("dead") / "a.json", b"x")
    spool.draft("empty")
    spool.sweep({"kept"})

    assert names(spool.root) == ["kept"]


def test_what_killed_writers_left_is_cleared(tmp_path: Path) -> None:
    """Half a body holds prompts, so it does not stay; whole files of any run do."""
    spool = Spool(tmp_path)
    for run_id in ("one", "two"):
        spool.draft(run_id)
        spool.publish(run_id)
        write(spool.body(run_id, 0), b"whole")
        (spool.folder(run_id) / f"{spool.body(run_id, 1).name}.7.part").write_bytes(b"half")
    spool.clear_parts("one")

    assert names(spool.folder("one")) == ["shard-0000.requests.json"]
    assert len(names(spool.folder("two"))) == 2


def test_what_cannot_be_cleared_is_told(tmp_path: Path) -> None:
    """A disk that refuses to delete is the ledger's error, as any other."""
    spool = Spool(tmp_path)
    spool.draft("one")
    spool.publish("one")
    (spool.folder("one") / "a.part").mkdir()

    with pytest.raises(LedgerError, match=r"Could not tidy the folder of run one"):
        spool.clear_parts("one")


def test_a_temporary_file_that_stays_does_not_hide_the_error(tmp_path: Path) -> None:
    """The first error is the one that tells what to do."""
    with pytest.raises(LedgerError, match="Could not keep"):
        keep_beside_a_folder(tmp_path / "a.json")


def keep_beside_a_folder(path: Path) -> None:
    """Keep a file whose temporary name a folder has taken, and whose own, too."""
    (path / "inside").mkdir(parents=True)
    with Writing(path) as file:
        file.temporary.unlink()
        file.temporary.mkdir()
        file.keep()


def test_publishing_twice_is_told(tmp_path: Path) -> None:
    """A name that a run has already is never overwritten."""
    spool = Spool(tmp_path)
    write(spool.draft("run") / "a.json", b"first")
    spool.publish("run")
    write(spool.draft("run") / "a.json", b"second")

    with pytest.raises(LedgerError, match="Could not keep run run"):
        spool.publish("run")
    assert (spool.folder("run") / "a.json").read_bytes() == b"first"


def test_files_of_shards_differ(tmp_path: Path) -> None:
    """Each shard has a body and a results file of its own, in its run's folder."""
    spool = Spool(tmp_path)
    paths = {make("run", i) for make in (spool.body, spool.results) for i in (0, 1, 12_345)}

    assert len(paths) == 6
    assert {path.parent for path in paths} == {spool.folder("run")}


def test_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """The error names the variable that moves the ledger elsewhere."""
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(LedgerError, match=r"make the folder .*set CLAUDE_BATCH_HOME"):
        make_folder(tmp_path / "file" / "ledger")


def test_body_is_sent_from_its_start_each_time(tmp_path: Path) -> None:
    """A body can be sent twice, whole each time, and knows its size."""
    data = bytes(range(256)) * 2048
    write(tmp_path / "body", data)
    body = Body(tmp_path / "body")

    assert body.size == len(data) > BLOCK
    assert b"".join(body) == data
    assert b"".join(body) == data


def test_body_that_is_missing_is_told(tmp_path: Path) -> None:
    """A body that is gone is an error of the ledger before anything is sent."""
    with pytest.raises(LedgerError, match=r"request body .*gone cannot be read: No such file"):
        Body(tmp_path / "gone")


@given(st.lists(st.binary(max_size=5).filter(lambda line: b"\n" not in line), max_size=6))
@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_only_newlines_end_a_line(tmp_path: Path, lines: list[bytes]) -> None:
    """Lines come back as they were written, carriage returns and U+2028 included."""
    lines = [*lines, "\u2028\u0085\r\x0b".encode()]
    write(tmp_path / "lines", b"".join(line + b"\n" for line in lines))

    assert list(read_lines(tmp_path / "lines")) == lines


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=20),
            st.sampled_from([b"x" * (BLOCK - 1), b"y" * BLOCK, b"z" * (2 * BLOCK + 3)]),
        ),
        max_size=5,
    )
)
@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_blocks_end_at_line_ends(tmp_path: Path, pieces: list[bytes]) -> None:
    """Blocks join to the file, and a line is never cut, however long; only newlines end one."""
    data = b"\n".join(pieces)
    write(tmp_path / "lines", data)
    blocks = list(read_line_blocks(tmp_path / "lines"))

    assert b"".join(blocks) == data == b"".join(read_blocks(tmp_path / "lines"))
    assert all(block.endswith(b"\n") for block in blocks[:-1])
    assert all(blocks)


@pytest.mark.parametrize("size", [0, 1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 7])
def test_a_body_keeps_its_last_byte_for_itself(size: int, tmp_path: Path) -> None:
    """Who has not asked for it cannot have the whole of it."""
    data = bytes(i * i % 251 for i in range(size))
    (tmp_path / "body").write_bytes(data)
    body = Body(tmp_path / "body")
    told = [(block, body.was_sent) for block in body]

    assert b"".join(block for block, _ in told) == data
    assert [was_sent for _, was_sent in told] == [i >= len(told) - 1 for i in range(len(told))]
    assert all(block for block, _ in told)
    assert len(told[-1][0] if told else b"-") == 1
    assert body.was_sent


def test_a_body_that_may_not_end_keeps_its_last_byte(tmp_path: Path) -> None:
    """Whoever waits for it gets an error instead, and the server never has the whole."""
    (tmp_path / "body").write_bytes(b"0123456789")
    body = Body(tmp_path / "body")
    body.may_end = lambda: False
    told: list[bytes] = []
    with pytest.raises(TimeoutError, match="The upload took too long"):
        told.extend(body)

    assert told == [b"012345678"]
    assert not body.was_sent
