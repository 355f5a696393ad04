"""The public API as users write it, for type checkers alone: it is never run.

``assert_type`` makes a checker fail when a result is of another type, or of none.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TypedDict, assert_type

import anthropic
import httpx2
import pandas as pd
from pydantic import BaseModel

import claude_batch_pandas as cbp
from claude_batch_pandas.accessor import Claude
from claude_batch_pandas.blocks import Media
from claude_batch_pandas.emulator import Emulator, Fault, Rule
from claude_batch_pandas.plots import Plot
from claude_batch_pandas.records import Progress, RunState
from claude_batch_pandas.report import Preview, Report
from claude_batch_pandas.rows import Row
from claude_batch_pandas.slots import Column

df = pd.DataFrame({"text": ["Where is my card?"], "photo": ["a.png"], "limit": [100]})
texts = pd.Series(["Where is my card?"])
LABELS = ["card_arrival", "lost_card"]


class Ticket(BaseModel):
    """An answer."""

    intent: Literal["card_arrival", "lost_card"]
    urgency: int


class Place(TypedDict):
    """Another one."""

    city: str


def ask() -> None:
    """Ask with every kind of template, of a frame and of a Series."""
    assert_type(cbp.batch(df, "{text}"), pd.DataFrame)
    assert_type(cbp.batch(texts, "{value}"), pd.DataFrame)
    assert_type(cbp.batch(df, [{"role": "user", "content": "{text}"}]), pd.DataFrame)
    assert_type(cbp.batch(df, ["What is this?", cbp.image("photo")]), pd.DataFrame)
    assert_type(cbp.batch(df, [cbp.document("path", upload=True), "Who signed?"]), pd.DataFrame)
    assert_type(cbp.batch(df, cbp.col("messages")), pd.DataFrame)
    assert_type(cbp.batch(df, lambda row: f"Sum up: {row.text}"), pd.DataFrame)
    assert_type(cbp.batch(df, prompt_of, output="sum"), pd.DataFrame)
    messages: list[dict[str, str]] = [{"role": "user", "content": "{text}"}]
    parts: list[str | Media] = ["What is this?", cbp.image("photo")]
    assert_type(cbp.batch(df, messages), pd.DataFrame)
    assert_type(cbp.batch(df, parts), pd.DataFrame)


def prompt_of(row: Row) -> str | None:
    """Return what to ask about a row."""
    return None if row["text"] is None else str(row.get("text", "nothing"))


def ask_with_options(client: anthropic.Anthropic, run: cbp.Run) -> None:
    """Ask with every option there is."""
    out = Claude(df).batch(
        "{text}",
        system=[{"type": "text", "text": "Be brief."}],
        output="ticket",
        schema=Ticket,
        expand=False,
        replace=True,
        examples=df,
        history=run,
        tools=[{"name": "look_up", "input_schema": {"type": "object"}}],
        tool_choice={"type": "auto"},
        thinking={"type": "disabled"},
        effort=cbp.col("effort"),
        upload=True,
        cache="1h",
        warm=True,
        votes=3,
        model=cbp.col("model"),
        max_tokens=cbp.col("limit"),
        name="tickets",
        reuse=False,
        on_missing="empty",
        shard_size=500,
        on_unknown="ask",
        keep_requests=False,
        canary=False,
        force=True,
        params={"metadata": {"user_id": "u"}, "betas": ["a-beta"]},
        client=client,
        progress=show,
    )
    assert_type(out, pd.DataFrame)
    assert_type(cbp.batch(df, "{text}", schema=Place, model="m", progress="none"), pd.DataFrame)


def show(progress: Progress) -> None:
    """Show where a run is, as a progress hook does."""
    assert_type(progress.run_id, str)
    assert_type(progress.state, RunState)
    assert_type(progress.rows - progress.downloaded, int)
    assert_type(progress.counts.succeeded, int)
    assert_type(progress.elapsed, float)
    assert_type(progress.expires_in, float | None)
    assert_type(progress.dollars, Decimal | None)
    assert_type(progress.is_over, bool)


def use_verbs() -> None:
    """Use everyday verbs, of a frame and of a Series."""
    claude = Claude(df)
    assert_type(claude.classify("text", labels=LABELS, explain=True), pd.DataFrame)
    assert_type(claude.classify("text", dict.fromkeys(LABELS, ""), multi=True), pd.DataFrame)
    assert_type(claude.extract("text", Ticket, output="ticket"), pd.DataFrame)
    assert_type(claude.score("text", rubric="How urgent?", low=0, high=1.5), pd.DataFrame)
    assert_type(claude.summarize("{text}", words=20), pd.DataFrame)
    assert_type(claude.translate("text", to="German", model="m"), pd.DataFrame)
    assert_type(claude.filter("text", condition="It is a question."), pd.DataFrame)
    assert_type(Claude(texts).classify(LABELS), pd.DataFrame)
    assert_type(Claude(texts).summarize(), pd.DataFrame)


def look_first() -> None:
    """See what would be sent, and try a few rows."""
    claude = Claude(df)
    shown = claude.preview("{text}", n=1, model="m")
    assert_type(shown, Preview)
    assert_type(shown.requests, list[dict[str, Any]])
    assert_type(len(shown), int)
    assert_type(claude.sample("{text}", n=5), pd.DataFrame)
    assert_type(claude.sample("text", verb="classify", labels=LABELS), pd.DataFrame)
    assert_type(claude.submit("{text}", output="intent"), cbp.Run)
    assert_type(claude.submit("text", verb="classify", labels=LABELS), cbp.Run)


def use_the_accessors() -> None:
    """Ask through ``df.claude``, which checkers take for a column, so that all of it is Any."""
    out: pd.DataFrame = df.claude.batch("{text}", output="intent")
    run: cbp.Run = df.claude.submit("{text}")
    labelled: pd.DataFrame = df["text"].claude.classify(LABELS)
    shown: Preview = df.claude.preview("{text}")
    assert_type((out, run, labelled, shown), tuple[pd.DataFrame, cbp.Run, pd.DataFrame, Preview])


def come_back(client: anthropic.Anthropic) -> None:
    """Find runs by their ids, by a batch's, and by what was asked."""
    assert_type(cbp.runs(), pd.DataFrame)
    assert_type(cbp.verify(), pd.DataFrame)
    assert_type(cbp.run("20261120-intent-x7k2"), cbp.Run)
    assert_type(cbp.run("20261120-intent-x7k2", client=client, progress="bar"), cbp.Run)
    assert_type(cbp.attach("msgbatch_01"), cbp.Run)
    assert_type(cbp.attach("msgbatch_01", df, template="{text}", client=client), cbp.Run)
    assert_type(cbp.recover(df, template="{text}", model="m"), cbp.Run)


def use_a_run(run: cbp.Run) -> None:
    """Wait for a run, join it, and look at it."""
    assert_type(run.id, str)
    assert_type(run.status, RunState)
    assert_type(run.done, bool)
    assert_type(run.progress, Progress)
    assert_type(run.wait().wait(timeout=1.5), cbp.Run)
    assert_type(run.result(), pd.DataFrame)
    assert_type(run.result(df, timeout=60), pd.DataFrame)
    assert_type(run.result(texts, partial=True), pd.DataFrame)
    assert_type(run.details(), pd.DataFrame)
    assert_type(run.report(), Report)
    assert_type(run.report().statuses, dict[str, int])
    assert_type(run.plot("tokens"), Plot)
    assert_type(run.plot().summary, str)
    run.show()
    run.inspect()


def change_a_run(run: cbp.Run) -> None:
    """Cancel a run, leave it, ask again, and delete it."""
    assert_type(run.cancel(), cbp.Run)
    assert_type(run.detach(), cbp.Run)
    assert_type(run.retry(), cbp.Run)
    assert_type(run.retry(canceled=True, missing=True, invalid=True), cbp.Run)
    assert_type(run.retry(truncated=True, max_tokens=8192).result(), pd.DataFrame)
    assert_type(run.resume_turns(), cbp.Run)
    run.purge()
    run.purge(server=True)


async def await_runs(run: cbp.Run) -> None:
    """Await one run, and several."""
    assert_type(await run, pd.DataFrame)
    both = await asyncio.gather(result_of(run), result_of(run))
    assert_type(both, tuple[pd.DataFrame, pd.DataFrame])


async def result_of(run: cbp.Run) -> pd.DataFrame:
    """Await a run in a coroutine, as a task needs it."""
    async with asyncio.timeout(60):
        return await run


def use_files() -> None:
    """Read documents into a frame, and write one."""
    assert_type(cbp.documents("*.txt"), pd.DataFrame)
    assert_type(cbp.documents([Path("invoices"), "letters/**/*.pdf"]), pd.DataFrame)
    assert_type(cbp.export(df, "answers.csv"), Path)
    assert_type(cbp.export(texts, Path("answers.parquet"), formulas=True), Path)
    assert_type(cbp.image(Path("logo.png")), Media)
    assert_type(cbp.image("photo", upload=True), Media)
    assert_type(cbp.document(b"%PDF-"), Media)
    assert_type(cbp.col("limit"), Column)


def set_options() -> None:
    """Set options, and forget what was set."""
    cbp.options.model = "claude-haiku-5-5"
    cbp.options.poll_seconds = (10, 120)
    cbp.options.max_cost_per_day = None
    cbp.options.progress = show
    cbp.options.reset()


def read_options() -> None:
    """Read options."""
    assert_type(cbp.options.model, str)
    assert_type(cbp.options.max_tokens, int)
    assert_type(cbp.options.poll_seconds, tuple[float, float])
    assert_type(cbp.options.confirm_above, float | None)
    assert_type(cbp.options.canary, bool)


def catch_errors() -> None:
    """Catch what can go wrong, finely or at once."""
    try:
        cbp.batch(df, "{text}")
    except cbp.exceptions.MissingColumnError as error:
        assert_type(error, cbp.exceptions.MissingColumnError)
    except cbp.exceptions.APIError as error:
        assert_type(error.status, int | None)
        assert_type(error.retry_after, float | None)
    except (cbp.PausedError, cbp.WaitTimeoutError):
        pass
    except cbp.BatchError as error:
        assert_type(error, cbp.BatchError)


def use_the_emulator() -> None:
    """Serve an API on this machine, and drive one without a socket."""
    rules = [Rule(outcome="refusal", contains="secret")]
    faults = [Fault(method="POST", path="/v1/messages", status=529)]
    emulator = Emulator(rules=rules, faults=faults, duration=0)
    assert_type(emulator.transport(), httpx2.WSGITransport)
    with cbp.emulator.serve(speed=10) as url:
        assert_type(url, str)
    with cbp.emulator.serve(emulator=emulator, port=8000) as url:
        client = anthropic.Anthropic(base_url=url, api_key="none")
        assert_type(cbp.batch(df, "{text}", client=client), pd.DataFrame)
    served: AbstractContextManager[str] = cbp.emulator.serve(rules=rules, tier="start", seed=7)
    assert_type(served.__enter__(), str)


def use_ipython(shell: Any) -> None:
    """Load the magics, and take them away."""
    cbp.load_ipython_extension(shell)
    cbp.unload_ipython_extension(shell)
