"""What others wrote, shown: no markup runs, no escape sequence reaches a terminal, no line is forged."""

from __future__ import annotations

import json
import logging
import unicodedata
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import httpx2
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import claude_batch_pandas as cbp
from claude_batch_pandas import cli
from claude_batch_pandas.cards import Card
from claude_batch_pandas.emulator import Emulator, Fault, Rule
from claude_batch_pandas.exceptions import APIError, PausedError
from claude_batch_pandas.progress import describe
from claude_batch_pandas.records import Counts, Progress, RunState
from claude_batch_pandas.results import read
from claude_batch_pandas.widgets import LiveCard, bundle_of
from claude_batch_pandas.words import JOINERS, plain, visible
from tests.conftest import JumpingClock
from tests.test_client import client_of, error_of

Connect = Callable[..., Any]

HTML = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "'\"><iframe srcdoc='<script>alert(1)</script>'>",
    "</div></td></table><style>*{display:none}</style>",
    "<a href='javascript:alert(1)'>x</a>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "$\\href{javascript:alert(1)}{x}$ and $",
    "<!-- ",
    "<![CDATA[",
    "<math><mi xlink:href='data:x,<script>1</script>'>",
]
TERMINAL = [
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\",
    "\x1b]52;c;ZXZpbA==\x07",
    "\x1b[2J\x1b[H",
    "\x9b31mred",
    "\x9d0;title\x9c",
    "\x90q\x9c",
    "back\b\b\bspace",
    "bell\x07",
    "over\rwritten",
    "null\x00",
    "abc\u202edcb\u202c",
    "\u2066isolate\u2069",
    "zero\u200bwidth\ufeff",
    "tag\U000e0041",
    "\x1b",
    "\x1bc",
    "a\nINFO: forged line",
    "a\x85b\u2028c\u2029d\x0be\x0c",
]  # fmt: skip
MARKUP = ["[red]x[/red]", "[/nope]", "[link=http://evil.example]x[/link]", "[[bold", ":skull:"]
CORPUS = [*HTML, *TERMINAL, *MARKUP]


def is_harmless(text: str) -> bool:
    """Tell whether text holds nothing that a terminal acts on, beyond lines."""
    return all(
        c == "\n" or c in JOINERS or unicodedata.category(c) not in {"Cc", "Cf", "Cs"} for c in text
    )


class Tags(HTMLParser):
    """Collects what a browser would take for elements, and their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember the tag and its attributes."""
        self.found |= {tag, *(f"{tag}.{name}" for name, _ in attrs)}

    def handle_comment(self, data: str) -> None:  # noqa: ARG002 - as it is called
        """Remember that there was one."""
        self.found.add("!--")


OURS = {"div", "div.class", "style", "style.scoped", "table", "table.border", "table.class"}
OURS |= {"thead", "tbody", "tr", "tr.style", "th", "td", "p"}
BAR = ("aria-valuemin", "aria-valuemax", "aria-valuenow", "aria-valuetext")
CARD = {
    "strong",
    "div",
    *(f"div.{name}" for name in ("class", "role", "style", "aria-label", *BAR)),
}


@pytest.mark.parametrize("words", CORPUS)
def test_words_become_plain(words: str) -> None:
    """What is left is one line of text, and doing it again changes nothing."""
    shown = plain(f"before {words} after")

    assert is_harmless(shown)
    assert "\n" not in shown
    assert shown.startswith("before ")
    assert plain(shown) == shown
    assert is_harmless(visible(words))


@given(st.text())
def test_any_words_become_plain(words: str) -> None:
    """Of whatever characters; printable ones and joiners stay."""
    assert is_harmless(plain(words))
    assert "\n" not in plain(words)
    assert is_harmless(visible(words))
    kept = "".join(c for c in words if c.isprintable())
    assert plain(kept) == kept


def test_scripts_and_emoji_stay_whole() -> None:
    """They are spelled with joiners, marks and right-to-left letters."""
    for words in ("👩‍👩‍👧", "می‌خواهم", "नमस्ते", "שלום", "é", "ﬁ", "價格"):
        assert plain(words) == words
        assert visible(words) == words


@pytest.mark.parametrize("words", CORPUS)
def test_an_error_of_the_api_is_plain(words: str) -> None:
    """Its message, its type and its request id."""
    value = error_of(f"kind {words}", f"told {words}", details={"error_code": f"code {words}"})
    client, _ = client_of(lambda _: httpx2.Response(400, json=value))
    with pytest.raises(APIError, match="The API answered 400 kind") as caught:
        client.list()

    error = caught.value
    assert is_harmless(str(error))
    assert "\n" not in str(error)
    assert is_harmless(f"{error.type}{error.code}{error.request_id}")


@pytest.mark.parametrize("words", CORPUS)
def test_a_failed_row_is_plain(words: str) -> None:
    """Whatever an errored, refused or unknown result says about itself; an answer stays as it is."""
    error = {"type": "errored", "error": {"error": {"type": f"t {words}", "message": words}}}
    message = {
        "content": [{"type": "text", "text": words}],
        "stop_reason": "refusal",
        "stop_details": {"category": words, "explanation": words},
        "model": words,
        "id": words,
    }
    odd = {"type": words}
    lines = [
        json.dumps({"custom_id": "a", "result": result}).encode()
        for result in (error, {"type": "succeeded", "message": message}, odd)
    ]
    results = [result for block in read(lines) for _, result in block]

    assert [result.status for result in results] == ["errored", "refused", "errored"]
    for result in results:
        told = (
            result.error,
            result.error_type,
            result.stop_reason,
            result.model,
            result.request_id,
        )
        assert all(is_harmless(word) and "\n" not in word for word in told if word is not None)
    assert results[1].text == words


@pytest.mark.parametrize("words", HTML)
def test_a_notebook_shows_text(words: str) -> None:
    """The closing line is escaped; while it runs, the label is a widget of text; neither is math."""
    progress = Progress(
        run_id="r", name=words, state=RunState.PAUSED, rows=1, requests=1, shards=1, submitted=0,
        ended=0, collected=0, downloaded=0, counts=Counts(), elapsed=1.0,
        expires_in=None, note=words,
    )  # fmt: skip
    card = Card(progress, words, {words: 1}, words, is_waited_for=True)
    bundle = bundle_of(card)
    live = LiveCard(lambda _: card)
    live._make(card)

    assert Tags(bundle._repr_html_()).found <= CARD
    assert words in repr(bundle)
    assert "mathjax_ignore" in card.html()
    assert live._html.value == card.html()
    assert "mathjax_ignore" in live._box._dom_classes
    live._settle(card)


@pytest.mark.parametrize("words", [*HTML, *TERMINAL])
def test_a_run_of_hostile_cells_shows_text(
    words: str,
    clock: JumpingClock,
    connect: Connect,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Values, column names, index names and the API's errors, wherever a run is shown."""
    caplog.set_level(logging.DEBUG, "claude_batch_pandas")
    rule = Rule(outcome="errored", error_type="api_error", message=words, contains="fail")
    emulator = Emulator(clock=clock.now, duration=0.0, rules=[rule])
    index = pd.Index([words, "b"], name=f"index {words}")
    df = pd.DataFrame({f"column {words}": [words, "fail"], "text": [words, "fail"]}, index=index)
    run = df.claude.submit("{text} x", client=connect(emulator), progress="log")
    out = run.result(df)
    shown = df.claude.preview("{text} x", client=connect(emulator))
    printed = capsys.readouterr()

    assert out["answer_status"].tolist() == ["succeeded", "errored"]
    for text in (str(run.report()), repr(run), repr(shown), printed.out, printed.err, caplog.text):
        assert is_harmless(text)
    for frame in (out, run.details(), cbp.runs()):
        assert Tags(frame.to_html(notebook=True)).found <= OURS
    html = shown._repr_html_()
    assert Tags(html).found <= {"div", "div.class", "p", "pre", "pre.style", "ul", "li"}
    assert is_harmless(html)
    table = {"table", "tbody", "tr", "th.scope", "th.style", "td.style", "th", "td"}
    for html, more in ((run._repr_html_(), CARD), (run.report()._repr_html_(), table)):
        assert Tags(html).found <= {"div", "div.class", "p", "ul", "li"} | more
        assert is_harmless(html)
    assert not hasattr(run.progress, "_repr_html_")


def test_a_paused_run_says_why_in_plain_words(clock: JumpingClock, connect: Connect) -> None:
    """The reason is kept in the ledger, and shown by everything that shows the run."""
    words = "\x1b[31mpay\x1b[0m <b>now</b>\r\nat \u202eelpmaxe.live"
    body = json.dumps(error_of("billing_error", words)).encode()
    fault = Fault(method="POST", path=".*", status=402, body=body, times=None)
    emulator = Emulator(clock=clock.now, faults=[fault])
    df = pd.DataFrame({"text": ["a"]})
    run = df.claude.submit("{text}", client=connect(emulator))
    with pytest.raises(PausedError, match=r"pay <b>now</b> at elpmaxe\.live") as caught:
        run.wait()

    assert is_harmless(str(caught.value) + repr(run) + describe(run.progress))
    assert "\n" not in repr(run)


@pytest.mark.parametrize("words", [*MARKUP, *[w for w in HTML if w.isprintable()]])
def test_the_list_of_runs_is_no_markup(
    words: str, client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """`claude-batch runs` shows a name as it is, whatever rich would make of it."""
    df = pd.DataFrame({"text": ["a"]})
    df.claude.batch("{text}", client=client, output=words)
    assert cli.main(["runs"]) == 0
    printed = capsys.readouterr()

    assert words[:9] in printed.out
    assert is_harmless(printed.out)
    assert Tags(cbp.runs().to_html(notebook=True)).found <= OURS


@pytest.mark.parametrize("words", [w for w in TERMINAL if not w.isprintable()])
def test_a_name_that_cannot_be_printed_is_refused(words: str, client: Any) -> None:
    """The output names columns and the run, so it is text that can be shown."""
    df = pd.DataFrame({"text": ["a"]})
    with pytest.raises(cbp.InputError, match="characters that cannot be printed") as caught:
        df.claude.batch("{text}", client=client, output=f"x{words}")
    with pytest.raises(cbp.InputError, match="cannot name a run") as named:
        df.claude.batch("{text}", client=client, name=f"x{words}")

    assert is_harmless(str(caught.value) + str(named.value))


@pytest.mark.parametrize("words", TERMINAL)
def test_the_command_line_refuses_in_one_plain_line(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever an error quotes."""
    cli._refuse(f"It says: {words}")
    cli.main(["nonsense" + words.replace("\x00", "")])

    assert is_harmless(capsys.readouterr().err)
