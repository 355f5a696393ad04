"""Cells of a real kernel, sent as a front end sends them: all at once, and interrupted.

One cell at a time, as nbclient sends them, would hide a loop that loses the cells behind it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel

from claude_batch_pandas.emulator import Emulator, serve
from claude_batch_pandas.loops import FIRST_KERNEL
from tests.conftest import JumpingClock

SECONDS = 30  # for a reply that comes at once, on a machine with other things to do

CELLS = [
    """
import anthropic
import pandas as pd
import claude_batch_pandas as cbp
cbp.options.poll_seconds = (0.05, 0.1)
server = cbp.emulator.Emulator(duration=0.3)
serving = cbp.emulator.serve(emulator=server)
client = anthropic.Anthropic(base_url=serving.__enter__(), api_key="none")
df = pd.DataFrame({"text": ["Where is my card?", "I lost my card!"]})
df.shape
""",
    "df.claude.batch('1 {text}', client=client)['answer'].tolist()",
    "(await df.claude.submit('2 {text}', client=client))['answer'].tolist()",
    "run = df.claude.submit('3 {text}', client=client, output='third')",
    "run.result(df)['third'].tolist()",
    "print(len(server.batches), 'batches')",
]
SHOWN = [
    "(2, 1)",
    "['[simulated] 1 Where is my card?', '[simulated] 1 I lost my card!']",
    "['[simulated] 2 Where is my card?', '[simulated] 2 I lost my card!']",
    "",
    "['[simulated] 3 Where is my card?', '[simulated] 3 I lost my card!']",
    "3 batches\n",
]


class Kernel:
    """A kernel and the only front end it has."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self._manager, self._client = manager, client
        self._sent: set[str] = set()

    def queue(self, *cells: str) -> list[str]:
        """Send cells without waiting for any; return the ids of the messages."""
        sent = [self._client.execute(cell) for cell in cells]
        self._sent.update(sent)
        return sent

    def reply(self) -> tuple[str, dict[str, Any]]:
        """Return the next reply to a cell: which cell, and what the kernel says of it."""
        while True:
            message = self._client.get_shell_msg(timeout=SECONDS)
            # A kernel that was slow to start may still answer who it is, several times.
            if message["parent_header"]["msg_id"] in self._sent:
                return message["parent_header"]["msg_id"], message["content"]

    def outputs(self, cells: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (cell, content) of everything shown until the last of the cells is done."""
        while True:
            message = self._client.get_iopub_msg(timeout=SECONDS)
            cell, content = message["parent_header"].get("msg_id"), message["content"]
            if cell in cells:
                yield cell, content
            if cell == cells[-1] and content.get("execution_state") == "idle":
                return

    def text(self, cells: list[str]) -> list[str]:
        """Return what each cell printed or ended with, as text."""
        return [text for text, _ in self.shown(cells)]

    def shown(self, cells: list[str]) -> list[tuple[str, str]]:
        """Return what each cell printed or ended with, and what it warned of."""
        shown, warned = dict.fromkeys(cells, ""), dict.fromkeys(cells, "")
        for cell, content in self.outputs(cells):
            is_printed = content.get("name") == "stdout"
            is_value = "execution_count" in content and "data" in content
            shown[cell] += content["text"] if is_printed else ""
            shown[cell] += content["data"]["text/plain"] if is_value else ""
            warned[cell] += content["text"] if content.get("name") == "stderr" else ""
        return list(zip(shown.values(), warned.values(), strict=True))

    def interrupt_when(self, cell: str, words: str) -> float:
        """Interrupt a cell once it shows these words; return the seconds until it is done."""
        started = 0.0
        for _, content in self.outputs([cell]):
            if words in str(content) and not started:
                started = time.monotonic()
                self._manager.interrupt_kernel()
        assert started, f"the cell ended without showing {words!r}"
        return time.monotonic() - started


@pytest.fixture
def start(jupyter: Any) -> Iterator[Callable[[], Kernel]]:
    """Return a function that starts a kernel, in the environment as it is then."""
    running: list[tuple[KernelManager, BlockingKernelClient]] = []

    def start_kernel() -> Kernel:
        running.append(start_new_kernel(kernel_name="python3", cwd=str(jupyter)))
        return Kernel(*running[-1])

    yield start_kernel
    for manager, client in running:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.mark.parametrize("patch", ["", "import nest_asyncio; nest_asyncio.apply()"],
                         ids=["as it is", "patched by the user"])  # fmt: skip
def test_cells_queued_at_once_all_run(patch: str, start: Callable[[], Kernel]) -> None:
    """Run All: every cell replies, in order, with its own output."""
    kernel = start()
    # Alone: nest-asyncio breaks the loop of another thread that is just receiving cells.
    kernel.queue(patch)
    kernel.reply()
    cells = kernel.queue(*CELLS)
    replies = [kernel.reply() for _ in cells]

    assert [cell for cell, _ in replies] == cells
    assert [content["status"] for _, content in replies] == ["ok"] * 6, replies
    found = kernel.shown(cells)
    assert [text for text, _ in found] == SHOWN
    told = "".join(warned for _, warned in found)
    is_new = int(version("ipykernel").partition(".")[0]) >= FIRST_KERNEL
    assert told.count("it makes Run All drop cells") == (bool(patch) and is_new)


def test_an_interrupted_cell_detaches(
    start: Callable[[], Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocking or awaiting, it ends within a second or so; the next cell sends nothing again."""
    clock = JumpingClock()
    emulator = Emulator(clock=clock.now, duration=60.0)
    with serve(emulator=emulator) as url:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
        kernel = start()
        kernel.queue(CELLS[0])
        ready = kernel.reply()[1]["status"]
        (blocking,) = kernel.queue("df.claude.batch('{text}')")
        seconds = kernel.interrupt_when(blocking, "in progress at the API")
        interrupted = kernel.reply()[1]
        (awaiting,) = kernel.queue("await df.claude.submit('{text}')")
        seconds_more = kernel.interrupt_when(awaiting, "in progress at the API")
        canceled = kernel.reply()[1]
        clock.advance(60.0)
        last = kernel.queue("df.claude.batch('{text}')['answer_status'].tolist()")
        status = kernel.reply()[1]["status"]
        shown = kernel.text(last)

    assert ready == status == "ok"
    assert interrupted["ename"] == "KeyboardInterrupt"
    assert canceled["ename"] == "CancelledError"  # how a kernel interrupts what awaits
    assert interrupted["evalue"].startswith("Detached from run ")
    assert canceled["evalue"] == interrupted["evalue"]
    assert max(seconds, seconds_more) < 5, "0.4 s where nothing else happens"
    assert shown == ["['succeeded', 'succeeded']"]
    assert len(emulator.batches) == 1
    assert not any(call.path.endswith("/cancel") for call in emulator.calls)
