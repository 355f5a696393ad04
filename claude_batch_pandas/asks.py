"""The commands that ask: rows and a template, or requests -> requests, an estimate, or a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from claude_batch_pandas import terminal
from claude_batch_pandas.commands import AsJson, Strict, Wait, judge, leave, refuse_mixing
from claude_batch_pandas.exceptions import InputError

if TYPE_CHECKING:
    from claude_batch_pandas.calls import Call
    from claude_batch_pandas.requestfiles import RequestFile

FILES = frozenset({".csv", ".tsv", ".json", ".jsonl", ".parquet"})

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
    as_json: AsJson = False,
) -> None:
    """Write the requests of a file of rows as JSONL that the API takes; nothing is sent."""
    from claude_batch_pandas.building import request_lines
    from claude_batch_pandas.calls import make_call
    from claude_batch_pandas.datafiles import read_chunks

    asked = _template(template, template_file)
    call = make_call(asked, {"system": system, "model": model, "max_tokens": max_tokens})
    refuse_mixing(output, as_json=as_json)
    left_out: Counter[str] = Counter()
    written = terminal.write(request_lines(read_chunks(data), call, left_out), output)
    for why, count in left_out.most_common():
        terminal.say(f"{count:,} rows are left out, {why}")
    if as_json:
        terminal.show_json({"file": str(output), "requests": written, "left_out": left_out})


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
    force: Annotated[
        bool, typer.Option("--force", help="Send what the model will refuse, too.")
    ] = False,
    fix_ids: Annotated[
        bool,
        typer.Option("--fix-ids", help="Of requests: give bad custom_ids others, in a list."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Ask about every row of a file; it is the same run as the same call in Python.

    Without a template, DATA is a .jsonl file of requests: {"custom_id": ..., "params": {...}}.
    """
    from claude_batch_pandas import estimating, session
    from claude_batch_pandas.calls import make_call
    from claude_batch_pandas.datafiles import read_rows

    if Path(output).suffix.lower() in FILES:
        msg = (
            f"--output names the new column, and {output!r} is a file's name. Write the answers with: "
            "claude-batch results ID -o FILE"
        )
        raise InputError(msg)
    given = {"output": output, "name": name, "max_cost": max_cost, "force": force}
    asked = {"system": system, "model": model, "max_tokens": max_tokens}
    if strict and not wait:
        msg = "--strict tells what came of all rows, so it needs --wait."
        raise InputError(msg)
    rows: Any
    if template is None and template_file is None and data.suffix.lower() == ".jsonl":
        rows, call = _requests(data, {**given, "progress": "auto"}, asked, fix_ids=fix_ids)
        if not estimate:
            _tell_ids(rows)
    else:
        if fix_ids:
            msg = "--fix-ids is for files of requests, which need no template."
            raise InputError(msg)
        call = make_call(_template(template, template_file), {**given, **asked, "progress": "auto"})
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


def _requests(
    path: Path, given: Mapping[str, Any], asked: Mapping[str, Any], *, fix_ids: bool
) -> tuple[RequestFile, Call]:
    """Return the requests of a file that were made elsewhere, and the call that sends them."""
    from claude_batch_pandas.calls import make_call
    from claude_batch_pandas.requestfiles import RequestFile, as_given

    for name, value in asked.items():
        if value is not None:
            msg = f"--{name.replace('_', '-')} needs a template: requests have their own."
            raise InputError(msg)
    file = RequestFile(path, fix_ids=fix_ids)
    whole = {**given, "model": file.model, "max_tokens": file.max_tokens}
    return file, make_call(as_given, whole)


def _tell_ids(file: RequestFile) -> None:
    """Write down which custom_ids were replaced, and say so."""
    if file.fixed:
        path = file.write_map()
        terminal.say(f"{len(file.fixed):,} custom_ids are others now: {path}")


def _template(text: str | None, path: Path | None) -> str:
    if (text is None) == (path is None):
        msg = (
            "Give the prompt as --template TEXT or as --template-file FILE, one of the two. "
            "Only a .jsonl file of requests needs none."
        )
        raise InputError(msg)
    if path is None:
        return str(text)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        msg = f"The template {path} cannot be read: {why}."
        raise InputError(msg) from None
