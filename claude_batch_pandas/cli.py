"""``claude-batch``: the package from a shell.

Exit codes: 0 done, 1 some rows failed (with ``--strict``) or a file is damaged, 2 it could not be
done (one line on standard error says why), 130 interrupted.
`emulate` has no other end than an interrupt, which is therefore a 0. Heavy libraries are imported
inside the commands that need them.
"""

from __future__ import annotations

import json
import sys
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from claude_batch_pandas import __version__, asks, commands
from claude_batch_pandas.exceptions import BatchError
from claude_batch_pandas.words import plain

REFUSED, INTERRUPTED = 2, 130

# Click's UsageError. Typer carries Click under another name in some versions, so it is reached
# through the one subclass that all of them export.
UsageError: type[Any] = typer.BadParameter.__bases__[0]

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
app.add_typer(asks.app)
app.add_typer(commands.app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``claude-batch`` and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default: those of the process.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    hooks: Any = warnings
    shown, hooks.showwarning = hooks.showwarning, _warn
    try:
        code = app(given or ["--help"], prog_name="claude-batch", standalone_mode=False)
    except UsageError as error:
        return _refuse(f"{error.format_message().rstrip('.')}. See: claude-batch --help")
    except BatchError as error:
        return _refuse(str(error))
    except (KeyboardInterrupt, typer.Abort) as stop:
        typer.echo(plain(str(stop)) or "interrupted", err=True)
        return INTERRUPTED
    finally:
        hooks.showwarning = shown
    if code == INTERRUPTED:
        typer.echo("interrupted", err=True)
    return code or 0


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"claude-batch {__version__}")
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[  # noqa: ARG001 - its callback shows it
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", is_eager=True, callback=_show_version
        ),
    ] = False,
    max_cost_per_day: Annotated[
        float | None,
        typer.Option(
            help="US dollars that all runs of a day may cost at most.",
            envvar="CLAUDE_BATCH_MAX_COST_PER_DAY",
        ),
    ] = None,
) -> None:
    """Run Claude over a DataFrame through the Message Batches API, at half price."""
    if max_cost_per_day is not None:
        from claude_batch_pandas.settings import options

        options.max_cost_per_day = max_cost_per_day


@app.command()
def demo(*, as_json: commands.AsJson = False) -> None:
    """Label real queries, crash, resume; without a key."""
    _require_emulator()
    from claude_batch_pandas import demo as show

    raise typer.Exit(show.main(as_json=as_json))


@app.command()
def emulate(  # noqa: PLR0913 - each is an option
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    speed: Annotated[float, typer.Option(help="Times faster than a plausible service.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Changes ids and the order of answers.")] = 0,
    tier: Annotated[
        str | None, typer.Option(help="Limits of a usage tier: start, build or scale.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep batches here, over restarts.")
    ] = None,
    prefix: Annotated[
        str, typer.Option(metavar="PATH", help="Answer below this path, as a relay.")
    ] = "",
    fault: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Let this go wrong; may be repeated; help lists them."),
    ] = None,
    *,
    permissive_ids: Annotated[
        bool, typer.Option("--permissive-ids", help="Answer for batch ids that were made up.")
    ] = False,
    as_json: commands.AsJson = False,
) -> None:
    """Serve a simulated API until Ctrl-C (exit code 0)."""
    _require_emulator()
    from claude_batch_pandas import emulator

    names = fault or []
    if "help" in names:
        told = {name: words for name, (words, _) in emulator.FAILURES.items()}
        lines = [f"{name:<26}{words}" for name, words in told.items()]
        typer.echo(json.dumps(told) if as_json else "\n".join(lines))
        return
    with emulator.serve(
        port=port,
        faults=[emulator.failure(name) for name in names],
        speed=speed,
        seed=seed,
        tier=tier,
        state=state,
        prefix=prefix,
        permissive_ids=permissive_ids,
    ) as url:
        try:
            if as_json:
                typer.echo(json.dumps({"url": url}))
            else:
                typer.echo(f"A simulated Message Batches API answers at {url}; Ctrl-C ends it.")
                typer.echo(f"export ANTHROPIC_BASE_URL={url}")
            threading.Event().wait()
        except KeyboardInterrupt:
            left = "gone" if state is None else f"in {state}"
            typer.echo(f"Ended; its batches are {left}.", err=True)


def _require_emulator() -> None:
    """Say how to get the emulator where it is not installed."""
    try:
        from claude_batch_pandas import emulator  # noqa: F401 - only asked whether it is there
    except ImportError as error:
        raise BatchError(str(error)) from error


def _warn(message: Warning | str, *_: object) -> None:
    """Show a warning as people in a shell read it: without the code that gave it."""
    typer.echo(f"warning: {plain(str(message))}", err=True)


def _refuse(why: str) -> int:
    typer.echo(f"error: {plain(why)}", err=True)
    return REFUSED
