"""Every kind of event loop: a run needs none, blocks none that awaits it, and patches none."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import anyio
import anyio.to_thread
import pandas as pd
import pytest

import claude_batch_pandas as cbp
from claude_batch_pandas import session
from claude_batch_pandas.emulator import Emulator, serve
from tests.conftest import JumpingClock

FRAME = pd.DataFrame({"text": ["Where is my card?", "I lost my card!"]}, index=[7, 7])
Runner = Callable[[Any], Any]


class Server:
    """An emulator on a port, whose batches end when a test says so."""

    def __init__(self, url: str, emulator: Emulator, clock: JumpingClock) -> None:
        self.client = anthropic.Anthropic(base_url=url, api_key="key-of-a-test")
        self.emulator, self._clock = emulator, clock

    @property
    def batches(self) -> int:
        """How many it was sent."""
        return len(self.emulator.batches)

    @property
    def cancels(self) -> int:
        """How often it was asked to cancel one."""
        return sum(call.path.endswith("/cancel") for call in self.emulator.calls)

    def end_batches(self) -> None:
        """Let the time pass that a batch takes."""
        self._clock.advance(60.0)


@contextlib.contextmanager
def served(duration: float) -> Iterator[Server]:
    """Serve an emulator whose batches take that long on a clock that stands still."""
    clock = JumpingClock()
    emulator = Emulator(clock=clock.now, duration=duration)
    with serve(emulator=emulator) as url:
        yield Server(url, emulator, clock)
        session.crew.stop()


@pytest.fixture(autouse=True)
def quick() -> None:
    """Look often; the time here is real."""
    cbp.options.poll_seconds = (0.01, 0.05)


@pytest.fixture
def server() -> Iterator[Server]:
    """Return an API whose batches end at once."""
    with served(0.0) as running:
        yield running


@pytest.fixture
def slow_server() -> Iterator[Server]:
    """Return an API whose batches end when told to."""
    with served(60.0) as running:
        yield running


def with_asyncio(main: Any) -> Any:
    return asyncio.run(main)


def with_uvloop(main: Any) -> Any:
    uvloop = pytest.importorskip("uvloop", reason="uvloop does not exist on Windows")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


every_loop = pytest.mark.parametrize("run_loop", [with_asyncio, with_uvloop])


async def answers_of(run: cbp.Run) -> pd.DataFrame:
    """Await a run in a coroutine, as a task needs it."""
    return await run


async def use_every_door(server: Server, word: str = "") -> None:
    """Block, await, and await four at once, under the loop that is running."""
    before = server.batches
    template = word + "{text}"
    out = FRAME.claude.batch(f"blocking {template}", client=server.client)
    one = await FRAME.claude.submit(f"awaited {template}", client=server.client)
    four = await asyncio.gather(
        *(FRAME.claude.submit(f"{i} {template}", client=server.client) for i in range(4))
    )
    thread = await asyncio.to_thread(
        FRAME.claude.batch, f"blocking {template}", client=server.client
    )

    assert answers(out) == [f"blocking {word}{text}" for text in FRAME["text"]]
    assert answers(one) == [f"awaited {word}{text}" for text in FRAME["text"]]
    for i, columns in enumerate(four):
        assert answers(columns) == [f"{i} {word}{text}" for text in FRAME["text"]]
    assert out.index.tolist() == one.index.tolist() == [7, 7]
    assert answers(thread) == answers(out)
    assert server.batches == before + 6, "the call that was made twice is free"


def answers(df: pd.DataFrame) -> list[str]:
    """Return the answers without the emulator's remark."""
    return [text.removeprefix("[simulated] ") for text in df["answer"]]


@every_loop
def test_every_door_works_under_a_running_loop(run_loop: Runner, server: Server) -> None:
    """Blocking or awaited, alone or four at once, each run gets its own answers."""
    run_loop(use_every_door(server))


@every_loop
def test_awaiting_leaves_the_loop_free(run_loop: Runner, slow_server: Server) -> None:
    """The batch can only end because another task of the same loop gets its turn."""

    async def main() -> pd.DataFrame:
        run = FRAME.claude.submit("{text}", client=slow_server.client)
        out, _ = await asyncio.gather(answers_of(run), let_it_end(run, slow_server))
        return out

    assert answers(run_loop(main())) == FRAME["text"].tolist()


async def let_it_end(run: cbp.Run, server: Server) -> None:
    await until_sent(run)
    server.end_batches()


async def until_sent(run: cbp.Run) -> None:
    while not run.progress.submitted:  # noqa: ASYNC110 - no event tells
        await asyncio.sleep(0.01)


@every_loop
def test_canceling_a_task_only_detaches(run_loop: Runner, slow_server: Server) -> None:
    """No batch is canceled; another process finishes the run and sends nothing."""

    async def main() -> str:
        run: cbp.Run = FRAME.claude.submit("{text}", client=slow_server.client)
        task = asyncio.ensure_future(answers_of(run))
        await until_sent(run)
        task.cancel()
        with pytest.raises(asyncio.CancelledError, match=f"Detached from run {run.id}"):
            await task
        assert task.cancelled()
        return run.id

    run_id = run_loop(main())

    assert_finished_later(run_id, slow_server)


async def within_asyncio(run: cbp.Run) -> None:
    async with asyncio.timeout(0.05):
        await run


async def within_anyio(run: cbp.Run) -> None:
    with anyio.fail_after(0.05):
        await run


@pytest.mark.parametrize("within", [within_asyncio, within_anyio])
def test_a_time_limit_detaches(within: Callable[[cbp.Run], Any], slow_server: Server) -> None:
    """Who set the limit recognizes its own cancellation, though the words on it are ours."""

    async def main() -> str:
        run: cbp.Run = FRAME.claude.submit("{text}", client=slow_server.client)
        await until_sent(run)
        with pytest.raises(TimeoutError, match=r"^$"):  # theirs, without words
            await within(run)
        return run.id

    assert_finished_later(asyncio.run(main()), slow_server)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_of_the_loop_detaches(slow_server: Server) -> None:
    """Ctrl-C in a script that awaits: asyncio cancels the task, and the batch goes on."""

    def interrupt(progress: Any) -> None:
        if progress.submitted and not progress.summary:
            signal.raise_signal(signal.SIGINT)

    run = FRAME.claude.submit("{text}", client=slow_server.client, progress=interrupt)

    with pytest.raises(KeyboardInterrupt, match=r"^$"):  # asyncio's own, without words
        asyncio.run(answers_of(run))

    assert_finished_later(run.id, slow_server)


def assert_finished_later(run_id: str, server: Server) -> None:
    """Check that nothing was canceled, and that the ledger alone is enough to get the answers."""
    session.crew.stop()
    state = cbp.run(run_id, client=server.client).status
    server.end_batches()
    out = cbp.run(run_id, client=server.client).result(FRAME)

    assert state == "in_progress"
    assert answers(out) == FRAME["text"].tolist()
    assert (server.batches, server.cancels) == (1, 0)


def test_a_blocking_call_works_in_a_thread_of_trio(server: Server) -> None:
    """Several at once, as anyio runs blocking functions under any loop."""
    outs: dict[int, pd.DataFrame] = {}

    async def call(i: int) -> None:
        outs[i] = await anyio.to_thread.run_sync(
            lambda: FRAME.claude.batch(f"{i} {{text}}", client=server.client)
        )

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for i in range(4):
                tasks.start_soon(call, i)

    anyio.run(main, backend="trio")

    for i in range(4):
        assert answers(outs[i]) == [f"{i} {text}" for text in FRAME["text"]]
    assert server.batches == 4


def test_awaiting_in_trio_says_what_to_do(server: Server) -> None:
    """Its loop cannot wait for us; the run goes on, and a thread can wait for it."""
    run = FRAME.claude.submit("{text}", client=server.client)

    async def main() -> pd.DataFrame:
        with pytest.raises(cbp.BatchError, match=r"needs asyncio.*run_sync\(run\.result\)"):
            await run
        return await anyio.to_thread.run_sync(run.result)

    assert answers(anyio.run(main, backend="trio")) == FRAME["text"].tolist()


def test_a_run_patches_nothing(server: Server) -> None:
    """What libraries that nest loops replace is what it was."""

    def replaceable() -> list[Any]:
        loop = asyncio.SelectorEventLoop
        names = ("run_forever", "run_until_complete", "_run_once")
        functions = [asyncio.run, asyncio.get_event_loop, asyncio.Task, asyncio.Future]
        return [*functions, *(getattr(loop, name) for name in names)]

    before = replaceable()
    asyncio.run(use_every_door(server))

    assert replaceable() == before


PATCH = """
import importlib, sys
library, moment = sys.argv[1:]
apply = importlib.import_module(library).apply
if moment == "before":
    apply()
from tests import test_loops
test_loops.use_a_patched_loop(apply, library)
"""


@pytest.mark.parametrize(
    ("library", "moment"),
    list(itertools.product(["nest_asyncio", "nest_asyncio2"], ["before", "after"])),
)
def test_loops_that_somebody_patched(library: str, moment: str) -> None:
    """Before our import, or long after it, while a loop runs and a run is at work.

    Patches are for a whole process, so each is one of its own.
    """
    done = subprocess.run(
        [sys.executable, "-c", PATCH, library, moment],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")


def use_a_patched_loop(apply: Callable[[], None], library: str) -> None:
    """Do everything again under a patched loop; called in a process of its own."""
    cbp.options.poll_seconds = (0.01, 0.05)
    cbp.options.progress = "none"

    async def main(server: Server) -> None:
        run = FRAME.claude.submit("{text}", client=server.client)
        apply()  # as in a cell; doing it twice changes nothing
        assert asyncio.run.__module__ == library
        assert answers(await run) == FRAME["text"].tolist()
        await use_every_door(server)
        asyncio.run(use_every_door(server, "nested "))
        run = FRAME.claude.submit("nested otherwise {text}", client=server.client)
        out = asyncio.get_running_loop().run_until_complete(answers_of(run))
        assert out["answer_status"].tolist() == ["succeeded"] * 2

    with served(0.0) as server:
        asyncio.run(main(server))
        assert server.batches == 1 + 6 + 6 + 1
