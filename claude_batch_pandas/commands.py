"""The commands about runs: what a notebook began is followed, fetched and ended from a shell."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from claude_batch_pandas import terminal
from claude_batch_pandas.exceptions import BatchError, InputError
from claude_batch_pandas.records import RowStatus, RunState

if TYPE_CHECKING:
    from claude_batch_pandas.handles import Run

SOME_FAILED = 1
DETAILS = ("thinking_", "cache_")
WAITING = frozenset({RunState.IN_PROGRESS, RunState.CANCELING, RunState.COLLECTING})  # all is sent
GOOD = frozenset({RowStatus.SUCCEEDED, RowStatus.SKIPPED})

app = typer.Typer(add_completion=False, rich_markup_mode=None)


def _run_ids(incomplete: str) -> list[str]:
    """Return what a shell offers for the beginning of a run's id."""
    from claude_batch_pandas import listing

    return [run_id for run_id in listing.runs()["id"] if run_id.startswith(incomplete)]


RunId = Annotated[
    str,
    typer.Argument(metavar="ID", help="As `claude-batch runs` lists it.", autocompletion=_run_ids),
]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 1 when some rows failed.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for its end.")]


@app.command()
def runs(*, as_json: AsJson = False) -> None:
    """List the runs of this ledger."""
    from claude_batch_pandas import listing, session

    found = listing.runs()
    if found.empty and not as_json:
        typer.echo(
            f"No runs yet in {session.ledger_home()}. Begin with df.claude.batch(...) in Python, "
            "or see one with: claude-batch demo"
        )
        return
    terminal.show_frame(found, as_json=as_json)


@app.command()
def show(run_id: RunId, *, as_json: AsJson = False) -> None:
    """Show where a run is, and what came of it so far."""
    run = _run(run_id, "none")
    _fetch(run)
    _tell(run, as_json=as_json)


@app.command()
def watch(run_id: RunId, *, as_json: AsJson = False, strict: Strict = False) -> None:
    """Follow a run to its end; Ctrl-C leaves it alone."""
    run = _wait(_run(run_id))
    if as_json:
        _tell(run, as_json=True)
    judge(run, strict=strict)


@app.command()
def results(
    run_id: RunId,
    *,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Default: standard output."),
    ] = None,
    join: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="The rows that were asked; the table has theirs, too."),
    ] = None,
    formulas: Annotated[
        bool, typer.Option("--formulas", help="Write text that begins like a formula as it is.")
    ] = False,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Write the results of a run that are here, as the API gave them (JSONL), or as a table.

    FILE ends in .csv, .tsv or .parquet for a table of the answers; anything else is JSONL.
    """
    from claude_batch_pandas import exports, listing

    run = _run(run_id, "none")
    is_table = output is not None and output.suffix.lower() in exports.SUFFIXES
    if output is not None and join is not None and output.resolve() == join.resolve():
        msg = f"{output} holds the rows that were asked. Write the answers to another file."
        raise InputError(msg)
    if join is not None and not is_table:
        msg = "--join needs --output, a .csv, .tsv or .parquet file."
        raise InputError(msg)
    refuse_mixing(output, as_json=as_json)
    _fetch(run)
    if output is not None and is_table:
        statuses: Counter[str] = Counter()
        tables = listing.tables(run, join, statuses)
        count = exports.export_chunks(tables, output, formulas=formulas, numbers=join is not None)
        left = statuses[RowStatus.PROCESSING]
    else:
        lines, count = listing.result_lines(run_id)
        written = terminal.write(lines, output)
        count, left = written, count - written
    if left:
        terminal.say(
            f"{left:,} requests of run {run_id} have no result yet; wait for them: claude-batch "
            f"watch {run_id}"
        )
    if as_json:
        terminal.show_json({"run": run_id, "file": str(output), "rows": count, "left": left})
    judge(run, strict=strict)


@app.command()
def retry(
    run_id: RunId,
    *,
    canceled: Annotated[bool, typer.Option("--canceled", help="Those that were canceled.")] = False,
    truncated: Annotated[
        bool, typer.Option("--truncated", help="Answers that were cut; needs --max-tokens.")
    ] = False,
    max_tokens: Annotated[int | None, typer.Option(help="What those may have this time.")] = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="Those without a readable result; may be paid twice.")
    ] = False,
    invalid: Annotated[bool, typer.Option("--invalid", help="Answers that do not fit.")] = False,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Send the rows of a run again that failed."""
    run = _run(run_id).retry(
        canceled=canceled,
        truncated=truncated,
        max_tokens=max_tokens,
        missing=missing,
        invalid=invalid,
    )
    leave(run, wait=wait, as_json=as_json)


@app.command()
def cancel(run_id: RunId, *, wait: Wait = False, as_json: AsJson = False) -> None:
    """Cancel what is not done; what is done is kept, and was paid."""
    leave(_run(run_id).cancel(), wait=wait, as_json=as_json)


@app.command()
def attach(
    batch_ids: Annotated[list[str], typer.Argument(metavar="BATCH_ID...")],
    *,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Take batches of the API that were made elsewhere into this ledger."""
    from claude_batch_pandas import finding

    for batch_id in batch_ids:
        leave(finding.attach(batch_id), wait=wait, as_json=as_json)


@app.command("list")
def list_batches(
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many of the newest.")] = 20,
    everything: Annotated[bool, typer.Option("--all", help="All that the server keeps.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the batches of the workspace on the server, newest first."""
    from claude_batch_pandas import listing

    terminal.show_frame(listing.batches(None if everything else limit), as_json=as_json)


@app.command()
def costs(
    *,
    by: Annotated[
        str, typer.Option(help="day, model, run, key or origin; several with commas.")
    ] = "day",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="A .csv or .parquet file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what the runs of this ledger have cost."""
    from claude_batch_pandas import exports, spending

    found = spending.costs(by.split(","))
    if output is not None:
        exports.export(found, output)
        return
    if not as_json:  # a line has no room for all kinds of tokens
        found = found.drop(columns=[name for name in map(str, found) if name.startswith(DETAILS)])
    terminal.show_frame(found, as_json=as_json)


@app.command()
def verify(*, as_json: AsJson = False) -> None:
    """Check every file of this ledger; exit with 1 when one is damaged."""
    from claude_batch_pandas import listing

    found = listing.verify()
    if as_json or not found.empty:
        terminal.show_frame(found, as_json=as_json)
    else:
        typer.echo("All files are as they were written.")
    if not found.empty:
        raise typer.Exit(SOME_FAILED)


@app.command()
def purge(
    run_ids: Annotated[list[str], typer.Argument(metavar="ID...", autocompletion=_run_ids)],
    *,
    server: Annotated[
        bool, typer.Option("--server", help="Delete its batches from the server, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Delete the requests and results of runs from this disk."""
    for run_id in run_ids:
        _run(run_id, "none").purge(server=server)
        if not as_json:
            typer.echo(f"purged {run_id}")
    if as_json:
        terminal.show_json({"purged": run_ids})


def _run(run_id: str, progress: str = "auto") -> Run:
    from claude_batch_pandas import finding

    return finding.run(run_id, progress=progress)


def refuse_mixing(output: Path | None, *, as_json: bool) -> None:
    """Refuse to tell in JSON what was written where that goes to standard output itself."""
    if as_json and terminal.is_shown(output):
        msg = "--json tells what was written, so it needs --output FILE."
        raise InputError(msg)


def _fetch(run: Run) -> None:
    """Look after a run that is not at its end; without the API, what is here is all there is."""
    if run.progress.state not in WAITING:
        return
    try:
        run.catch_up()
    except BatchError as error:
        terminal.say(f"What has ended meanwhile was not fetched: {error}")


def _wait(run: Run) -> Run:
    try:
        return run.wait()
    except KeyboardInterrupt:
        terminal.say(f"Run {run.id} goes on; come back: claude-batch watch {run.id}")
        raise


def leave(run: Run, *, wait: bool, as_json: bool) -> None:
    """Wait for a run, or leave it to the API once all of it is sent; say where it is."""
    if wait:
        _wait(run)
    else:
        if words := run.headline():
            terminal.say(words)
        if unsent := run.catch_up():
            terminal.say(
                f"{unsent:,} shards are not sent yet; send them: claude-batch watch {run.id}"
            )
    if as_json:
        _tell(run, as_json=True)
    elif not wait:
        typer.echo(repr(run))


def _tell(run: Run, *, as_json: bool) -> None:
    progress = run.progress
    is_gone = progress.state is RunState.PURGED
    if not as_json:
        terminal.show(repr(run) if is_gone else f"{run!r}\n\n{run.report()}")
        return
    told: dict[str, Any] = {
        "id": run.id,
        "name": progress.name,
        "state": progress.state,
        "note": progress.note,
        "rows": progress.rows,
        "requests": progress.requests,
        "shards": progress.shards,
        "collected": progress.collected,
    }
    terminal.show_json(told if is_gone else told | run.report().facts())


def judge(run: Run, *, strict: bool) -> None:
    """Exit with 1 when some rows failed, or have no answer yet, and that matters."""
    if strict and not set(run.report().statuses) <= {str(status) for status in GOOD}:
        raise typer.Exit(SOME_FAILED)
