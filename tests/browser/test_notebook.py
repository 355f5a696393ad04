"""A notebook in JupyterLab: its cards move, are clicked and survive; nothing in them runs."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from claude_batch_pandas.emulator import Emulator
from claude_batch_pandas.emulator.batches import SimulatedBatch
from tests.browser.conftest import EVIL
from tests.browser.rig import PICTURES, SECONDS, Notebook

pytestmark = pytest.mark.browser

CARD = ".cbp-run"
OVER = "40 succeeded; "
SUBMIT = 'run = df.claude.submit("{text}", output="intent", shard_size=4)\nrun'
BATCH = 'out = df.claude.batch("{text}", output="intent", shard_size=4)\nlen(out)'
LATER = SUBMIT.replace("{text}", "{text} later")
LONG = SUBMIT.replace("{text}", "long {text}")
AWAIT = LONG.removesuffix("run") + "out = await run\nlen(out)"
SECONDS_TO_DETACH = 1.0

Open = Callable[..., Notebook]


def card(notebook: Notebook) -> Any:
    """Return the first card on the page."""
    return notebook.page.locator(CARD).first


def wait_for(notebook: Notebook, words: str) -> None:
    """Wait until a card says something."""
    found = notebook.page.locator(CARD).get_by_text(re.compile(words)).first
    found.wait_for(timeout=SECONDS * 1000)


def click(notebook: Notebook, name: str) -> None:
    """Click a button of a card."""
    notebook.page.get_by_role("button", name=name, exact=True).click()


def cancel(notebook: Notebook) -> None:
    """Click twice, as somebody who reads what the button says after the first click."""
    notebook.page.get_by_role("button", name="Cancel", exact=True).first.click()
    again = notebook.page.get_by_role("button", name="Cancel? Click again")
    again.wait_for()
    notebook.page.wait_for_timeout(700)  # a double click is one
    again.click()


def shares(notebook: Notebook, count: int) -> list[float]:
    """Return where the bar stood, until that many places were seen."""
    seen: list[float] = []
    deadline = time.monotonic() + SECONDS
    while len(seen) < count and time.monotonic() < deadline:
        bar = card(notebook).locator("[role=progressbar]")
        share = float(bar.get_attribute("aria-valuenow"))
        if share not in seen:
            seen.append(share)
        notebook.page.wait_for_timeout(50)
    return seen


def is_canceled(batch: SimulatedBatch) -> bool:
    """Tell whether the API was asked to cancel a batch."""
    return batch.describe(time.time(), "")["cancel_initiated_at"] is not None


def test_the_card_moves_while_another_cell_runs(open_notebook: Open) -> None:
    """It says what a person needs, and can show what is here; in the end its buttons are gone."""
    busy = "import time\nfor _ in range(60): time.sleep(0.1)\nprint('busy is over')"
    notebook = open_notebook(LATER, busy)
    notebook.run(0)
    notebook.run(1)
    notebook.start(2)
    seen = shares(notebook, 4)
    text = notebook.text(1)
    notebook.page.screenshot(path=PICTURES / "a_live_card.png")
    assert "busy is over" not in notebook.text(2)
    assert len(seen) >= 4
    assert seen == sorted(seen)
    for words in ("intent", "claude-haiku-5-5", " of 10 shards ended", "so far", "expires in 23 h",
                  "Detach", "Cancel", "Fetch partial", "run 2026"):  # fmt: skip
        assert words in text
    wait_for(notebook, OVER)
    assert "Detach" not in notebook.text(1)


def test_a_cancel_on_an_idle_kernel_asks_once_more(open_notebook: Open, emulator: Emulator) -> None:
    notebook = open_notebook(LONG)
    notebook.run(0)
    notebook.run(1)
    wait_for(notebook, "in progress at the API")
    cancel(notebook)
    wait_for(notebook, "40 canceled; ")
    assert all(is_canceled(batch) for batch in emulator.batches[-10:])


def test_a_cancel_during_an_await(open_notebook: Open) -> None:
    """The cell that awaits has the card, and ends with what came of it; the API is asked seldom."""
    notebook = open_notebook("cbp.options.poll_seconds = (5.0, 60.0)\n" + AWAIT)
    notebook.run(0)
    notebook.start(1)
    wait_for(notebook, "in progress at the API")
    cancel(notebook)
    wait_for(notebook, "40 canceled; ")
    notebook.wait_done(1)


def test_a_detach_leaves_the_batches_alone(open_notebook: Open, emulator: Emulator) -> None:
    notebook = open_notebook(LONG)
    notebook.run(0)
    notebook.run(1)
    wait_for(notebook, "in progress at the API")
    click(notebook, "Detach")
    wait_for(notebook, "detached")
    assert not any(is_canceled(batch) for batch in emulator.batches[-10:])


def test_what_is_here_can_be_looked_at(open_notebook: Open) -> None:
    """Some answers are shown before the last shard has ended."""
    notebook = open_notebook(LATER)
    notebook.run(0)
    notebook.run(1)
    wait_for(notebook, r"\d+ succeeded")
    click(notebook, "Fetch partial")
    notebook.page.get_by_text("gives what is here so far").first.wait_for(timeout=SECONDS * 1000)


def test_an_interrupt_detaches_in_under_a_second(open_notebook: Open) -> None:
    """The card says how to come back, and so does the message below it."""
    notebook = open_notebook(BATCH)
    notebook.run(0)
    notebook.start(1)
    wait_for(notebook, "the stop button")
    began = time.monotonic()
    notebook.command("notebook:interrupt-kernel")
    wait_for(notebook, "detached from run .* come back: run the same cell again")
    took = time.monotonic() - began
    notebook.wait_done(1)
    assert "nothing is canceled" in notebook.text(1)
    assert took < SECONDS_TO_DETACH


def test_run_all_loses_no_cell(open_notebook: Open) -> None:
    cells = [BATCH, "'second'", BATCH.replace("intent", "third"), "'fourth'", "'last'"]
    notebook = open_notebook(*cells)
    notebook.command("notebook:run-all-cells")
    for index in range(len(cells) + 1):
        notebook.wait_done(index)
    for index, words in enumerate(("40", "'second'", "40", "'fourth'", "'last'"), start=1):
        assert notebook.text(index).splitlines()[-1] == words


def test_after_a_restart_the_cell_goes_on(open_notebook: Open, emulator: Emulator) -> None:
    notebook = open_notebook(BATCH)
    notebook.run(0)
    notebook.start(1)
    wait_for(notebook, "in progress at the API")
    notebook.restart()
    sent = len(emulator.batches)
    notebook.run(0)
    notebook.run(1)
    assert len(emulator.batches) == sent
    wait_for(notebook, OVER)


def test_a_closed_tab_finds_its_card_again(open_notebook: Open) -> None:
    """The card comes back with the tab where the file has it; ``show`` draws it anew anywhere."""
    notebook = open_notebook(LONG, "run.show()")
    notebook.run(0)
    notebook.run(1)
    wait_for(notebook, "in progress at the API")
    notebook.save()
    notebook.page.close()
    notebook.reopen()
    wait_for(notebook, "in progress at the API")
    notebook.run(2)
    assert notebook.page.locator(CARD).count() == 2
    cancel(notebook)
    for shown in notebook.page.locator(CARD).all():
        shown.get_by_text("40 canceled; ").wait_for(timeout=SECONDS * 1000)


def test_a_run_that_ended_while_the_tab_was_closed(open_notebook: Open) -> None:
    notebook = open_notebook(SUBMIT, "run.show()", "run.wait().status")
    notebook.run(0)
    notebook.run(1)
    notebook.save()
    notebook.page.close()
    notebook.reopen()
    notebook.run(3)
    notebook.run(2)
    assert OVER in notebook.text(2)


def test_a_saved_notebook_shows_the_last_card(open_notebook: Open) -> None:
    """After a restart and a reload there is no widget to be found, and none is missed."""
    notebook = open_notebook(BATCH)
    notebook.run(0)
    notebook.run(1)
    wait_for(notebook, OVER)
    notebook.save()
    notebook.restart()
    notebook.load()
    wait_for(notebook, OVER)
    assert "Error displaying widget" not in notebook.page.inner_text("body")
    assert "widget-view" not in notebook.path.read_text("utf-8")


def test_three_runs_at_once_have_their_cards(open_notebook: Open) -> None:
    names = ("one", "two", "three")
    notebook = open_notebook(*(SUBMIT.replace("intent", name) for name in names))
    for index in range(4):
        notebook.run(index)
    for name in names:
        own = notebook.page.locator(CARD).filter(has_text=name).first
        own.get_by_text(re.compile(OVER)).first.wait_for(timeout=SECONDS * 1000)
    assert notebook.page.locator(CARD).count() == 3


def test_rows_are_paged_and_filtered(open_notebook: Open) -> None:
    notebook = open_notebook(BATCH, "cbp.run(cbp.runs().id[0]).inspect()")
    for index in range(3):
        notebook.run(index)
    shown = notebook.output(2)
    shown.get_by_text("1 of 40").wait_for()
    click(notebook, "Next")
    shown.get_by_text("2 of 40").wait_for()
    shown.get_by_role("combobox").select_option("succeeded")
    shown.get_by_text("1 of 40").wait_for()
    shown.get_by_placeholder("search answers").fill("nothing says this")
    shown.get_by_placeholder("search answers").press("Enter")
    shown.get_by_text("No row is like that.").wait_for()


def test_a_cell_can_be_a_template(open_notebook: Open) -> None:
    """The card stands in the magic's cell, too."""
    cell = "%%claude_batch df -o intent --to out\nWhich intent? {text}"
    notebook = open_notebook("%load_ext claude_batch_pandas", cell, "list(out.columns)[:2]")
    for index in range(4):
        notebook.run(index)
    wait_for(notebook, OVER)
    assert "['text', 'intent']" in notebook.text(3)


def test_what_a_model_wrote_is_text(open_notebook: Open) -> None:
    """It is read, not run; wherever it is shown."""
    ask = 'run = pd.DataFrame({"text": ["evil"]}).claude.submit("{text}").wait()'
    shows = ["run.inspect()", "run.show()", "run.report()", "run.result()", "run.plot()"]
    notebook = open_notebook(ask, *shows)
    for index in range(len(shows) + 2):
        notebook.run(index)
    notebook.output(2).get_by_text(EVIL).first.wait_for()
    assert notebook.page.title() != "pwned"
    assert notebook.page.locator(".jp-OutputArea img[src=x]").count() == 0
