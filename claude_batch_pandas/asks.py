"""The commands that ask: rows of a file and a template -> requests, an estimate, or a run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from claude_batch_pandas import terminal
from claude_batch_pandas.commands import AsJson, Strict, Wait, judge, leave
from claude_batch_pandas.exceptions import InputError

app = typer.Typer(add_completion=False, rich_markup_mode=None)

Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA", help="A .csv, .tsv, .json, .jsonl, .parquet or .py file, or a folder."
    ),
]
Template = Annotated[
    str | None, typer.Option("-t", "--template", help="The prompt, with {column} fields.")
]
TemplateFile = Annotated[
    Path | None, typer.Option("--template-file", metavar="FILE", help="The prompt, in a file.")
]
System = Annotated[str | None, typer.Option(help="The system prompt.")]
Model = Annotated[str | None, typer.Option("-m", "--model", help="Default: options.model.")]
MaxTokens = Annotated[int | None, typer.Option(help="Tokens an answer may have.")]


@app.command()
def build(
    data: Data,
    template: Template = None,
    template_file: TemplateFile = None,
    system: System = None,
    model: Model = None,
    max_tokens: MaxTokens = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Default: standard output."),
    ] = None,
) -> None:
    """Write the requests of a file of rows as JSONL that the API takes; nothing is sent."""
    from claude_batch_pandas.building import request_lines
    from claude_batch_pandas.calls import make_call
    from claude_batch_pandas.datafiles import read_rows

    asked = _template(template, template_file)
    call = make_call(asked, {"system": system, "model": model, "max_tokens": max_tokens})
    left_out: Counter[str] = Counter()
    terminal.write(request_lines(read_rows(data), call, left_out), output)
    for why, count in left_out.most_common():
        terminal.say(f"{count:,} rows are left out, {why}")


@app.command()
def submit(  # noqa: PLR0913 - each is an option
    data: Data,
    *,
    template: Template = None,
    template_file: TemplateFile = None,
    system: System = None,
    model: Model = None,
    max_tokens: MaxTokens = None,
    output: Annotated[str, typer.Option("--output", help="The name of the new column.")] = "answer",
    name: Annotated[str | None, typer.Option(help="Of the run, for people.")] = None,
    max_cost: Annotated[
        float | None, typer.Option(help="US dollars that it may cost at most.")
    ] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Say what it would cost, and send nothing.")
    ] = False,
    wait: Wait = False,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Ask about every row of a file; it is the same run as the same call in Python."""
    from claude_batch_pandas import estimating, session
    from claude_batch_pandas.calls import make_call
    from claude_batch_pandas.datafiles import read_rows

    given = {
        "system": system,
        "model": model,
        "max_tokens": max_tokens,
        "output": output,
        "name": name,
        "max_cost": max_cost,
        "progress": "auto",
    }
    if strict and not wait:
        msg = "--strict tells what came of all rows, so it needs --wait."
        raise InputError(msg)
    call = make_call(_template(template, template_file), given)
    rows = read_rows(data)
    if estimate:
        found = estimating.estimate_call(rows, call, offline=False)
        if as_json:
            terminal.show_json(found.facts())
        else:
            terminal.show(repr(found))
        return
    run = session.submit(rows, call)
    leave(run, wait=wait, as_json=as_json)
    judge(run, strict=strict)


def _template(text: str | None, path: Path | None) -> str:
    if (text is None) == (path is None):
        msg = "Give the prompt as --template TEXT or as --template-file FILE, one of the two."
        raise InputError(msg)
    if path is None:
        return str(text)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        msg = f"The template {path} cannot be read: {why}."
        raise InputError(msg) from None
