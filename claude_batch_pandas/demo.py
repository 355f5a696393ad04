"""What ``claude-batch demo`` shows: real queries labelled in batches, a crash, and nothing paid twice.

Everything happens on this machine: a local emulator answers, a temporary folder is the ledger, and
credentials in the environment are put aside first. Every number it prints is counted, not known.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.resources
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

import claude_batch_pandas as cbp
from claude_batch_pandas import emulator

CHILD = "--child"  # makes this module the process that is killed
BATCHES_BEFORE_KILL = 3
CHILD_SECONDS = 120.0  # for a child to begin to send; a few are usual

say = functools.partial(print, flush=True)  # progress goes to standard error, in step


class Tally(NamedTuple):
    """What the server was sent, compared with what was asked."""

    batches: int
    requests: int
    asked: int  # requests that differ from each other; some queries stand twice in the file
    twice: int  # requests sent although their like had been sent
    missing: int  # requests asked and never sent

    def __str__(self) -> str:
        return (
            f"  batches on the server: {self.batches:,}\n"
            f"  requests on the server: {self.requests:,}\n"
            f"  unique requests asked: {self.asked:,}\n"
            f"  requests never sent: {self.missing:,}\n"
            f"  requests sent twice: {self.twice:,}"
        )


def main(*, as_json: bool = False) -> int:
    """Run the demo; the exit code tells whether nothing was sent twice and nothing was lost."""
    with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
        tally = _show()
    if as_json:
        say(json.dumps(tally._asdict()))
    return 1 if tally.twice or tally.missing else 0


def _show() -> Tally:
    started = time.monotonic()
    queries = load_queries()
    server = emulator.Emulator(speed=2)  # a batch takes about a second
    with (
        tempfile.TemporaryDirectory(prefix="claude-batch-", ignore_cleanup_errors=True) as home,
        emulator.serve(emulator=server) as url,
    ):
        stay_local(Path(home), url)
        choose_options()
        say(f"A simulated Message Batches API answers at {url}. No key, no network, no cost.")
        try:
            label(queries)
            start_and_kill(server)
            tally = resume(queries, server)
        finally:
            detach()
    say(f"\nThe demo took {time.monotonic() - started:.0f} s.")
    return tally


def load_queries() -> pd.DataFrame:
    """Return BANKING77: what customers asked their bank (``text``), and the intent (``category``)."""
    source = importlib.resources.files("claude_batch_pandas") / "data" / "banking77.csv"
    with importlib.resources.as_file(source) as path:
        return pd.read_csv(path)


def intent_call(queries: pd.DataFrame) -> dict[str, Any]:
    """Return the first run's arguments: one of 77 intents for each query."""
    labels = ", ".join(sorted(queries["category"].unique()))
    return {
        "template": "{text}",
        "system": f"Which intent is this? Answer with one label, nothing else.\nlabels: {labels}",
        "output": "intent",
    }


def reply_call() -> dict[str, Any]:
    """Return the second run's arguments: a reply to each query."""
    return {"template": "Reply to this customer in one sentence: {text}", "output": "reply"}


def label(queries: pd.DataFrame) -> None:
    """Label every query, and show the frame, the statuses, the dollars and the accuracy."""
    call = intent_call(queries)
    say(f"\n1. Label {len(queries):,} queries with {queries['category'].nunique()} intents")
    say('   queries.claude.batch(template="{text}", system="... labels: ...", output="intent")\n')
    labelled = queries.claude.batch(**call)
    say(f"\n{labelled.to_string(max_rows=10, max_colwidth=28)}\n")
    newest = cbp.runs().iloc[0]
    report = cbp.run(newest["id"]).report()
    for status, count in report.statuses.items():
        say(f"  {status}: {count:,}")
    say(f"  shards: {newest['shards']}")
    say(f"  at batch price it would have cost: {report.bill}")
    right = (labelled["intent"] == labelled["category"]).mean()
    say(f"  accuracy against the gold intents: {right:.1%} (simulated: the emulator goes by")
    say("  shared words; this says nothing about Claude)")


def start_and_kill(server: emulator.Emulator) -> None:
    """Let another process start a second run, and kill it when some batches are sent, not all."""
    say("\n2. A second run, in a process of its own that is killed in the middle")
    say('   queries.claude.batch(template="Reply to this customer ...", output="reply")\n')
    before = len(server.batches)
    command = [sys.executable, "-m", "claude_batch_pandas.demo", CHILD]
    with subprocess.Popen(command) as child:  # noqa: S603 - ourselves
        say(f"  process {child.pid} begins")
        try:
            wait_for_batches(server, before + BATCHES_BEFORE_KILL, child)
        finally:
            child.kill()
    sent = len(server.batches) - before
    run = cbp.runs().iloc[0]
    if sent >= run["shards"]:
        msg = f"The second process sent all {sent} batches before it could be killed. Try again."
        raise cbp.BatchError(msg)
    say(f"  process {child.pid} was killed (SIGKILL, exit code {child.returncode})")
    say(f"  batches it had sent: {sent} of {run['shards']}")
    say(f"  what the ledger knows: run {run['id']} is {run['state']}")


def wait_for_batches(server: emulator.Emulator, count: int, child: subprocess.Popen[bytes]) -> None:
    """Wait until the server has that many batches.

    Raises
    ------
    BatchError
        When the child process ends or hangs before that.
    """
    deadline = time.monotonic() + CHILD_SECONDS
    while len(server.batches) < count:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = child.wait(timeout=0.01)
            msg = f"The second process ended by itself, with exit code {code}, before its time."
            raise cbp.BatchError(msg)
        if time.monotonic() > deadline:
            msg = f"The second process sent too little in {CHILD_SECONDS:.0f} s. Try again."
            raise cbp.BatchError(msg)


def resume(queries: pd.DataFrame, server: emulator.Emulator) -> Tally:
    """Make the second call again, and count what the server was sent in all."""
    say("\n3. The same call again, in this process\n")
    replies = queries.claude.batch(**reply_call())
    answered = int((replies["reply_status"] == "succeeded").sum())
    say(f"\n  rows with a reply: {answered:,} of {len(queries):,}")
    tally = count_requests(queries, server)
    say(f"\nBoth runs together, counted at the server:\n{tally}")
    return tally


def count_requests(queries: pd.DataFrame, server: emulator.Emulator) -> Tally:
    """Compare, by hash of their params, the requests at the server with those that were asked."""
    sent = [digest(request["params"]) for batch in server.batches for request in batch.requests]
    asked = {
        digest(params)
        for call in (intent_call(queries), reply_call())
        for params in queries.claude.preview(n=len(queries), **call).requests
    }
    return Tally(
        batches=len(server.batches),
        requests=len(sent),
        asked=len(asked),
        twice=len(sent) - len(set(sent)),
        missing=len(asked - set(sent)),
    )


def digest(params: Mapping[str, Any]) -> str:
    """Return a hash that two requests share when they ask the same."""
    return hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()


def stay_local(home: Path, url: str) -> None:
    """Point this process and its children at the emulator and a temporary ledger."""
    for name in [name for name in os.environ if name.startswith(("ANTHROPIC_", "CLAUDE_BATCH_"))]:
        del os.environ[name]
    os.environ["ANTHROPIC_BASE_URL"] = url
    # Not a key: with one, the SDK does not look for a profile, whose token it would send along.
    os.environ["ANTHROPIC_API_KEY"] = "none"
    os.environ["CLAUDE_BATCH_HOME"] = str(home)
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"  # no proxy leads to this machine


def choose_options() -> None:
    """Make waits fit an emulator, and let only two shards of a run wait at once.

    All requests go in batches, for what is counted at the end are the server's batches.
    """
    cbp.options.canary = False
    cbp.options.poll_seconds = (0.2, 0.5)
    cbp.options.max_in_flight = 1_000
    # A batch shows up in the emulator's list at once; the real API is given a quarter of an hour.
    cbp.options.settle_seconds = 3.0


def detach() -> None:
    """Stop what still works on a run, so that an interrupted demo ends at once."""
    for run_id in cbp.runs()["id"]:
        cbp.run(run_id).detach()


def be_killed() -> None:
    """Make the second call in the environment of the parent; it will not come to its end."""
    choose_options()
    run = load_queries().claude.submit(**reply_call(), progress="none")
    run.wait(CHILD_SECONDS)  # not for ever, should the parent die first


if __name__ == "__main__":
    if CHILD in sys.argv[1:]:
        be_killed()
    else:
        sys.exit(main())
