"""What a seed makes: the server, the calls, the people and their luck. Nothing happens here."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import pandas as pd

from tests.simulator.turns import Fate
from tests.simulator.world import Settings

DAY = 86_400.0
CAPS = (8e-6, 14e-6, 30e-6, 90e-6)  # US dollars a row, of which an answer here costs 13e-6
CALM = 4  # tries after which nothing goes wrong any more
# How many boundaries of a kind are worth choosing from; the first ones are chosen most.
REACH = {"disk": 200, "commit": 25, "create": 10, "call": 40, "wait": 20, "idle": 6}


@dataclass(eq=False)
class Cell:
    """One call over one frame."""

    name: str
    texts: list[str | None]
    shard_size: int
    reuse: bool = True
    on_unknown: str | None = None
    max_cost: float | None = None  # US dollars; then answers are short ones
    is_raised: bool = False  # that, since somebody was told that it is too little

    @property
    def frame(self) -> pd.DataFrame:
        """Return the frame, now and then with a duplicate index."""
        index = [i // 2 for i in range(len(self.texts))] if len(self.texts) % 4 == 3 else None
        return pd.DataFrame({"text": self.texts}, index=index)


@dataclass(eq=False)
class Person:
    """Somebody with a kernel, who does one thing after another until all have worked."""

    name: str
    things: list[tuple[str, Cell]]
    done: int = 0
    tries: int = 0
    lives: int = 0

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.done == len(self.things)

    @property
    def trouble(self) -> float:
        """How much goes wrong still, from 1 down to 0."""
        return max(0.0, 1.0 - self.tries / CALM)


@dataclass(frozen=True)
class Options:
    """What the people have set, and what their machine is like."""

    settle_seconds: float
    poll_seconds: tuple[float, float]
    on_unknown: str
    max_in_flight: int
    fault_rate: float
    has_power_cuts: bool
    skew: float  # of the machine's wall clock


@dataclass
class Plan:
    """Everything about a schedule that is decided before it begins.

    Attributes
    ----------
    keeps_word : bool
        Whether a batch shows up in the list within `settle_seconds`, which the promise rests on.
        If not, batches may be paid twice; but no answer may be wrong, and no batch a stranger's.
    """

    keeps_word: bool
    options: Options
    settings: Settings
    cells: list[Cell]
    people: list[Person]
    looks_again: bool

    @property
    def texts(self) -> list[str]:
        """What is asked, each once."""
        return sorted({text for cell in self.cells for text in cell.texts if text is not None})


def make_plan(seed: int) -> Plan:
    """Return the plan that a seed makes."""
    dice = Random(f"{seed}/plan")
    keeps_word = dice.random() < 0.95
    settle = dice.choice([900.0, 900.0, 60.0])
    settings = _settings(dice, settle if keeps_word else 20 * settle)
    cells = _cells(seed, dice)
    _cap(cells, Random(f"{seed}/caps"))
    people = _people(dice, cells)
    # Where nothing can change it any more, what was seen last is judged, and most often only that.
    is_simple = len(cells) == len(people) == 1
    looks_again = not is_simple or dice.random() < 0.15
    options = _options(dice, settle, settings.duration)
    return Plan(keeps_word, options, settings, cells, people, looks_again)


def make_fate(dice: Random, trouble: float, *, has_power_cuts: bool) -> Fate:
    """Return what strikes a kernel, the less the less trouble is left."""
    fate = Fate()
    if dice.random() < 0.75 * trouble:
        kinds = ["disk", "commit", "commit", "create", "create", "call", "wait"]
        fate.doom = _somewhere(dice, kinds)
        fate.is_power = has_power_cuts and dice.random() < 0.6
    if dice.random() < 0.3 * trouble:
        fate.interrupt = _somewhere(dice, ["disk", "commit", "call", "idle", "idle"])
    if dice.random() < 0.15 * trouble:
        fate.nap = _somewhere(dice, ["create", "create", "call", "wait"])
        fate.nap_seconds = dice.choice([300.0, 3000.0, DAY])
    if dice.random() < 0.15 * trouble:
        fate.full = _somewhere(dice, ["disk", "commit"])
    return fate


def make_pause(dice: Random) -> float:
    """Return how long somebody takes to start a kernel."""
    return dice.choice([0.0, 1.0, 60.0, 700.0, 5000.0, DAY])


def _somewhere(dice: Random, kinds: list[str]) -> tuple[str, int]:
    kind = dice.choice(kinds)
    return kind, max(1, int(REACH[kind] ** dice.random()))


def _settings(dice: Random, settle: float) -> Settings:
    late = settle * dice.choice([0.0, 0.5, 0.95])
    share = dice.random()
    return Settings(
        duration=dice.choice([30.0, 600.0, 5000.0, 30.0, 600.0, 2 * DAY]),
        delay=late * share,
        lag=late * (1 - share),
        bad_rows=dice.choice([0.0, 0.0, 0.2, 0.5]),
        decoys=dice.choice([0.0, 0.5, 0.9]),
        deletions=dice.choice([0.0, 0.3]),
        page=dice.choice([1, 2, 1000, 1000]),
    )


def _options(dice: Random, settle: float, duration: float) -> Options:
    longest = min(max(300.0, duration), DAY / 2)
    return Options(
        settle_seconds=settle,
        poll_seconds=(longest / dice.choice([1.0, 1.0, 4.0]), longest),
        on_unknown=dice.choice(["resend", "resend", "ask"]),
        max_in_flight=dice.choice([100_000, 100_000, 4]),
        fault_rate=dice.choice([0.0, 0.1, 0.2, 0.5]),
        has_power_cuts=dice.random() < 0.5,
        skew=dice.choice([0.0, 0.0, -7200.0, 7200.0, 400 * DAY]),
    )


def _cells(seed: int, dice: Random) -> list[Cell]:
    """Return one call, or two over frames that share rows."""
    rows = dice.randint(1, 8)
    texts: list[str | None] = [_text(seed, i) for i in range(rows)]
    if dice.random() < 0.5:
        texts.append(dice.choice(texts))
    if dice.random() < 0.3:
        texts.append(None)
    dice.shuffle(texts)
    size = -(-rows // dice.choice([1, 1, 1, 2, 3])) + dice.randint(0, 1)
    cells = [Cell("first", texts, size)]
    if dice.random() < 0.15:
        more = [_text(seed, i) for i in range(rows, rows + dice.randint(1, 3))]
        cells.append(Cell("second", [*texts[dice.randint(0, 1) :], *more], size))
    return cells


def _cap(cells: list[Cell], dice: Random) -> None:
    """Let some people say what it may cost, often too little."""
    if dice.random() < 0.3:
        for cell in cells:
            cell.max_cost = len(cell.texts) * dice.choice(CAPS)


def _text(seed: int, i: int) -> str:
    """Return what a row asks; half of an answer that repeats it still tells which."""
    return f"<{seed}-{i}> " + "." * 40


def _people(dice: Random, cells: list[Cell]) -> list[Person]:
    """Return one person or two, and what they do."""
    people = []
    for name in ["A", "B"][: dice.choice([1, 1, 1, 1, 2])]:
        things: list[tuple[str, Cell]] = []
        for cell in cells if dice.random() < 0.7 else cells[::-1]:
            if dice.random() < 0.15:
                things.append(("submit", cell))
            usual = "come back" if dice.random() < 0.2 else "ask"
            things.append(("cancel" if dice.random() < 0.12 else usual, cell))
            if dice.random() < 0.15:
                things.append(("retry", cell))
        people.append(Person(name, things))
    return people
